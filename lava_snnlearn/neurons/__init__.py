"""Torch neuron dynamics and surrogate gradients."""

from lava_snnlearn.neurons.lif import IF, LIF, NeuronState, run, step
from lava_snnlearn.neurons.surrogate import SURROGATES, Rectangle, Sigmoid, Surrogate, Triangle, surrogate

__all__ = [
    "IF",
    "LIF",
    "SURROGATES",
    "NeuronState",
    "Rectangle",
    "Sigmoid",
    "Surrogate",
    "Triangle",
    "run",
    "step",
    "surrogate",
]
