"""Griffe extension: the docstrings of this package, for a reader of Markdown.

Roles of reStructuredText (``:class:`~lava_snnlearn.training.Trainer` ``) become links; one that names nothing is a warning,
which fails a strict build. Lists of parameters and errors become sections in Google's style, however they are written. A name
that a package offers from a module of the same name is what it offers, not the module.
"""

from __future__ import annotations

import logging
import re
import textwrap
from typing import Any

import griffe

LOGGER = logging.getLogger("mkdocs.plugins.lava_snnlearn.docstrings")
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(~?)\.?([\w.]+)`")
ALONE = re.compile(r"^[ \t]*::[ \t]*\n", re.MULTILINE)  # announces a block of code
LITERAL_BLOCK = re.compile(r"::(?=[ \t]*\n\s*\n)")
UNDERLINED = re.compile(r"^(Parameters|Raises|Returns)\n-{3,}\n((?:.+\n?)*)", re.MULTILINE)
RAISES = re.compile(r"^Raises:\n((?: +.+\n?)+)", re.MULTILINE)
ERROR = re.compile(r"(?:^|(?<=[.;,] ))((?:\w+, )*\w+(?:Error|Exception)): ")
ITEM = re.compile(r"(\w+)(?:, \w+)*: ")
LIST = re.compile(r"^(Args|Attributes):\n((?: +.+\n?)+)", re.MULTILINE)
ONE_MORE = re.compile(r"(?<=[.;])(?: |\n +)(?=((?:\w+, )*\w+): )")  # where a list goes on within a line
SEVERAL = re.compile(r"^( *)((?:\w+, )+\w+)(?=: )", re.MULTILINE)
TABLE = re.compile(r"^(=+(?: +=+)+)\n(?:.+\n)+?\1\n(?:.+\n)+?\1$", re.MULTILINE)
OWN_PARAGRAPH = re.compile(r"(?<=\S)\n(?=(?:Ports|Vars|Units|Source): )")


class Docstrings(griffe.Extension):
    """Rewrites every docstring of the package once it has been read."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        rewrite(pkg)
        show_what_is_offered(pkg)


def show_what_is_offered(package: griffe.Module) -> None:
    """Griffe takes a name for the module where the package has both: ``placement.place`` is the function."""
    for name, inner in list(package.members.items()):
        if inner.is_alias or not isinstance(inner, griffe.Module):
            continue
        show_what_is_offered(inner)
        if name in map(str, package.exports or ()) and name in inner.members:
            package.members[name] = griffe.Alias(name, inner.members[name], parent=package)


def rewrite(obj: griffe.Object) -> None:
    """Rewrite the docstrings of an object and of all that it holds."""
    if obj.docstring is not None:
        obj.docstring.value = as_markdown(obj, obj.docstring.value)
    for member in obj.members.values():
        if not member.is_alias:
            rewrite(member)


def as_markdown(obj: griffe.Object, text: str) -> str:
    """A docstring with sections of Google's style, links instead of roles, and code blocks as Markdown has them."""
    text = UNDERLINED.sub(lambda found: section(found[1].replace("Parameters", "Args"), found[2]), text)
    text = "\n\n".join(section("Args", part) if lists_parameters(obj, part) else part for part in text.split("\n\n"))
    text = LIST.sub(lambda found: one_an_item(obj, found), text)
    text = RAISES.sub(lambda found: errors(found[1]), text)
    text = TABLE.sub(lambda found: f"```text\n{found[0]}\n```", text)
    text = OWN_PARAGRAPH.sub("\n\n", text)
    text = ROLE.sub(lambda role: link(obj, role[2], bool(role[1])), text)
    return LITERAL_BLOCK.sub(":", ALONE.sub("", text))


def section(title: str, lines: str) -> str:
    """A section in Google's style."""
    return f"{title}:\n{textwrap.indent(lines, '    ')}"


def lists_parameters(obj: griffe.Object, paragraph: str) -> bool:
    """Whether a paragraph is a list ``name: what it is`` of parameters or attributes, further lines of each indented."""
    found = ITEM.match(paragraph)
    if found is None or not isinstance(obj, griffe.Class | griffe.Function):
        return False
    if not all(line.startswith("    ") or ITEM.match(line) for line in paragraph.splitlines()):
        return False
    return found[1] in names_of(obj)


def names_of(obj: griffe.Class | griffe.Function) -> set[str]:
    """Names of parameters and attributes."""
    return {*obj.all_members, *(parameter.name for parameter in obj.parameters)}


def one_an_item(obj: griffe.Object, found: re.Match[str]) -> str:
    """A list of parameters or attributes, each with lines of its own; "x, y: both at once" stays one item."""
    title, lines = found[1], found[2]
    if not isinstance(obj, griffe.Class | griffe.Function):
        return found[0]
    names, indent = names_of(obj), re.match(" +", lines)

    def begin(one: re.Match[str]) -> str:
        return f"\n{indent[0]}" if names.issuperset(one[1].split(", ")) else one[0]

    def typed(several: re.Match[str]) -> str:
        """Of attributes, griffe reads all behind a space as the type, and finds none for several names."""
        types = {str(obj.all_members[name].annotation): None for name in several[2].split(", ") if name in obj.all_members}
        return several[1] + several[2].replace(", ", ",\u00a0") + f" ({' | '.join(types)})"

    lines = ONE_MORE.sub(begin, lines)
    return f"{title}:\n" + (SEVERAL.sub(typed, lines) if title == "Attributes" else lines)


def errors(lines: str) -> str:
    """The section on errors with a line for each of them; plain text where it names none."""
    text = " ".join(lines.split())
    first, *pairs = ERROR.split(text)
    if first or not pairs:
        return f"Raises: {text}\n"
    items = [f"    {name}: {what.strip()}" for name, what in zip(pairs[::2], pairs[1::2], strict=True)]
    return "\n".join(["Raises:", *items, ""])


def link(obj: griffe.Object, target: str, last_part_only: bool) -> str:
    """A link to what a role names; only its code where that is on no page."""
    shown = target.rpartition(".")[2] if last_part_only else target
    path = resolved(obj, target)
    if path is None:
        LOGGER.warning("%s: the docstring of %s names %r, which is nowhere", obj.relative_filepath, obj.path, target)
        return f"`{shown}`"
    return f'<autoref optional identifier="{path}"><code>{shown}</code></autoref>'


def resolved(obj: griffe.Object, target: str) -> str | None:
    """Full path of the object that a docstring means by a name: one of its own, of what encloses it, or a full path."""
    first, *others = target.split(".")
    if first == obj.package.name:
        return member_of(obj.package, others)
    scope: griffe.Object | None = obj
    while scope is not None:
        found = member_of(scope, [first, *others])
        if found is not None:
            return found
        scope = scope.parent
    return None


def member_of(scope: griffe.Object, parts: list[str]) -> str | None:
    """Full path of a member of a member ... of an object; None if there is none."""
    found: griffe.Object | griffe.Alias = scope
    try:
        for part in parts:
            found = found.all_members[part]
        return found.canonical_path
    except (KeyError, griffe.AliasResolutionError):
        return None
