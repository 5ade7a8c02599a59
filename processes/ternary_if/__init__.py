"""TernaryIF: neuron with the two thresholds +vth and -vth, and spikes of both signs."""

from lava_snnlearn.processes import join_models

join_models(__path__)
