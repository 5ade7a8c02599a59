"""The documentation builds without a warning and has every public name; the project's papers agree with the library."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import griffe
import pytest
import yaml

import lava_snnlearn as snn
from lava_snnlearn import citations
from lava_snnlearn.cli import app

ROOT = Path(__file__).parents[1]


def built(folder: Path) -> dict[str, str]:
    """Pages of the reference by name, from a strict build: a warning fails it."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.stem: path.read_text(encoding="utf-8") for path in (folder / "reference").glob("*.html")}


def public_names() -> set[str]:
    """Full names of all that the public modules offer."""
    found = set()
    for name in snn.__all__:
        value = getattr(snn, name)
        inner = getattr(value, "__all__", []) if isinstance(value, ModuleType) else []
        found |= {f"lava_snnlearn.{name}.{part}" for part in inner} | {f"lava_snnlearn.{name}"}
    return found - {"lava_snnlearn.__version__"}


def test_the_site_builds_without_a_warning_and_has_everything(tmp_path: Path) -> None:
    """One test, because workers would share no build."""
    pages = built(tmp_path / "site")

    anchors = {anchor for page in pages.values() for anchor in re.findall(r'id="([\w.]+)"', page)}
    titles = {title for page in pages.values() for title in re.findall(r"<h1[^>]*>([\w.]+)<", page)}
    names = public_names()
    assert len(names) > 200
    assert sorted(names - anchors - titles) == []

    commands = [command.name or command.callback.__name__ for command in app.registered_commands]  # type: ignore[union-attr]
    assert "run" in commands
    assert [name for name in commands if f'id="lava-snnlearn-{name}"' not in pages["command_line"]] == []

    # roles of reStructuredText are links, where their target is on a page, or code
    assert [name for name, page in pages.items() if re.search(r":(class|func|meth|mod|data|attr):", page)] == []
    assert 'href="training.html#lava_snnlearn.training.Trainer"' in pages["distributed"]
    # asterisks of powers and of shapes are no emphasis
    prose = [re.sub(r"<(code|pre)[ >].*?</\1>", "", page, flags=re.DOTALL) for page in pages.values()]
    assert sum("2**" in page for page in prose) > 1
    assert [found for page in prose for found in re.findall(r"<(?:em|strong)>[^<]*[\[\];][^<]*<", page)] == []


@pytest.fixture
def hook() -> Any:
    spec = importlib.util.spec_from_file_location("docstrings_hook", ROOT / "docs" / "hooks" / "docstrings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def visited(source: str, hook: Any) -> griffe.Module:
    with griffe.temporary_visited_module(source, module_name="sample") as module:
        hook.rewrite(module)
        return module


def test_a_role_that_names_nothing_is_a_warning(hook: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Strict builds count the warnings of loggers below mkdocs."""
    source = 'def there(): ...\n\ndef f():\n    """See :func:`there`, not :func:`~sample.nowhere`."""\n'
    with caplog.at_level(logging.WARNING):
        docstring = visited(source, hook)["f"].docstring
    assert docstring.value == 'See <autoref optional identifier="sample.there"><code>there</code></autoref>, not `nowhere`.'
    assert [(row.name.split(".")[0], "'sample.nowhere'" in row.getMessage()) for row in caplog.records] == [("mkdocs", True)]


def test_lists_of_parameters_and_errors_become_sections(hook: Any) -> None:
    source = '''
def f(x, y):
    """One line.

    x: first.
    y: second,
        which is long.

    Raises:
        ValueError: x is
        bad. TypeError, KeyError: y is.

    Code::

        f(1, 2)

    note: is no parameter.
    """
'''
    docstring = visited(source, hook)["f"].docstring
    assert docstring.value == (
        "One line.\n\nArgs:\n    x: first.\n    y: second,\n        which is long.\n\n"
        "Raises:\n    ValueError: x is bad.\n    TypeError, KeyError: y is.\n\nCode:\n\n    f(1, 2)\n\nnote: is no parameter."
    )


def test_one_line_may_describe_several_attributes(hook: Any) -> None:
    source = '''
class Shape:
    """One line.

    Attributes:
        x, y: places. name: of it; note: this
            is text. size: in
            metres.
    """

    x: int
    y: int
    name: str
    size: float
'''
    docstring = visited(source, hook)["Shape"].docstring
    assert docstring.value == (
        "One line.\n\nAttributes:\n    x,\u00a0y (int): places.\n    name: of it; note: this\n        is text."
        "\n    size: in\n        metres."
    )
    items = griffe.parse_google(docstring)[1].value
    assert [(item.name, str(item.annotation), item.description) for item in items] == [
        ("x,\u00a0y", "int", "places."),
        ("name", "str", "of it; note: this\nis text."),
        ("size", "float", "in\nmetres."),
    ]


def test_a_function_hides_its_module_where_a_package_offers_it(hook: Any) -> None:
    files = {
        "__init__.py": 'from sample.place import place\n\n__all__ = ["place"]\n',
        "place.py": 'def place() -> None:\n    """Place."""\n',
    }
    with griffe.temporary_pypackage("sample", modules=files) as package:
        loader = griffe.GriffeLoader(search_paths=[package.tmpdir], extensions=griffe.Extensions(hook.Docstrings()))
        found = loader.load("sample")["place"]
    assert found.is_function
    assert found.docstring.value == "Place."


def test_the_citation_file_has_the_papers_of_the_library() -> None:
    file = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert file["version"] == snn.__version__
    papers = list(citations._PAPERS.values())
    assert len(file["references"]) == len(papers)
    for paper, entry in zip(papers, file["references"], strict=True):
        authors = [f"{author['given-names']} {author['family-names']}" for author in entry["authors"]]
        title = entry["title"] if entry["title"].endswith("?") else f"{entry['title']}."
        short = f"{authors[0]} et al. {title} "
        assert paper.startswith((f"{', '.join(authors)}. {title} ", short))
        assert paper.endswith(f"{entry['year']}.")
        venue = entry.get("journal") or entry.get("collection-title") or entry["identifiers"][0]["value"]
        assert venue in paper
        for number in ("volume", "issue", "start", "end"):
            assert re.search(rf"\b{entry.get(number, entry['year'])}\b", paper)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    for link in links:
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_links_of_the_tutorials_lead_somewhere() -> None:
    for path in (ROOT / "tutorials").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "".join(line for cell in cells if cell["cell_type"] == "markdown" for line in cell["source"])
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            assert link.startswith("https://") or (path.parent / link).exists(), (path.name, link)


@pytest.mark.parametrize("place", ["README.md", "docs/guides/tutorials.md"])
def test_every_tutorial_is_listed(place: str) -> None:
    text = (ROOT / place).read_text(encoding="utf-8")
    assert [path.name for path in (ROOT / "tutorials").glob("*.ipynb") if path.name not in text] == []
