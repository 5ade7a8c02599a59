"""StagedReasoner: a graph reasoner that delays, adds up and then weighs."""

from lava_snnlearn.processes import join_models

join_models(__path__)
