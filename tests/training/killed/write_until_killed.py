"""Usage: python write_until_killed.py FILE. Writes checkpoints to FILE for ever, the n-th full of the number n."""

import sys
from itertools import count

import numpy as np

from lava_snnlearn.files import write_tree

for number in count(1):
    arrays = [np.full(2_000, number) for _ in range(20)]
    write_tree(sys.argv[1], {"number": number, "arrays": arrays}, content="checkpoint")
