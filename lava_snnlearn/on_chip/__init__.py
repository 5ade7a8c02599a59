"""Learning on the chip: training in the chip's own integers, simulated here bit by bit."""
