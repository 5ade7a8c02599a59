"""netx HDF5, the format in which lava-dl's slayer hands networks to Lava (``lava.lib.dl.netx.hdf5.Network``).

Both ways are exact: a file that is read runs in the emulator as it does in netx on Lava's simulator, and a file that is written
runs there as in the emulator, spike for spike. Neither needs Lava.
"""

from __future__ import annotations

from functools import partial
from os import PathLike

from lava_snnlearn.checks import at_least, flag, known_name
from lava_snnlearn.files import hdf5_image, replacing
from lava_snnlearn.fixed_point.graph import FixedNetwork, check_network
from lava_snnlearn.interchange.foreign_hdf5 import NotSaidError, naming, read_foreign
from lava_snnlearn.interchange.netx_export import NetxRun, losses, run_of, with_whole_biases, write
from lava_snnlearn.interchange.netx_import import network_of
from lava_snnlearn.interchange.netx_layers import layers_of, sample_steps
from lava_snnlearn.interchange.netx_sigma_delta import refuse_sigma_delta

__all__ = ["NetxRun", "from_netx", "netx_losses", "to_netx", "with_whole_biases"]

TIMINGS = ("running", "samples")


def netx_losses(network: FixedNetwork) -> tuple[str, ...]:
    """What a netx file could not say of this network, one line each; empty: it says all.

    netx has chains of dense, recurrent and convolutional layers of CUBA neurons (reset to zero) with whole biases, delays into
    dense layers, and one factor and summand for input currents. Names, scales and notes, which change no spike, are not kept.

    Raises:
        TypeError: no FixedNetwork.
    """
    check_network("netx_losses", network)
    return tuple(loss.text for loss in losses(network))


def to_netx(network: FixedNetwork, path: str | PathLike[str], *, lossy: bool = False) -> NetxRun:
    """Write a netx file, atomically, with h5py alone.

    Run it with ``Network(path, **run.arguments)``, and a source of the integers of ``network.encode(x)``, sample after sample
    with ``run.reset_interval`` steps each: connected to ``net.inp`` where the input is spikes (graded ones too), to
    ``net.in_layer.neuron.a_in`` where it is current. An accumulator becomes a neuron that does not fire (threshold
    2^17 - 1), whose membrane is the answer; it is equal as long as the membrane stays below 2^23 - 64. A recurrent layer, and
    layers whose delays differ, cannot be reset between samples: ``run.one_by_one`` is True, and every sample is a run of its
    own, of ``run.first_output`` steps more than a sample has. netx keeps the file open as long as the interpreter runs.

    Args:
        network: the network.
        path: the file to write.
        lossy: write also what loses the host's part, i.e. how data become integers. Whatever would change a spike is
            refused all the same.

    Returns:
        NetxRun: how to run the file in the emulator's steps.

    Raises:
        ValueError: losses, which the message lists. TypeError: no FixedNetwork. OSError: the file cannot be written.
    """
    check_network("to_netx", network)
    flag("lossy", lossy)
    found = losses(network)
    refused = [loss.text for loss in found if loss.fatal or not lossy]
    if refused:
        remedy = "" if any(loss.fatal for loss in found) else " Pass lossy=True (export --lossy) to write the rest."
        raise ValueError("a netx file cannot hold this network: " + "; ".join(refused) + "." + remedy)
    with replacing(path) as temporary:
        temporary.write_bytes(hdf5_image(partial(write, network)))
    return run_of(network)


def from_netx(
    path: str | PathLike[str],
    steps: int | None = None,
    *,
    timing: str | None = None,
    input_shape: tuple[int, int, int] | None = None,
) -> FixedNetwork:
    """Read a network of lava-dl.

    Args:
        path: the file.
        steps: T, steps of a sample. None: as the file says (simulation/tSample).
        timing: "samples": every layer is reset when a sample reaches it, as netx does with a ``reset_interval``; step t of
            layer l is step t + l of the input (with delays or recurrent layers a sample is a run of its own). "running": no
            resets, all layers are active from step 0 on, so that biases act before the first spikes arrive; a sample is a whole
            run. None: "running" for networks with delays or recurrent layers, else "samples".
        input_shape: (C, H, W), for files whose first layer is a convolution and which do not say it themselves.

    Returns:
        FixedNetwork with populations ``layer0``, ``layer1``, ... (numbers of the file; flatten has none). A layer "input" with
        neurons takes data as currents (weight * x + bias); without, the first layer hears binary spikes. Images are in the
        order C, H, W. A last layer that never fires (no neuron, or a threshold of 2^17 - 1 and more on an unfiltered
        current) is an accumulator, whose membrane is the answer; a last layer "average" counts the spikes of every group.
        ``notes`` tell what netx ignores or changes.

    Raises:
        FileFormatError: a file that is missing, damaged or foreign; layers or neurons that are not supported (the message
        names them), sigma-delta neurons among them. LimitError: a value that Loihi cannot hold. ValueError: neither file nor
        caller say the steps; biases that make neurons of a network with delays or recurrent layers spike before a sample
        reaches them, with timing "samples".
    """
    if timing is not None:
        known_name("timing", timing, TIMINGS)
    if steps is not None:
        at_least(1, "steps", steps)
    tree = read_foreign(path)
    with naming(path):
        layers = layers_of(tree)
        refuse_sigma_delta(layers)
        found = sample_steps(tree) if steps is None else steps
        if found is None:
            raise NotSaidError("it does not say the steps of a sample; pass steps")
        return network_of(layers, found, timing, input_shape)
