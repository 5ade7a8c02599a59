"""Torch neuron dynamics and surrogate gradients."""

from lava_snnlearn.neurons.lif import IF, LIF, RESETS, NeuronState, run, step
from lava_snnlearn.neurons.surrogate import SURROGATES, Rectangle, Sigmoid, Surrogate, Triangle, surrogate

__all__ = [
    "IF",
    "LIF",
    "RESETS",
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
