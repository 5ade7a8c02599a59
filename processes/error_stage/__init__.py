"""ErrorStage: the error of a readout, sent once a sample."""

from lava_snnlearn.processes import join_models

join_models(__path__)
