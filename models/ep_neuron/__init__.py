"""Models of EPNeuron."""
