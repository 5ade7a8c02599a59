"""Run configurations: Lava's own, started faster."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from lava.magma.core.model.py.model import AbstractPyProcessModel
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

_KNOWN_LAYOUT = ("lava.proc.", "lava_snnlearn.processes.")
"""Packages of which the models are known to lie beside the process, in its own module or in ``models``."""


class ModelMap(dict):
    """Finds the model of a process of this library or of ``lava.proc`` without Lava's discovery, which executes whole folders.

    To be given to a run configuration as ``exception_proc_model_map``. Keys are process classes or instances; the model with
    ``tag`` is the value. Processes from elsewhere are not in the map, so that Lava finds their models as usual. Where no model
    has the tag, the only Python model of Lava's Loihi protocol without tags is taken (so that ``Injector`` works with a tag,
    too). Entries that are set by hand (``map[Process] = Model``) go first.
    """

    def __init__(self, tag: str) -> None:
        super().__init__()
        self.tag = tag

    def __bool__(self) -> bool:
        return True  # Lava replaces a map that is false by an empty dict

    def __contains__(self, key: object) -> bool:
        return self._find(key) is not None

    def __getitem__(self, key: Any) -> type[AbstractPyProcessModel]:
        model = self._find(key)
        if model is None:
            raise KeyError(key)
        return model

    def _find(self, key: object) -> type[AbstractPyProcessModel] | None:
        process_class = key if isinstance(key, type) else type(key)
        if not dict.__contains__(self, process_class):
            dict.__setitem__(self, process_class, _model_beside(process_class, self.tag))
        return dict.__getitem__(self, process_class)


def _model_beside(process_class: type, tag: str) -> type[AbstractPyProcessModel] | None:
    home = process_class.__module__
    if not (issubclass(process_class, AbstractProcess) and home.startswith(_KNOWN_LAYOUT)):
        return None
    models: list[type[AbstractPyProcessModel]] = []
    for name in (home, f"{home.rpartition('.')[0]}.models"):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        models += [c for c in vars(module).values() if inspect.isclass(c) and _implements(c, process_class, module.__name__)]
    tagged = [model for model in models if tag in model.tags]
    untagged = [model for model in models if not model.tags and model.implements_protocol is LoihiProtocol]
    if tagged:
        return tagged[0]
    return untagged[0] if len(untagged) == 1 else None


def _implements(candidate: type, process_class: type, module: str) -> bool:
    return (
        candidate.__module__ == module
        and issubclass(candidate, AbstractPyProcessModel)
        and getattr(candidate, "implements_process", None) is process_class
    )


def run_config(tag: str = "fixed_pt", fast: bool = True) -> Loihi2SimCfg:
    """Lava's ``Loihi2SimCfg`` for the models with ``tag`` ("fixed_pt" or "floating_pt").

    ``fast``: resolve the models of this library and of ``lava.proc`` directly (see :class:`ModelMap`); the choice is the same
    as that of a plain ``Loihi2SimCfg(select_tag=tag)``, which always is enough.
    """
    return Loihi2SimCfg(select_tag=tag, exception_proc_model_map=ModelMap(tag) if fast else None)
