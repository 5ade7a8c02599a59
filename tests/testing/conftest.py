"""Custom processes of a user, good and broken: in a folder of their own, as a top-level module (see tests/lava_backend)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "custom"))
