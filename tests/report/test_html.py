"""report.html: one file that holds everything, says the verdict, and trusts no text."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from matplotlib.figure import Figure

from lava_snnlearn.report import write_report


def figure(width: float = 3) -> Figure:
    made = Figure(figsize=(width, 2))
    made.subplots().plot([1, 2], [3, 4])
    return made


def report(folder: Path, **changes: Any) -> str:
    content: dict[str, Any] = {
        "title": "OTTT on digits",
        "verdict": "Verified: 8 samples",
        "ok": True,
        "tables": {"Result": [["", "accuracy"], ["float", "0.97"]]},
        "figures": {"Some Curves": (figure(), "a caption"), "Raster": (figure(5), "spikes")},
        "text": {"Notes": "line 1\nline 2"},
    }
    return write_report(folder, **(content | changes)).read_text(encoding="utf-8")


def test_everything_is_in_it(tmp_path: Path, page: Any) -> None:
    html = report(tmp_path / "new" / "folder")
    seen = page(html)
    assert seen.open == []
    for part in (
        "OTTT on digits",
        "Verified: 8 samples",
        "accuracy",
        "0.97",
        "a caption",
        "spikes",
        "line 1\nline 2",
        "Some Curves",
    ):
        assert part in seen.text
    assert seen.elements.count("img") == 2
    assert seen.elements.count("td") == 2
    assert html.startswith("<!doctype html>")
    assert '<meta charset="utf-8">' in html


def test_it_is_self_contained(tmp_path: Path, page: Any) -> None:
    html = report(tmp_path)
    seen = page(html)
    assert seen.sources
    assert all(source.startswith("data:image/png;base64,") for source in seen.sources)
    without_pictures = re.sub(r"base64,[^\"]*", "", html)
    assert not re.search(r"https?:|//|url\(|@import", without_pictures)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(seen.elements)


def test_pngs_are_valid_and_the_same_as_in_the_page(tmp_path: Path, page: Any) -> None:
    seen = page(report(tmp_path))
    files = [tmp_path / "some_curves.png", tmp_path / "raster.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raster.png", "report.html", "some_curves.png"]
    for path, source, width in zip(files, seen.sources, (3, 5), strict=True):
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        pixels = matplotlib.image.imread(path)
        assert pixels.shape[:2] == (2 * 110, width * 110)
        assert pixels[..., :3].std() > 0.01, "the picture is blank"
        assert base64.b64decode(source.split(",")[1]) == content


def test_text_is_escaped_everywhere(tmp_path: Path, page: Any) -> None:
    evil = "<script>alert('x')</script> & \"quotes\""
    html = report(
        tmp_path,
        title=evil,
        verdict=evil,
        tables={evil: [[evil, ""], ["", evil]]},
        figures={'Plot" onload="alert(1)': (figure(), evil)},
        text={evil: evil},
    )
    seen = page(html)
    assert "script" not in seen.elements
    assert "<script" not in html
    assert 'onload="' not in html
    assert seen.text.count(evil) == 9  # title twice, verdict, heading and two cells, caption, heading and text


@pytest.mark.parametrize(("ok", "look", "other"), [(True, "ok", "bad"), (False, "bad", "ok")])
def test_the_verdict_looks_like_what_it_says(tmp_path: Path, ok: bool, look: str, other: str) -> None:
    html = report(tmp_path, ok=ok, verdict="the verdict")
    assert f'<p class="verdict {look}">the verdict</p>' in html
    assert f'"verdict {other}"' not in html


def test_an_unwritable_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write .*Choose a folder"):
        report(tmp_path / "file")


def test_a_report_is_replaced_whole(tmp_path: Path) -> None:
    report(tmp_path)
    assert "second" in report(tmp_path, title="second")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
