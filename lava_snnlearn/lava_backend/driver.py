"""A single ProcessModel stepped in this interpreter: no compiler, no runtime, no other process."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_configs import Loihi2SimCfg
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.lava_backend.housekeeping import remove_log_handlers, unregister


class _Inlet:
    """Stands in for an InPort: what the next recv gives."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self._silence = np.zeros(shape, dtype)
        self.value = self._silence

    def fill(self, value: ArrayLike | None) -> None:
        """Set the next input; None is silence. Lava adds what arrives to zeros of the port's dtype, so the dtype may widen."""
        self.value = self._silence if value is None else self._silence + np.asarray(value)

    def recv(self) -> NDArray:
        """The input of this step."""
        return self.value


class _Outlet:
    """Stands in for an OutPort: keeps what was sent, in the port's dtype as Lava's channels do."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self._shape, self._dtype = shape, dtype
        self.value: NDArray | None = None

    def send(self, data: NDArray) -> None:
        """Keep a copy of what is sent."""
        if data.shape != self._shape:
            raise AssertionError(f"sent an array of shape {data.shape} on a port of shape {self._shape}")
        self.value = np.array(data).astype(self._dtype)


class _NoReference:
    """Stands in for an unconnected RefPort."""

    csp_ports: tuple[()] = ()


def find_model(process: AbstractProcess, tag: str) -> type[PyLoihiProcessModel]:
    """The model that a plain ``Loihi2SimCfg(select_tag=tag)`` chooses. Raises what Lava's compiler raises if there is none."""
    models = ProcGroupDiGraphs._find_proc_models(process)
    return Loihi2SimCfg(select_tag=tag).select(process, models)


_known_models: dict[tuple[type[AbstractProcess], str], type[PyLoihiProcessModel]] = {}
"""Discovery executes whole folders for each process; once for each class is enough in a sweep."""


class InProcessModel:
    """The model that ``Loihi2SimCfg(select_tag=tag)`` chooses for ``process``, as an object that can be stepped.

    ::

        neuron = InProcessModel(SoftResetLIF(shape=(3,), vth=10), "fixed_pt")
        spikes = neuron.step(a_in=[12, 4, 0])["s_out"]
        membrane = neuron.read("v")

    Bit-equal to a run on Lava's runtime and many times faster: for sweeps and for debugging a model. RefPorts stay unconnected.

    Parameters
    ----------
    process: a fresh process; it is taken off Lava's global lists and can still be run.
    tag: "fixed_pt" or "floating_pt".
    """

    def __init__(self, process: AbstractProcess, tag: str = "fixed_pt") -> None:
        key = (type(process), tag)
        if key not in _known_models:
            _known_models[key] = find_model(process, tag)
        model_class = _known_models[key]
        remove_log_handlers([process])
        unregister([process])
        self.model = model_class(process.proc_params)
        self._inlets: dict[str, _Inlet] = {}
        self._outlets: dict[str, _Outlet] = {}
        for var in process.vars.members:
            setattr(self.model, var.name, _initial(var, getattr(model_class, var.name)))
        for port in process.in_ports.members:
            self._inlets[port.name] = _Inlet(port.shape, getattr(model_class, port.name).d_type)
        for port in process.out_ports.members:
            self._outlets[port.name] = _Outlet(port.shape, getattr(model_class, port.name).d_type)
        for name, stub in {**self._inlets, **self._outlets}.items():
            setattr(self.model, name, stub)
        for port in process.ref_ports.members:
            setattr(self.model, port.name, _NoReference())

    def step(self, **inputs: ArrayLike) -> dict[str, NDArray]:
        """Run one time step with all its phases.

        inputs: one array of the port's shape for each InPort by name; a missing one is zeros. Returns for each OutPort what was
        sent in this step, in the port's dtype. Raises KeyError for a name that is no InPort, and whatever the model raises.
        """
        unknown = sorted(set(inputs) - set(self._inlets))
        if unknown:
            names = ", ".join(self._inlets) or "none"
            raise KeyError(f"{unknown[0]!r} is no InPort of {type(self.model).__name__}. InPorts: {names}.")
        for name, inlet in self._inlets.items():
            inlet.fill(inputs.get(name))
        for outlet in self._outlets.values():
            outlet.value = None
        self.model.time_step += 1
        self._phases()
        return {name: outlet.value for name, outlet in self._outlets.items() if outlet.value is not None}

    def read(self, var: str) -> NDArray:
        """Copy of the Var's value."""
        return np.array(getattr(self.model, var))

    def _phases(self) -> None:
        """Lava's order; as there, the guard of PRE_MGMT counts only in steps that learn."""
        model = self.model
        model.run_spk()
        if model.lrn_guard():
            if model.pre_guard():
                model.run_pre_mgmt()
            model.run_lrn()
        if model.post_guard():
            model.run_post_mgmt()


def _initial(var: Any, lava_type: Any) -> Any:
    """The value that Lava's builder gives to a Var."""
    if not issubclass(lava_type.cls, np.ndarray):
        return var.init
    value = np.empty(var.shape, lava_type.d_type)
    value[...] = var.init
    return value
