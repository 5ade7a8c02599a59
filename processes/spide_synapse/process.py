"""SpideSynapse: one synaptic memory, read in both directions, that learns from the counts of both phases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.processes.parameters import PERIOD_MAX, ranged, single_var
from lava_snnlearn.processes.plastic import plastic_constants, plastic_memory
from lava_snnlearn.processes.recorder.process import SharedRecord

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase


class SpideSynapse(AbstractProcess):
    """Dense synapses ``W`` that carry forward spikes by ``W``, backward spikes by ``W^T``, and learn locally after each sample.

    A sample is ``reset_interval`` steps long; its steps have the phases 0, 1, ... In chip units, with ``view`` the weights that
    spikes see (even integers -256..254), everything one step late as in Lava's Dense::

        a_out[t+1] = (view s_in[t]) << exponent
        b_out[t+1] = (view^T b_in[t]) << back_exponent         (rounded right shift if back_exponent < 0)
        pre  += s_in[t],  post += b_in[t]

    In phase ``learn_phase``, after that step's input::

        memory <- memory - multiplier * post pre^T / 2**shift  (rounded and clipped as ``rule`` says),  sample <- sample + 1

    At phase 0, before anything is sent, ``pre``, ``post`` and what is under way are set to zero, and ``view`` is read anew from
    ``memory``: setting ``memory`` (and ``multiplier``, ``shift``) between two samples is enough.

    ``rule`` says what the memory is. "shadow": 16-bit integers, of which the view is the rounded upper byte (``view_of``);
    "stochastic" and "nearest": the view itself, its changes rounded at random (the mean is exact) or to nearest (small ones are
    lost; for comparison). ``multiplier / 2**shift`` counts shadow units, 128 to a weight unit, in all three.

    Ports: InPorts ``s_in`` [n_in] (spikes or payloads), ``b_in`` [n_out] (signed spikes or errors); OutPorts ``a_out`` [n_out],
    ``b_out`` [n_in]. int32 in the ``fixed_pt`` model, float in the ``floating_pt`` model. Signals are of -255..255.
    Vars: ``memory, view`` [n_out, n_in]; ``pre`` [n_in], ``post`` [n_out]; ``multiplier, shift, sample`` and the other
    parameters (1,).
    The ``fixed_pt`` model is :mod:`lava_snnlearn.fixed_point.plasticity` and refuses larger signals and sums beyond int32
    (LimitError). The ``floating_pt`` model computes the same without rounding: ``view = memory / 128``, or the memory itself.

    Source: SPIDE (arXiv 2302.00232), the gradient of a weight as the product of the forward rate before it and the backward
    rate behind it, both counted at the synapse; integers, memory and rounding are this library's.

    Parameters
    ----------
    memory: integers [n_out, n_in]; with rule "shadow" -32767..32767, else even ones -256..254.
    learn_phase: phase of the update, 0 or more. reset_interval: steps of a sample, more than learn_phase.
    rule: "shadow", "stochastic" or "nearest".
    exponent: 0..7. back_exponent: -40..31.
    multiplier, shift: learning rate, 0..32767 and 0..40; multiplier 0 learns nothing.
    mask: bool [n_out, n_in], False where there is no synapse: its view is 0 and its memory keeps its value. None: all are.
    seed: of the stochastic rounding, 0 or more; give each connection another one. sample: updates made before this run.
    records: keep memory and view after each of the first so many updates for :attr:`learned`. (Lava hands out a Var number by
        number; a matrix is read much faster so.)

    Raises
    ------
    ValueError: a value out of range, an odd 8-bit weight, an unknown rule, or arrays whose shapes do not fit.
    TypeError: a value that is no integer (mask: no bool).
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self,
        *,
        memory: ArrayLike,
        learn_phase: int,
        reset_interval: int,
        rule: str = "shadow",
        exponent: int = 0,
        back_exponent: int = 0,
        multiplier: int = 0,
        shift: int = 0,
        mask: ArrayLike | None = None,
        seed: int = 0,
        sample: int = 0,
        records: int = 0,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        weights = plastic_memory("SpideSynapse", memory, rule)
        exists = _mask(mask, weights.shape)
        constants = plastic_constants(
            "SpideSynapse",
            {
                "exponent": exponent,
                "back_exponent": back_exponent,
                "multiplier": multiplier,
                "shift": shift,
                "seed": seed,
                "sample": sample,
                "learn_phase": learn_phase,
                "reset_interval": reset_interval,
            },
        )
        kept = ranged("SpideSynapse", "records", records, 0, PERIOD_MAX, "It counts updates.")
        self._memories, self._views = SharedRecord(kept, weights.shape), SharedRecord(kept, weights.shape)
        super().__init__(rule=rule, mask=exists, memories=self._memories, views=self._views, name=name, log_config=log_config)
        n_out, n_in = weights.shape
        self.s_in, self.a_out = InPort(shape=(n_in,)), OutPort(shape=(n_out,))
        self.b_in, self.b_out = InPort(shape=(n_out,)), OutPort(shape=(n_in,))
        self.memory = Var(shape=weights.shape, init=weights)
        self.view = Var(shape=weights.shape, init=0)
        self.pre, self.post = Var(shape=(n_in,), init=0), Var(shape=(n_out,), init=0)
        self.a_buffer, self.b_buffer = Var(shape=(n_out,), init=0), Var(shape=(n_in,), init=0)
        for constant, value in constants.items():
            setattr(self, constant, single_var(value))

    @property
    def learned(self) -> tuple[NDArray, NDArray]:
        """``memory`` and ``view`` after each recorded update: [updates so far, n_out, n_in], int32 or float64; at any time."""
        return self._memories.read(), self._views.read()

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.spide_synapse import case

        return case()


def _mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    exists = np.ones(shape, dtype=bool) if mask is None else np.array(mask)
    if exists.dtype != np.bool_:
        raise TypeError(f"SpideSynapse: mask is of type {exists.dtype}. Give bools, True where there is a synapse.")
    if exists.shape != shape:
        raise ValueError(f"SpideSynapse: mask has shape {exists.shape}, and memory {shape}. Give one bool per synapse.")
    exists.setflags(write=False)
    return exists
