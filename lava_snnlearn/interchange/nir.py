"""NIR, the neuromorphic intermediate representation, through the ``nir`` package.

Source: J. E. Pedersen et al., "Neuromorphic intermediate representation: A unified instruction set for interoperable
brain-inspired computing", Nature Communications 2024.

NIR's neurons are differential equations, those of this library difference equations; a step takes ``dt`` seconds (1e-4, as in
snnTorch). With forward Euler, the input of a step first, then leak, spike and reset within the step:

==========  ==========================================================  =======================================================
node        NIR                                                         here, in real units of the current
==========  ==========================================================  =======================================================
LIF         tau v' = (v_leak - v) + r I; spike at v > v_threshold       leak = dt / tau; threshold = v_threshold tau / (r dt)
IF          v' = r I                                                    leak = 0; threshold = v_threshold / r (see below)
CubaLIF     tau_syn I' = -I + w_in S; tau_mem v' = (v_leak - v) + r I   dv = 4096 dt / tau_mem; du + 1 = 4096 dt / tau_syn;
                                                                        factor on the input: w_in r (dt/tau_syn) (dt/tau_mem)
LI          tau v' = (v_leak - v) + r I                                 the readout's leak = dt / tau (before the Output only)
Delay       y(t) = x(t - delay)                                         delay / dt steps, whole
others      Linear, Affine, Conv2d, SumPool2d, AvgPool2d, Flatten,      weights and biases
            Scale
==========  ==========================================================  =======================================================

v_threshold, v_reset and v_leak are in the unit of r I; weights and biases have no unit. Conventions, and what they follow from:

- Written neurons have r = 1, and LIF thresholds are scaled by dt / tau: norse reads r as 1, and snnTorch scales back.
- An IF integrates r I per *step*, not per second: norse, sinabs and snnTorch do so, and write r = 1.
- NIR fires at strict >, this library at >=: thresholds are written as the next lower single-precision number and read as the
  next higher one, so that values which meet the threshold exactly fire in both.
- Edges that close a loop are one step late. Recurrent layers are subgraphs with the nodes "lif" and "w_rec", as in snnTorch.
- v_reset is a reset *to* that value. Reset by subtraction, which NIR cannot say, is refused, or written as metadata
  ({"reset": "subtract"}) that only this library reads. snnTorch, norse and sinabs drop it in silence when they write.
- v_leak and v_reset must be equal (they only shift the membrane): tools start membranes at different ones of the two.
- Thresholds and resistances may differ between neurons; time constants within a node may not.
- norse takes the step as an argument: ``norse.torch.from_nir(graph, dt=1e-4)``. Its ``to_nir`` writes dt / (1 / tau) where tau
  belongs: only with ``dt=1`` does it write seconds; pass the step of the simulation to :func:`from_nir` then.
- sinabs uses exp(-1 / tau) with tau in steps and drops v_reset: its LIF has no counterpart here, its IF does with
  ``reset="subtract"`` as long as the lower bound of its membrane is not met.

snnTorch 1.0.0 and norse 1.1.0 are run against this. What is said of sinabs is read in the source of sinabs 3.1.3, not tested:
it asks for nir 1.0.4 and older.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import nir
import numpy as np

from lava_snnlearn.checks import LimitError, at_least, flag, known_name, positive, whole_number, within
from lava_snnlearn.data.encoders import ENCODINGS
from lava_snnlearn.files import FileFormatError, replacing
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.lowering import Stage, lower
from lava_snnlearn.fixed_point.qat import QATNetwork
from lava_snnlearn.interchange.foreign_hdf5 import NotSaidError, naming, read_foreign
from lava_snnlearn.interchange.nir_chip import chip_stages, refusals
from lava_snnlearn.interchange.nir_export import graph_of
from lava_snnlearn.interchange.nir_networks import fixed_network, torch_network
from lava_snnlearn.interchange.nir_stages import Found, found_in
from lava_snnlearn.interchange.nir_tree import flat_graph, number_of, tree_of
from lava_snnlearn.interchange.nir_units import DT
from lava_snnlearn.networks.network import Network
from lava_snnlearn.neurons.lif import RESETS

_EXPANSION = 1032
"""gzip, which ``nir.write`` uses, shrinks arrays of equal parameters by up to this factor."""


def nir_losses(network: Network | FixedNetwork) -> tuple[str, ...]:
    """What other tools would not know of this network if it were written to NIR, one line each; empty if they know all.

    Raises:
        LimitError: what NIR has no words for at all. TypeError: neither a Network nor a FixedNetwork.
    """
    stages, _ = _stages_of(network)
    found = []
    for stage in stages:
        if stage.neuron is not None and stage.neuron.reset == "subtract":
            found.append(f"{stage.name}: reset by subtraction; NIR resets to v_reset (train with LIF(reset='zero'))")
        if stage.start:
            found.append(f"{stage.name}: a membrane that starts at {stage.start:g}; in NIR it starts at rest")
    return tuple(found)


def to_nir(
    network: Network | FixedNetwork, path: str | PathLike[str] | None = None, *, annotate: bool = False, dt: float = DT
) -> nir.NIRGraph:
    """A network as a NIR graph; see the module for units.

    Norms, standardisation, gains and amplitudes are folded into the weights. Of a FixedNetwork the graph holds the quantised
    weights in real units, for the data that its host takes, and its logical time (layers answer within the step); the rounding
    of its leaks and the clipping of its membranes are not in it.

    Args:
        network: in eval mode (running statistics).
        path: file to write, atomically; None: none.
        annotate: write what NIR cannot say (:func:`nir_losses`) as metadata of the nodes, which only this library reads,
            instead of refusing it.
        dt: seconds a step.

    Raises:
        LimitError: what NIR cannot say; the message lists it. TypeError: neither a Network nor a FixedNetwork. OSError: the
        file cannot be written.
    """
    flag("annotate", annotate)
    positive("dt", dt)
    stages, filters = _stages_of(network)
    losses = nir_losses(network)
    if losses and not annotate:
        raise LimitError(
            "NIR cannot say all of this network, and other tools would compute something else:\n  "
            + "\n  ".join(losses)
            + "\nPass annotate=True (export --annotate) to write it nevertheless, with metadata that only this library reads."
        )
    metadata: dict[str, Any] = {"dt": float(dt), "steps": int(network.steps), "tool": "lava_snnlearn"}
    shape: tuple[int, ...]
    wide = False
    if isinstance(network, FixedNetwork):
        shape, encoding = (network.host.features,), network.host.encoding
    else:
        shape, encoding, wide = network.input_shape, network.encoding, network.readout.weight.element_size() == 8
    dtype = np.float64 if wide else np.float32
    graph = graph_of(stages, shape, filters, dt, dtype, metadata | {"encoding": encoding}, annotate)
    if path is not None:
        with replacing(path) as temporary:
            # Not by nir into the file: the HDF5 library does not survive a full disk.
            buffer = io.BytesIO()
            nir.write(buffer, graph, compression=None)
            temporary.write_bytes(buffer.getbuffer())
    return graph


def _stages_of(network: Any) -> tuple[list[Stage], Mapping[str, float]]:
    if isinstance(network, FixedNetwork):
        if missing := refusals(network):
            raise LimitError("NIR has no words for parts of this network:\n  " + "\n  ".join(missing))
        chip = chip_stages(network)
        return chip.stages, chip.filters
    if isinstance(network, QATNetwork):
        raise TypeError("this network is prepared for quantisation; write what it becomes: to_nir(quantize(network))")
    if not isinstance(network, Network):
        raise TypeError(f"to_nir takes a Network or a FixedNetwork, got {type(network).__name__}; see lava_snnlearn.networks")
    return lower(network), {}


def from_nir(
    path_or_graph: str | PathLike[str] | nir.NIRGraph,
    *,
    steps: int | None = None,
    reset: str | None = None,
    encoding: str | None = None,
    dt: float | None = None,
) -> Network:
    """A torch network from a NIR graph, in instant timing: layers answer within the step. It trains and quantises as others.

    The graph must be a chain of layers, with recurrent dense layers, delays of dense layers, and feedback from the last layer
    to the first. Where it ends with neurons, the network's readout passes their spikes on (weights 1).

    Args:
        path_or_graph: a file, or a ``nir.NIRGraph``.
        steps: T. None: as the metadata says.
        reset: "zero" or "subtract" for all neurons. None: to zero, or as the nodes' metadata say. Tools that reset by
            subtraction (sinabs, snnTorch by default) do not say so in NIR: pass "subtract" for them.
        encoding: how static samples become T steps, see :class:`~lava_snnlearn.networks.Network`. None: as the metadata says,
            or "direct".
        dt: seconds a step. None: as the metadata says, or 1e-4. norse counts with 1e-3.

    Raises:
        FileFormatError: a file that is missing, damaged, foreign or inconsistent; nodes that are not known.
        LimitError: a graph that torch networks cannot be; the message names the node, and the way out.
        ValueError: steps are not said. UnknownNameError, TypeError: unknown names, another kind of argument.
    """
    found, steps, encoding = _found(path_or_graph, steps, reset, encoding, dt)
    return torch_network(found, steps, encoding)


def fixed_from_nir(
    path_or_graph: str | PathLike[str] | nir.NIRGraph,
    *,
    steps: int | None = None,
    reset: str | None = None,
    encoding: str | None = None,
    dt: float | None = None,
    weight_bits: int = 8,
) -> FixedNetwork:
    """A NIR graph in integers, without a torch network between: any graph, CubaLIF included. Its input is binary spikes.

    Stock LIFs (reset to zero) cannot pause between samples; with recurrent connections or delays every sample is a run of its
    own on Lava. Where the bias would make such a neuron spike before a sample reaches it, all populations are active from step
    0 on: layer l lags l steps, within ``steps``, and its bias acts before the first spikes reach it (``notes`` say so).

    Arguments and errors are those of :func:`from_nir`, and ``weight_bits`` of :func:`~lava_snnlearn.fixed_point.quantize`.
    """
    whole_number("weight_bits", weight_bits)
    within("weight_bits", weight_bits, 2, limits.WEIGHT_BITS, "Loihi holds up to 8 bits a weight (sign included).")
    found, steps, encoding = _found(path_or_graph, steps, reset, encoding, dt)
    return fixed_network(found, steps, encoding, weight_bits)


def _found(
    path_or_graph: Any, steps: int | None, reset: str | None, encoding: str | None, dt: float | None
) -> tuple[Found, int, str]:
    """The stages of a file or graph, steps and encoding."""
    if reset is not None:
        known_name("reset", reset, RESETS)
    if dt is not None:
        positive("dt", dt)
    if isinstance(path_or_graph, nir.NIRGraph):
        where, tree = "the NIR graph", tree_of(path_or_graph)
    elif isinstance(path_or_graph, (str, PathLike)):
        where, tree = str(Path(path_or_graph)), read_foreign(path_or_graph, expansion=_EXPANSION).get("node", {})
    else:
        raise TypeError(f"expected a path or a nir.NIRGraph, got {type(path_or_graph).__name__}")
    with naming(where):
        flat = flat_graph(tree)
        said = flat.metadata
        if steps is None and "steps" not in said:
            raise NotSaidError("it does not say the steps of a sample; pass steps, e.g. steps=20")
        count = at_least(1, "steps", _whole("steps", said) if steps is None else steps)
        code = known_name("encoding", str(said.get("encoding", "direct")) if encoding is None else encoding, ENCODINGS)
        step = number_of("the graph", said, "dt", DT) if dt is None else float(dt)
        positive("dt", step)
        return found_in(flat, step, reset), count, code


def _whole(key: str, metadata: Mapping[str, Any]) -> int:
    value = number_of("the graph", metadata, key, 0.0)
    if value != round(value):
        raise FileFormatError(f"the graph: {key} in the metadata is {value}; expected a whole number")
    return round(value)
