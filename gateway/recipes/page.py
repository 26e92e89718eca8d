"""A recipe -> a page for the terminal: what a model is told, the classes, the examples with their records marked."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

import click
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from extractors.grounded import Grounded
from extractors.recipe import Recipe
from gateway.printing import plain_json, printable
from gateway.recipes.trial import wanted

_COLOURS: Final = ("cyan", "magenta", "green", "yellow", "blue", "red")
_ENDLESS: Final = 10_000
"""Columns, where the output is no terminal: lines stay whole."""


def show(recipe: Recipe, source: str) -> None:
    """Print it; `source` says where it is from. Plain where the output is no terminal."""
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = _ENDLESS
    with console.capture() as capture:
        console.print(_page(recipe, source))
    click.echo("\n".join(map(str.rstrip, capture.get().splitlines())))


def lines(text: str) -> str:
    """`text` without what moves the cursor; its lines stay."""
    return "\n".join(map(printable, text.split("\n")))


def _page(recipe: Recipe, source: str) -> RenderableType:
    styles = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(recipe.classes)}
    title = Text.assemble((recipe.name, "bold"), f"  {recipe.edition}  ", (printable(source), "dim"))
    parts: list[RenderableType] = [title, Text(printable(recipe.title)), *_headed("Description")]
    parts.append(_inner(Text(lines(recipe.description.strip()))))
    for name, schema in recipe.classes.items():
        parts += [Text(), Text.assemble("Class ", (name, f"bold {styles[name]}")), _inner(_attributes(schema))]
    for number, example in enumerate(recipe.examples, 1):
        records = list(wanted(example))
        parts += _headed(f"Example {number}")
        parts += [_inner(_marked(example.text, records, styles)), Text(), _inner(_records(records, styles))]
    return Group(*parts)


def _headed(title: str) -> Sequence[RenderableType]:
    return Text(), Text(title, "bold")


def _inner(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2))


def _attributes(schema: dict[str, Any]) -> RenderableType:
    if not schema["properties"]:
        return Text("no attributes", "dim")
    rows = [(name, kind(value), value.get("description", "")) for name, value in schema["properties"].items()]
    return _table(rows)


def kind(schema: Any) -> str:
    """What values there are, in short: `string`, `taken | stopped`, `list of number`."""
    match schema:
        case {"enum": list(values)}:
            return " | ".join(map(_value, values))
        case {"const": value}:
            return _value(value)
        case {"anyOf": list(schemas)}:
            return " | ".join(map(kind, schemas))
        case {"type": "array", "items": items}:
            return f"list of {kind(items)}"
        case {"type": "object", "properties": dict(properties)}:
            return "{" + ", ".join(f"{name}: {kind(value)}" for name, value in properties.items()) + "}"
        case {"type": list(types)}:
            return " | ".join(map(str, types))
        case _:
            return str(schema.get("type", "anything"))


def _value(value: Any) -> str:
    return value if isinstance(value, str) else plain_json(value)


def _marked(text: str, records: Sequence[Grounded], styles: dict[str, str]) -> Text:
    """The text, its records underlined in the colours of their classes."""
    marked = Text()
    edges = sorted({0, len(text), *(edge for one in records for edge in one.place or ())})
    for start, end in pairwise(edges):
        here = [one.name for one in records if one.place and one.place[0] <= start and end <= one.place[1]]
        marked.append(lines(text[start:end]), f"underline {styles[here[-1]]}" if here else None)
    return marked


def _records(records: Iterable[Grounded], styles: dict[str, str]) -> RenderableType:
    rows = [(Text(one.name, styles[one.name]), one.text, _said(one.attributes or {})) for one in records]
    return _table(rows) if rows else Text("nothing", "dim")


def _said(attributes: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {_value(value)}" for name, value in attributes.items() if value not in ("", None))


def _table(rows: Iterable[Sequence[str | Text]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(lines(cell)) for cell in row))
    return table
