"""Models of TernaryCouple."""
