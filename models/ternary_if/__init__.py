"""Models of TernaryIF."""
