"""FusedNetwork: a whole network in one process."""

from lava_snnlearn.processes import join_models

join_models(__path__)
