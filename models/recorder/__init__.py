"""Models of Recorder."""
