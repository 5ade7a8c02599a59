"""HLOPLateral: a lateral circuit that takes old tasks' subspaces out of a trace."""

from lava_snnlearn.processes import join_models

join_models(__path__)
