"""Models of HLOPLateral."""
