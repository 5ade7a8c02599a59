"""Time loop of one phase in integers, compiled by numba.

Both phases are the same machine. Layers stand in a ring: spikes of the layer at place k reach the layer at place k + 1 one step
later, and those of the last place the first. The layer at place k is active in the steps k .. k + steps - 1, and a constant
current drives the first. Forward, the places are the layers 1..L, and the drive is the input; backward, they are L..1, the
weights are transposed, the drive is the gradient, and spikes have signs.

The neuron is that of ``soft_reset_step`` and ``ternary_step`` without leak. A spike costs the row of its weights, so that the
work follows the activity.
"""

from __future__ import annotations

import numpy as np

from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_MAX, MEMBRANE_SHIFT
from lava_snnlearn.neurons.compiling import compiled

_LIMIT = np.int32(MEMBRANE_MAX)
_SHIFT = np.int32(MEMBRANE_SHIFT)


@compiled
def relax(
    counts: np.ndarray, rows: np.ndarray, starts: np.ndarray, drive: np.ndarray, mask: np.ndarray, steps: int, vth: int,
    delta: int, signed: bool,
) -> None:  # fmt: skip
    """Fill ``counts`` with the sum of each neuron's emitted spikes.

    counts: int32 [B, N], neurons in the order of places. rows: int32 [N, width], what a spike adds to the neurons of the next
    place (sums fit into 32 bits: the settings see to it). starts: int64 [places + 1], first neuron of each place.
    drive: int64 [B, n of place 0]. mask: bool [B, N]; where it is False, spikes are not emitted. vth, delta: weight units.
    signed: ternary neurons, else binary ones.
    """
    places = len(starts) - 1
    n = len(rows)
    theta = vth << _SHIFT
    drop = delta << _SHIFT
    membrane = np.empty(n, np.int64)
    heard = np.empty(n, np.int32)
    arriving = np.empty(n, np.int32)
    for b in range(len(counts)):
        membrane[:] = 0
        heard[:] = 0
        counts[b, :] = 0
        for step in range(steps + places - 1):
            arriving[:] = 0
            for k in range(max(0, step - steps + 1), min(places, step + 1)):
                target = starts[(k + 1) % places]
                width = starts[(k + 1) % places + 1] - target
                for i in range(starts[k], starts[k + 1]):
                    v = membrane[i] + (np.int64(heard[i]) << _SHIFT)
                    if k == 0:
                        v += drive[b, i] << _SHIFT
                    if signed:
                        v = min(max(v, -_LIMIT), _LIMIT)
                    s = 0
                    if v >= theta:
                        s = 1
                    elif signed and v <= -theta:
                        s = -1
                    membrane[i] = min(max(v - s * drop, -_LIMIT), _LIMIT)
                    if s == 0 or not mask[b, i]:
                        continue
                    counts[b, i] += s
                    if s > 0:
                        for j in range(width):
                            arriving[target + j] += rows[i, j]
                    else:
                        for j in range(width):
                            arriving[target + j] -= rows[i, j]
            heard, arriving = arriving, heard
