"""Models of OTTTDense."""
