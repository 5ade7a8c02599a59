"""DelayConnection: synapses with a delay each, given as edges or as a matrix."""

from lava_snnlearn.processes import join_models

join_models(__path__)
