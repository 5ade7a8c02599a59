"""Recorder: spikes and membranes of a run as whole arrays."""

from lava_snnlearn.processes import join_models

join_models(__path__)
