"""Plain Python integers for the references of the fixed-point models: division that rounds, limits, and random words."""

from __future__ import annotations

_WORDS = 1 << 64
_GOLDEN = 0x9E3779B97F4A7C15


def rounded(value: int, bits: int) -> int:
    """Divided by 2**bits, to nearest, halves up; multiplied if bits are negative."""
    return value * 2**-bits if bits < 0 else (2 * value + 2**bits) // 2 ** (bits + 1)


def clipped(value: int, limit: int) -> int:
    """The nearest number of +-limit."""
    return max(-limit, min(limit, value))


def random_word(seed: int, number: int, place: int) -> int:
    """64 random bits: SplitMix64's output number ``place`` after one seeded with the output of (seed, number).

    Steele, Lea, Flood 2014; constants of Vigna's splitmix64.c.
    """
    start = _finished((_finished((seed + 1) * _GOLDEN) + number + 1) * _GOLDEN)
    return _finished(start + place * _GOLDEN)


def _finished(word: int) -> int:
    word %= _WORDS
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % _WORDS
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % _WORDS
    return word ^ (word >> 31)
