"""SoftResetLIF: neuron with reset by subtraction."""

from lava_snnlearn.processes import join_models

join_models(__path__)
