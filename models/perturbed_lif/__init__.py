"""Models of PerturbedLIF."""
