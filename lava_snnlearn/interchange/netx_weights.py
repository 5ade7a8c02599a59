"""Synaptic weights on both sides: what netx makes of a file's weights, and how a Connection holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point import limits

_BITS = 8
_HALF = 127
"""Odd weights up to this are held doubled, with the exponent -1."""


def kept_by_netx(weight: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The weights with which netx's dense layers compute; None where these are not whole numbers.

    netx clips to -256..254 where signs are mixed, shifts the matrix to the left as far as 8 bits allow (and the sums back to
    the right), and derives the number of weight bits from the largest power of two in all of them. Lava's Dense then guesses
    the sign mode by itself, clips, and drops the bits that do not count. Almost always nothing is lost on this way; an
    inhibitory matrix with -128 or -256 in it is, for example. (lava-dl 0.6.0, netx/utils.py; lava-nc 0.10.0, dense/models.py)

    Args:
        weight: [n_target, n_source]; of recurrent layers with the recurrent weights beside it.
    """
    low, high = int(weight.min()), int(weight.max())
    if low == high == 0:
        return None
    # One after the other, as netx does it: the second question is asked of what the first clip left.
    if high > 254 and low < 0:
        weight = np.clip(weight, -256, 254)
        low, high = int(weight.min()), int(weight.max())
    if low < -256 and high > 0:
        weight = np.clip(weight, -256, 254)
        low = int(weight.min())
    signed = low < 0 <= high
    shift = netx_shift(weight)
    if shift < 0:
        return None
    spare = next((n for n in range(_BITS, 0, -1) if not (weight % (1 << n)).any()), 0)
    bits = _BITS - shift - (spare - signed)
    return _kept_by_lava(weight << shift, bits, shift)


def netx_shift(weight: NDArray[np.int64]) -> int:
    """By how many bits netx shifts the weights of a dense layer to the left; 0 of weights that are all 0."""
    low, high = int(weight.min()), int(weight.max())
    if low == high == 0:
        return 0
    signed = low < 0 <= high
    if signed:
        scale = min(127 / high if high else np.inf, 128 / -low)
    else:
        scale = 256 / -low if high < 0 else 255 / high
    return int(np.floor(np.log2(scale))) + signed


def _kept_by_lava(weight: NDArray[np.int64], bits: int, shift: int) -> NDArray[np.int64] | None:
    """What Lava's Dense keeps of weights that netx shifted, shifted back; it guesses the sign mode from them."""
    mixed = weight.min() < 0 < weight.max()
    drop = _BITS - bits + int(mixed)
    if drop < 0:
        return None
    low, high = (-256, 255) if mixed else (-255, 255)
    clipped = np.clip(weight, low, high)
    magnitude = clipped if mixed else np.abs(clipped)
    kept = (magnitude >> drop) << drop
    kept = kept if mixed else np.sign(clipped) * kept
    return None if (kept % (1 << shift)).any() else kept >> shift


def as_synapses(where: str, weight: NDArray[np.int64], delayed: bool = False) -> dict[str, Any]:
    """``weight``, ``exponent`` and ``sign_mode`` of a Connection with these effective weights.

    ``delayed``: the connection has delays, which take no exponent below 0.

    Raises:
        LimitError: odd weights of mixed sign beyond +-127 (with delays: at all), weights beyond 8 bits.
    """
    low, high = int(weight.min()), int(weight.max())
    even = not (weight & 1).any()
    if even and low >= limits.WEIGHT_MIN and high <= limits.WEIGHT_MAX:
        return {"weight": weight, "exponent": 0, "sign_mode": "mixed"}
    if low >= 0 and high <= limits.UNSIGNED_WEIGHT_MAX:
        return {"weight": weight, "exponent": 0, "sign_mode": "excitatory"}
    if low >= -limits.UNSIGNED_WEIGHT_MAX and high <= 0:
        return {"weight": weight, "exponent": 0, "sign_mode": "inhibitory"}
    if low >= -_HALF - 1 and high <= _HALF and not delayed:
        return {"weight": 2 * weight, "exponent": -1, "sign_mode": "mixed"}
    odd = "" if even else ", odd ones among them"
    span = f"even ones from {limits.WEIGHT_MIN} to {limits.WEIGHT_MAX}" + (
        "" if delayed else f", and odd ones up to +-{_HALF} (none of them larger)"
    )
    raise LimitError(f"{where} has weights from {low} to {high}{odd}; of mixed sign a synapse holds {span}")


def effective(weight: NDArray[np.integer[Any]], exponent: int) -> NDArray[np.int64] | None:
    """A Connection's weights with the exponent in them; None where it rounds the sum."""
    wide = np.asarray(weight, dtype=np.int64)
    if exponent >= 0:
        return wide << exponent
    return None if (wide % (1 << -exponent)).any() else wide >> -exponent
