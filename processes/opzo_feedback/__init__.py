"""OPZOFeedback: direct feedback that learns its matrix from noise and output."""

from lava_snnlearn.processes import join_models

join_models(__path__)
