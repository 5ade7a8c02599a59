"""Models of SpideSynapse."""
