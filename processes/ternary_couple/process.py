"""TernaryCouple: ternary neurons made of two binary ones each, as they are placed on a chip."""

from __future__ import annotations

import operator
from typing import Any, NoReturn

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from numpy.typing import ArrayLike

from lava_snnlearn.processes.parameters import ternary_parameters


class _SummedPort(OutPort):
    """An OutPort fed by two processes. Lava applies a virtual port to one of them only, and would mix shapes or axes up."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(
            "TernaryCouple: s_out joins the spikes of two processes, and Lava reshapes or transposes those of one only. "
            "Connect p_out and m_out instead, both reshaped or transposed, to the same InPort, which adds them."
        )

    reshape = transpose = _refuse


class TernaryCouple(AbstractProcess):
    """Two :class:`~lava_snnlearn.processes.coupled_if.process.CoupledIF`, P and M, that correct each other.

    ::

        a_in, g_in --> P --> s_out  (+1)           P.s_out --> identity --> M.c_in
                   '-> M --> s_out  (-1)           M.s_out --> identity --> P.c_in

    Spike for spike equal to :class:`~lava_snnlearn.processes.ternary_if.process.TernaryIF` with the same arguments: whoever is
    connected to ``s_out`` receives the sum of both halves' spikes, and P and M never fire in the same step. For a chip that has
    binary neurons only. The cross connections are stock ``Sparse`` processes; their one-step delay changes nothing.

    A hierarchical process: its one model is a SubProcessModel for ``fixed_pt`` and ``floating_pt``, a plain
    ``Loihi2SimCfg(select_tag=...)`` chooses the halves' models.

    Ports, of shape ``shape``: ``a_in`` current of the synapses; ``g_in`` injected current, held over the sample; ``s_out`` -1,
    0 or 1; ``p_out`` (0, 1) and ``m_out`` (0, -1) are its two parts, for a consumer that needs them reshaped, flattened or
    transposed: Lava cannot do that to ``s_out``, which refuses it (NotImplementedError). No Vars.

    Parameters
    ----------
    shape, vth, delta, dv, bias_mant, bias_exp, mask, t_start, t_stop, reset_interval: as for TernaryIF.

    Raises
    ------
    ValueError, TypeError: as TernaryIF.
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        vth: ArrayLike,
        delta: ArrayLike | None = None,
        dv: ArrayLike = 0,
        bias_mant: ArrayLike = 0,
        bias_exp: ArrayLike = 0,
        mask: ArrayLike | None = None,
        t_start: int = 0,
        t_stop: int | None = None,
        reset_interval: int | None = None,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        shape = tuple(operator.index(n) for n in shape)
        neuron: dict[str, Any] = {
            "dv": dv,
            "vth": vth,
            "delta": delta,
            "bias_mant": bias_mant,
            "bias_exp": bias_exp,
            "mask": mask,
        }
        ternary_parameters("TernaryCouple", shape, times=(t_start, t_stop, reset_interval), **neuron)
        half = {**neuron, "t_start": t_start, "t_stop": t_stop, "reset_interval": reset_interval}
        super().__init__(shape=shape, half=half, name=name, log_config=log_config)
        self.a_in = InPort(shape=shape)
        self.g_in = InPort(shape=shape)
        self.s_out = _SummedPort(shape=shape)
        self.p_out = OutPort(shape=shape)
        self.m_out = OutPort(shape=shape)
