"""A document and its records in; a page that shows them out: the words coloured where they stand, a list beside them.

The page is made of escaped text alone. It has no script, loads nothing, and forbids both by its own policy: what a
document says is shown and never run.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from itertools import pairwise
from typing import Final

from extractors.grounded import Grounded

_HUES: Final = 360
_STEP: Final = 137
"""Degrees: the golden angle, so that colours next to each other are far from each other."""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_CONTROLS: Final = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {0x7F: 0x2421}
"""What cannot be in HTML is shown by its picture."""


def page(title: str, text: str, records: Sequence[Grounded]) -> str:
    """The page, as HTML."""
    classes = {name: place for place, name in enumerate(sorted({record.name for record in records}))}
    style = resources.files("extractors").joinpath("view.css").read_text("utf-8") + _colours(classes)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_safe(title)}</title><style>{style}</style></head>\n"
        f"<body><header><h1>{_safe(title)}</h1>{_legend(classes, records)}</header>"
        f'<main><article dir="auto">{_marked(text, records, classes)}</article>{_table(text, records, classes)}</main>'
        "</body></html>\n"
    )


def _safe(text: str) -> str:
    """`text` as it may stand in HTML, attributes too."""
    return escape(text.encode(errors="replace").decode().translate(_CONTROLS))


def _colours(classes: Mapping[str, int]) -> str:
    rules = [f".c{place} {{ --hue: {place * _STEP % _HUES}; }}" for place in range(len(classes))]
    return "\n" + "\n".join(rules) + "\n"


def _legend(classes: Mapping[str, int], records: Sequence[Grounded]) -> str:
    counts = Counter(record.name for record in records)
    items = [f'<li class="c{place}"><b></b>{_safe(name)} <i>{counts[name]}</i></li>' for name, place in classes.items()]
    return f"<ul>{''.join(items)}</ul>"


def _marked(text: str, records: Sequence[Grounded], classes: Mapping[str, int]) -> str:
    """The text, each stretch of it within a mark for every record that is there: they may overlap in any way."""
    begins: defaultdict[int, list[int]] = defaultdict(list)
    ends: defaultdict[int, list[int]] = defaultdict(list)
    for number, record in enumerate(records):
        if record.place is not None and record.place[0] < record.place[1] <= len(text):
            begins[record.place[0]].append(number)
            ends[record.place[1]].append(number)
    found: list[str] = []
    here: dict[int, None] = {}
    for start, end in pairwise(sorted({0, len(text), *begins, *ends})):
        for number in ends[start]:
            del here[number]
        here |= dict.fromkeys(begins[start])
        said = _safe(text[start:end])
        for number in reversed(here):
            said = _mark(said, number, records[number], classes, is_first=records[number].start == start)
        found.append(said)
    return "".join(found)


def _mark(said: str, number: int, record: Grounded, classes: Mapping[str, int], *, is_first: bool) -> str:
    name = f' id="r{number + 1}"' if is_first else ""
    return f'<mark{name} class="c{classes[record.name]}" title="{_safe(_told(record))}">{said}</mark>'


def _told(record: Grounded) -> str:
    lines = [record.name, *(f"{name}: {_shown(value)}" for name, value in (record.attributes or {}).items())]
    if record.alignment and record.alignment != "match_exact":
        lines.append(f"({record.alignment.removeprefix('match_')} match of: {record.text})")
    return "\n".join(lines)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(text: str, records: Sequence[Grounded], classes: Mapping[str, int]) -> str:
    rows = "".join(_row(number, record, text, classes) for number, record in enumerate(records))
    heads = "".join(f"<th>{name}</th>" for name in ("", "class", "text", "attributes", "where"))
    return f"<aside><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></aside>"


def _row(number: int, record: Grounded, text: str, classes: Mapping[str, int]) -> str:
    place = record.place
    where = f'<a href="#r{number + 1}">{place[0]}–{place[1]}</a>' if place else "<em>not found</em>"
    if place and not record.verbatim(text):
        where += " <em>not letter for letter</em>"
    said = "<br>".join(f"{_safe(name)}: {_safe(_shown(value))}" for name, value in (record.attributes or {}).items())
    cells = (str(number + 1), f"<b></b>{_safe(record.name)}", _safe(record.text), said, where)
    return f'<tr class="c{classes[record.name]}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
