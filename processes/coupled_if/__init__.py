"""CoupledIF: one of the two binary neurons that make a ternary one."""

from lava_snnlearn.processes import join_models

join_models(__path__)
