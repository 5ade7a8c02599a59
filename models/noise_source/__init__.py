"""Models of NoiseSource."""
