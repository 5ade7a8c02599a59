"""Where data sets lie: the user's own folder, and the cache of downloads."""

from __future__ import annotations

import os
from pathlib import Path

DATA_VARIABLE = "LAVA_SNNLEARN_DATA"


def local_file(path: str) -> Path | None:
    """``path`` in the folder that the environment variable LAVA_SNNLEARN_DATA names; None where there is no such file."""
    folder = os.environ.get(DATA_VARIABLE)
    file = Path(folder) / path if folder else None
    return file if file is not None and file.is_file() else None


def cache_folder() -> Path:
    """Where downloads go."""
    return Path.home() / ".cache" / "lava_snnlearn"
