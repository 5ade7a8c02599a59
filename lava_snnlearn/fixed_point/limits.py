"""Number ranges of Loihi (sources: Davies et al. 2018; Lava 0.10.0; see the table in the project's design notes)."""

from __future__ import annotations

WEIGHT_MIN, WEIGHT_MAX = -256, 254
"""8-bit weights of mixed sign are even integers: Lava and Loihi drop the lowest bit."""
WEIGHT_BITS = 8
UNSIGNED_WEIGHT_MAX = 255
"""Largest magnitude of 8-bit weights of one sign."""
EXPONENT_MIN, EXPONENT_MAX = 0, 7
"""Weight exponents below zero lose bits of the sums: quantisation makes none."""
RIGHT_SHIFT_MIN = -8
"""Least weight exponent of imported networks: the sum is shifted right."""
SCALE_MAX = 512
"""Of no chip: scales beyond 2^+-512 would overflow where traces are read in real units."""
THRESHOLD_MAX = (1 << 17) - 1
DECAY_MAX = 1 << 12
BIAS_MANTISSA_MIN, BIAS_MANTISSA_MAX = -(1 << 12), (1 << 12) - 1
BIAS_EXPONENT_MAX = 7
DELAY_MAX = 62
DELAY_BITS = 6
"""Delay field of a synapse."""
GRADED_BITS, PAYLOAD_BITS = 8, 24
"""Bits of a graded spike from the host, and of one between cores."""
GRADED_MAX = 255
"""Largest payload of an 8-bit graded spike."""
GRADED_PAYLOAD_MAX = (1 << 23) - 1
"""Largest magnitude of a graded spike between cores, 24 bit."""
GRADED_SHIFT_MAX = 23
"""Largest shift that a graded neuron scales its sum by."""
CURRENT_MAX = (BIAS_MANTISSA_MAX << BIAS_EXPONENT_MAX) >> 6
"""Largest constant input current in weight units: on the chip it is held by a neuron's bias."""
CHANNEL_MAX = (1 << 31) - 1
"""Lava carries synaptic sums between processes as int32."""
WRAP_FREE_MAX = (1 << 25) - 1
"""Lava's stock LIF shifts an int32 input by 6 bits; beyond this it overflows."""
FILTERED_INPUT_MAX = 1 << 18
"""Of a stock LIF that filters its current: wrapping once, Lava keeps the current within 24 bits only up to this input."""
CONV_SUM_MAX = (1 << 23) - 1
"""Lava's Conv keeps its sums in signed 24 bits and wraps beyond."""
CONV_GEOMETRY_MAX = 127
"""Lava's Conv keeps kernel size, stride, padding, dilation and groups as int8."""
NEURONS_PER_CORE = 1024
SYNAPTIC_BITS_PER_CORE = 128 * 1024 * 8
FAN_IN_AXONS_PER_CORE = 4096
OUTPUT_AXONS_PER_CORE = 4096
CORES_PER_CHIP = 128
CHIPS_PER_MESH = 16384
