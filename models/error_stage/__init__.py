"""Models of ErrorStage."""
