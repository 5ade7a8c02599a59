"""Models of CoupledIF."""
