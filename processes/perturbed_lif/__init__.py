"""PerturbedLIF: neuron with reset by subtraction, a post factor for its synapses, and noise."""

from lava_snnlearn.processes import join_models

join_models(__path__)
