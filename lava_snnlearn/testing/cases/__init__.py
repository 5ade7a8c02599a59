"""Conformance cases of the library's own processes: random parameters and references."""
