"""``python -m lava_snnlearn`` is the command line, also for ``torchrun -m``."""

from lava_snnlearn.cli import main

if __name__ == "__main__":
    main()
