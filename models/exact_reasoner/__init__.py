"""Models of ExactReasoner."""
