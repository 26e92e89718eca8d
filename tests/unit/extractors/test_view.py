"""What is shown of a run: everything that was found, where it stands, and never anything that runs."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.grounded import Grounded, merged
from extractors.view import page

EVIL = "</title></style></script><script>alert(1)</script><img src=x onerror=alert(2)>\"' &amp; \x00\x1b \ud800"
TEXT = "Aspirin 100 mg twice daily."


class Seen(HTMLParser):
    """What a browser would see: elements, their attributes, and the text of the document."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.marks: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self._inside = False
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._inside |= tag == "article"
        if tag == "mark":
            self._open.append(dict(attrs)["title"] or "")
            self.marks.append((self._open[-1], ""))

    def handle_endtag(self, tag: str) -> None:
        """It ends."""
        self._inside &= tag != "article"
        if tag == "mark":
            self._open.pop()

    def handle_data(self, data: str) -> None:
        """Words."""
        if self._inside:
            self.text += data


def record(start: int | None, end: int | None, **fields: Any) -> Grounded:
    """One of a drug."""
    said = TEXT[start:end] if start is not None else "nowhere"
    return Grounded(**({"name": "drug", "text": said, "start": start, "end": end, "alignment": "match_exact"} | fields))


@pytest.mark.parametrize("where", ["title", "text", "class", "said", "attribute"])
def test_nothing_that_is_said_becomes_a_part_of_the_page(where: str) -> None:
    """Wherever it is said."""
    said = {"title": "t", "text": TEXT, "class": "drug", "said": "Aspirin", "attribute": "x"} | {where: EVIL}
    found = Grounded(
        name=said["class"],
        text=said["said"],
        attributes={said["attribute"]: said["attribute"], "list": [said["attribute"]]},
        start=0,
        end=7,
        alignment="match_fuzzy",
    )
    content = page(said["title"], said["text"], [found, record(None, None, name=said["class"])])
    seen = Seen(content)
    assert seen.tags.isdisjoint({"script", "img", "iframe", "link", "object"})
    assert not [name for name in seen.attributes if name.startswith("on")]
    assert content.encode().decode().count("<title>") == 1
    assert "default-src" in content
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", content)


def test_everything_is_shown() -> None:
    """Where it stands, what is said of it, and what was not found."""
    records = [
        record(0, 7, attributes={"dose": "100 mg", "times": 2}),
        record(8, 14, name="dose", alignment="match_lesser", text="100 milligrams"),
        record(None, None),
    ]
    content = page("A run", TEXT, records)
    seen = Seen(content)
    assert seen.text == TEXT
    assert [title for title, _ in seen.marks] == [
        "drug\ndose: 100 mg\ntimes: 2",
        "dose\n(lesser match of: 100 milligrams)",
    ]
    for part in ("not found", "not letter for letter", '<a href="#r1">0–7</a>', "nowhere"):
        assert part in content


@given(st.lists(st.tuples(st.integers(0, len(TEXT)), st.integers(0, len(TEXT)))))
def test_however_they_overlap_the_text_is_the_text(places: list[tuple[int, int]]) -> None:
    """And each of them that has words has a mark with its place."""
    records = [record(min(place), max(place)) for place in places]
    content = page("t", TEXT, records)
    assert Seen(content).text == TEXT
    for number, one in enumerate(records):
        if one.start != one.end:
            assert content.count(f'id="r{number + 1}"') == 1


def test_a_later_pass_adds_what_is_new() -> None:
    """What stands where something was found before does not; what was found nowhere does."""
    first, again, other, inside = record(0, 7), record(3, 9), record(15, 20), record(16, 18)
    lost = record(None, None)
    assert merged([]) == []
    assert merged([[first], [again, other, inside, lost], [lost]]) == [first, other, lost, lost]
