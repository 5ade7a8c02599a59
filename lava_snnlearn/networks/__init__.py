"""Network builders."""

from lava_snnlearn.networks.attentive import AttentiveNetwork
from lava_snnlearn.networks.convolutional import ALEXNET_F, CIFARNET_F, alexnet_f, cifarnet_f, conv_net, vgg
from lava_snnlearn.networks.delays import Delays, DelaySettings
from lava_snnlearn.networks.energy import EnergyNetwork, energy_net
from lava_snnlearn.networks.feedback import feedback_net
from lava_snnlearn.networks.graph_reasoner import GraphReasoner, GraphResponse, Traceback
from lava_snnlearn.networks.layers import Population, Readout, SpikingLayer
from lava_snnlearn.networks.mlp import mlp
from lava_snnlearn.networks.network import Network, Simulation
from lava_snnlearn.networks.norms import NORMS
from lava_snnlearn.networks.residual import NFBlock, PreActBlock, nf_resnet, preact_resnet
from lava_snnlearn.networks.synapse import DelayLinear, Synapse

__all__ = [
    "ALEXNET_F",
    "CIFARNET_F",
    "NORMS",
    "AttentiveNetwork",
    "DelayLinear",
    "DelaySettings",
    "Delays",
    "EnergyNetwork",
    "GraphReasoner",
    "GraphResponse",
    "NFBlock",
    "Network",
    "Population",
    "PreActBlock",
    "Readout",
    "Simulation",
    "SpikingLayer",
    "Synapse",
    "Traceback",
    "alexnet_f",
    "cifarnet_f",
    "conv_net",
    "energy_net",
    "feedback_net",
    "mlp",
    "nf_resnet",
    "preact_resnet",
    "vgg",
]
