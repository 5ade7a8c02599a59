"""The engine behind ``emulate`` and ``Stream``: a FixedNetwork run in exact integers, as fast as the processor can.

A block of samples goes through the network in windows of time, stage by stage (:mod:`~.run`). In a stage, synaptic sums come
from events, whose work grows with what is sent (:mod:`~.synapses`), or from products of matrices (:mod:`~.products`), whichever
is cheaper (:mod:`~.costs`); the neurons then advance through the window in one compiled kernel (:mod:`~.neurons`). All paths
give the same integers. Blocks share nothing that they write, so that threads need no locks, and results do not depend on their
number.
"""
