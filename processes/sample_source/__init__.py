"""SampleSource: rows of an array, one each step."""

from lava_snnlearn.processes import join_models

join_models(__path__)
