"""Torch neuron dynamics and surrogate gradients."""

from lava_snnlearn.neurons.backends import BACKENDS, backend, set_backend
from lava_snnlearn.neurons.dsr import DSRIF, DSRLIF
from lava_snnlearn.neurons.feedback import FeedbackLIF
from lava_snnlearn.neurons.fused import Integration, integrate, leaky_sum
from lava_snnlearn.neurons.lif import IF, LIF, RESETS, NeuronState, run, step
from lava_snnlearn.neurons.rates import RateState, RateSums, rate_integrate
from lava_snnlearn.neurons.surrogate import SURROGATES, Rectangle, Sigmoid, Surrogate, Triangle, surrogate

__all__ = [
    "BACKENDS",
    "DSRIF",
    "DSRLIF",
    "IF",
    "LIF",
    "RESETS",
    "SURROGATES",
    "FeedbackLIF",
    "Integration",
    "NeuronState",
    "RateState",
    "RateSums",
    "Rectangle",
    "Sigmoid",
    "Surrogate",
    "Triangle",
    "backend",
    "integrate",
    "leaky_sum",
    "rate_integrate",
    "run",
    "set_backend",
    "step",
    "surrogate",
]
