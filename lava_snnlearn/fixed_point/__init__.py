"""Number formats, integer arithmetic, FixedNetwork, quantisation and the emulator.

Nothing is imported here: Lava's children import :mod:`lava_snnlearn.fixed_point.arithmetic` and must not pay for torch.
"""
