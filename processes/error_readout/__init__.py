"""ErrorReadout: the error of a leaky readout, sent in every step."""

from lava_snnlearn.processes import join_models

join_models(__path__)
