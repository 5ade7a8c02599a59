"""Models of DelayConnection."""
