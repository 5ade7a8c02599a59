"""TernaryCouple: a ternary neuron made of two binary ones."""

from lava_snnlearn.processes import join_models

join_models(__path__)
