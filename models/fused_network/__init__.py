"""Models of FusedNetwork."""
