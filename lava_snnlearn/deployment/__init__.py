"""A folder for the Loihi cloud: network, samples, expected spikes, and scripts that run and compare them."""

from lava_snnlearn.deployment.bundle import SAMPLES_MAX, TARGETS, deploy

__all__ = ["SAMPLES_MAX", "TARGETS", "deploy"]
