"""The report of a run as one self-contained HTML file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from lava_snnlearn.files import replacing, write_text

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; vertical-align: top; }
thead th { border-bottom: 1px solid #888; } td { border-bottom: 1px solid #eee; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } .scroll { overflow-x: auto; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: .85rem; }
.verdict { font-weight: 600; padding: .5rem .8rem; border-left: .4rem solid; }
.ok { border-color: #2c7a3f; background: #eef7f0; }
.bad { border-color: #b3261e; background: #fbeeed; } p.note { color: #555; }
"""


def _table(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def save_figures(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Write each figure as <name>.png, atomically."""
    for name, figure in figures.items():
        with replacing(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=110)


def write_report(
    folder: Path,
    title: str,
    verdict: str,
    ok: bool,
    tables: Mapping[str, Sequence[Sequence[str]]],
    figures: Mapping[str, tuple[Figure, str]],
    text: Mapping[str, str],
) -> Path:
    """Write the PNGs and report.html, which holds them all.

    Args:
        folder: where to; made if need be.
        title, verdict, ok: headline, result of the verification, and whether it is good.
        tables: heading -> rows of cells, the first row is the head.
        figures: heading -> (figure, caption); saved as PNG under the heading with underscores.
        text: heading -> preformatted text.

    Returns:
        Path of report.html. Raises OSError where the folder cannot be written.
    """
    names = {heading: heading.lower().replace(" ", "_") for heading in figures}
    save_figures(folder, {names[heading]: figure for heading, (figure, _) in figures.items()})
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="verdict {"ok" if ok else "bad"}">{escape(verdict)}</p>']
    for heading, rows in tables.items():
        parts += [f"<h2>{escape(heading)}</h2>", _table(rows)]
    for heading, (_, caption) in figures.items():
        picture = base64.b64encode((folder / f"{names[heading]}.png").read_bytes()).decode()
        parts += [
            f"<h2>{escape(heading)}</h2>",
            f'<p class="note">{escape(caption)}</p><img alt="{escape(heading)}" src="data:image/png;base64,{picture}">',
        ]
    for heading, content in text.items():
        parts += [f"<h2>{escape(heading)}</h2>", f"<pre>{escape(content)}</pre>"]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )
    path = folder / "report.html"
    write_text(path, page)
    return path
