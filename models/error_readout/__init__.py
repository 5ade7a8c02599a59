"""Models of ErrorReadout."""
