"""benchmarks/ is no package: its scripts import what lies in their folder, and so do these tests."""

import sys
from pathlib import Path

# Last, so that it hides no other module.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
