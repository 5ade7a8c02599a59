"""Models of SampleSource."""
