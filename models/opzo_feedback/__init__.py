"""Models of OPZOFeedback."""
