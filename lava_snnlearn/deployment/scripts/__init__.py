"""Scripts that are copied into a bundle as they are, and run there without this library: they import none of it."""
