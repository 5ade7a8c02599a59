"""MkDocs hook: a page of the reference for each public module, with all names that it offers; and one for the command line.

The names are asked of the imported packages, because most are loaded lazily. The docstrings are then read from the sources
without importing anything: from a copy, in which ``processes/`` and ``models/`` lie where they are imported from.
"""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

import lava_snnlearn

ROOT = Path(__file__).parents[2]
TITLE = "API reference"
RICH_MARKUP = re.compile(r"\[/?bold\]")
EXAMPLES = re.compile(r"^(?: *lava-snnlearn .+\n\n)+", re.MULTILINE)
# Public modules inside of packages that do not name them in __all__; without an __all__ they offer what they define.
FURTHER = (
    "checks",
    "files",
    "fixed_point.arithmetic",
    "fixed_point.convolution",
    "fixed_point.delays",
    "fixed_point.energy_networks",
    "fixed_point.event_energy",
    "fixed_point.events",
    "fixed_point.graph",
    "fixed_point.host",
    "fixed_point.limits",
    "fixed_point.trace",
    "interchange.netx",
    "interchange.nir",
    "lava_backend.ep",
    "lava_backend.importing",
    "lava_backend.local",
    "lava_backend.spide",
    "lava_backend.stock",
    "methods.base",
    "networks.walk",
    "verification",
)


@event_priority(100)  # before mkdocstrings reads its settings
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Copy the sources beside the site, and put the pages of the reference into the navigation."""
    sources = Path(f"{config.site_dir}_sources")
    copy_sources(sources)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(sources)]
    pages: list[Any] = ["reference/command_line.md", *({name.removeprefix("lava_snnlearn."): page(name)} for name in modules())]
    assert config.nav is not None
    config.nav.insert(-1, {TITLE: pages})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the reference."""
    for name in modules():
        files.append(File.generated(config, page(name), content=module_page(name)))
    files.append(File.generated(config, "reference/command_line.md", content=command_line_page()))
    return files


def copy_sources(target: Path) -> None:
    """The package as it is imported: lava_snnlearn with processes and models inside."""
    shutil.rmtree(target, ignore_errors=True)
    package = target / "lava_snnlearn"
    only_python = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "lava_snnlearn", package, ignore=only_python)
    for folder in ("processes", "models"):
        shutil.copytree(ROOT / folder, package / folder, ignore=only_python)


def modules() -> list[str]:
    """Names of the modules that get a page; each package is followed by its parts."""
    found = {name for name, module in offered(lava_snnlearn) if isinstance(module, ModuleType)}
    found |= {f"{name}.{inner}" for name in found for inner, value in offered(public(name)) if isinstance(value, ModuleType)}
    return ["lava_snnlearn", *sorted(f"lava_snnlearn.{name}" for name in {*found, *FURTHER})]


def public(name: str) -> ModuleType:
    """The module lava_snnlearn.<name>."""
    return importlib.import_module(f"lava_snnlearn.{name}")


def offered(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Public names of a module, and what they are: those of ``__all__``, or all that it defines."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    for name in names:
        if not name.startswith("_"):
            yield name, getattr(module, name)


def page(name: str) -> str:
    """Path of a module's page."""
    return f"reference/{name.removeprefix('lava_snnlearn.')}.md"


def module_page(name: str) -> str:
    """Markdown of a module's page."""
    module = importlib.import_module(name)
    members = [member for member, value in offered(module) if not isinstance(value, ModuleType)]
    blocks = [f"# {name}\n", f"::: {name}\n    options:\n      members: false\n      show_root_heading: false\n"]
    blocks += [f"::: {name}.{member}\n" for member in members]
    return "\n".join(blocks)


def command_line_page() -> str:
    """Markdown of the command line, from the help texts: whole summaries, and examples as code."""
    import typer
    from typer.cli import get_docs_for_click  # what the command 'typer utils docs' prints
    from typer.main import get_command

    from lava_snnlearn.cli import app

    command = get_command(app)
    for one in command.commands.values():
        one.short_help = one.help.partition("\n")[0]
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="lava-snnlearn", title="Command line")
    text = EXAMPLES.sub(lambda found: f"```console\n{as_code(found[0])}\n```\n\n", text)
    return RICH_MARKUP.sub("**", text)


def as_code(examples: str) -> str:
    """Commands, one a line."""
    return "\n".join(f"$ {line.strip()}" for line in examples.splitlines() if line)
