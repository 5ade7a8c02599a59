"""Network builders."""

from lava_snnlearn.networks.layers import Readout, SpikingLayer
from lava_snnlearn.networks.mlp import mlp
from lava_snnlearn.networks.network import Network, Simulation
from lava_snnlearn.networks.norms import NORMS

__all__ = ["NORMS", "Network", "Readout", "Simulation", "SpikingLayer", "mlp"]
