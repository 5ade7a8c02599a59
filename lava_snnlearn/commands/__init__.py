"""The commands of the command line, one module a group, and what they share; :mod:`lava_snnlearn.cli` puts them together."""
