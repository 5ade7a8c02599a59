"""Models of SoftResetLIF."""
