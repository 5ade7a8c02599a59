"""Lava Processes of the library, one folder each: ``from lava_snnlearn.processes.soft_reset_lif.process import SoftResetLIF``.

Their ProcessModels lie in the twin folder ``models/<name>/models.py``; a plain ``Loihi2SimCfg(select_tag="fixed_pt")`` or
``"floating_pt"`` finds them. Lava's compiler executes every file of a process's folder again and again, so these folders hold
nothing that has side effects or is slow to import.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lava_snnlearn.lava_backend  # noqa: F401  # says what to do where Lava is missing

if TYPE_CHECKING:
    from lava_snnlearn.processes.coupled_if.process import CoupledIF
    from lava_snnlearn.processes.delay_connection.process import DelayConnection
    from lava_snnlearn.processes.ep_neuron.process import EPNeuron
    from lava_snnlearn.processes.error_readout.process import ErrorReadout
    from lava_snnlearn.processes.error_stage.process import ErrorStage
    from lava_snnlearn.processes.exact_reasoner.process import ExactReasoner
    from lava_snnlearn.processes.fused_network.process import FusedNetwork
    from lava_snnlearn.processes.hlop_lateral.process import HLOPLateral
    from lava_snnlearn.processes.noise_source.process import NoiseSource
    from lava_snnlearn.processes.opzo_feedback.process import OPZOFeedback
    from lava_snnlearn.processes.ottt_dense.process import OTTTDense
    from lava_snnlearn.processes.perturbed_lif.process import PerturbedLIF
    from lava_snnlearn.processes.recorder.process import Recorder
    from lava_snnlearn.processes.sample_source.process import SampleSource
    from lava_snnlearn.processes.soft_reset_lif.process import SoftResetLIF
    from lava_snnlearn.processes.spide_synapse.process import SpideSynapse
    from lava_snnlearn.processes.staged_reasoner.process import StagedReasoner
    from lava_snnlearn.processes.ternary_couple.process import TernaryCouple
    from lava_snnlearn.processes.ternary_if.process import TernaryIF

__all__ = [
    "CoupledIF",
    "DelayConnection",
    "EPNeuron",
    "ErrorReadout",
    "ErrorStage",
    "ExactReasoner",
    "FusedNetwork",
    "HLOPLateral",
    "NoiseSource",
    "OPZOFeedback",
    "OTTTDense",
    "PerturbedLIF",
    "Recorder",
    "SampleSource",
    "SoftResetLIF",
    "SpideSynapse",
    "StagedReasoner",
    "TernaryCouple",
    "TernaryIF",
]

_HOME = {
    "CoupledIF": "coupled_if",
    "DelayConnection": "delay_connection",
    "EPNeuron": "ep_neuron",
    "ErrorReadout": "error_readout",
    "ErrorStage": "error_stage",
    "ExactReasoner": "exact_reasoner",
    "FusedNetwork": "fused_network",
    "HLOPLateral": "hlop_lateral",
    "NoiseSource": "noise_source",
    "OPZOFeedback": "opzo_feedback",
    "OTTTDense": "ottt_dense",
    "PerturbedLIF": "perturbed_lif",
    "Recorder": "recorder",
    "SampleSource": "sample_source",
    "SoftResetLIF": "soft_reset_lif",
    "SpideSynapse": "spide_synapse",
    "StagedReasoner": "staged_reasoner",
    "TernaryCouple": "ternary_couple",
    "TernaryIF": "ternary_if",
}


def join_models(package_path: list[str]) -> None:
    """Add the twin folder ``models/<name>`` to the ``__path__`` of the process package ``processes/<name>``.

    Lava looks for models among the modules of the process's own package only. The two folders are twins in the repository and
    in an installed wheel alike.
    """
    package = Path(package_path[0])
    package_path.append(str(package.parents[1] / "models" / package.name))


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}.process"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
