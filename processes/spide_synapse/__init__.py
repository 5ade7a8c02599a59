"""SpideSynapse: synapses that learn from the counts of a forward and a backward phase."""

from lava_snnlearn.processes import join_models

join_models(__path__)
