"""NoiseSource: random signs that perturb a population."""

from lava_snnlearn.processes import join_models

join_models(__path__)
