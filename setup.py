"""The list of packages. Everything else is in pyproject.toml.

The folders ``processes/`` and ``models/`` lie beside ``lava_snnlearn/`` but are imported as ``lava_snnlearn.processes`` and
``lava_snnlearn.models``. Setuptools finds packages by their place in the tree only, so the names are put together here.
"""

from setuptools import find_packages, setup


def mapped(folder: str) -> list[str]:
    """Import names of all packages in a top-level folder that is mapped into lava_snnlearn."""
    name = f"lava_snnlearn.{folder}"
    return [name, *(f"{name}.{package}" for package in find_packages(folder))]


setup(
    packages=[*find_packages(include=["lava_snnlearn", "lava_snnlearn.*"]), *mapped("processes"), *mapped("models")],
    package_dir={"lava_snnlearn.processes": "processes", "lava_snnlearn.models": "models"},
)
