"""Models of StagedReasoner."""
