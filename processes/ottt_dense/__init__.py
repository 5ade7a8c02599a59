"""OTTTDense: synapses that learn by the three-factor rule of OTTT."""

from lava_snnlearn.processes import join_models

join_models(__path__)
