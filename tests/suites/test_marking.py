"""What a search marks stands where it says, whatever else is in the text."""

from typing import Any

import asyncpg
import pytest

from gateway.searching.told import highlights
from storage.search import Found, Place

TEXTS = (
    "The <b>doses</b> of a dose: <a href='http://dose.example/a?b=dose'>dose</a> &amp; more",
    "e-mail dose@dose.example, https://example.org/dose/one.html, 3.5e4 mg dose, /usr/dose/file.txt",
    "Dose\r\n\r\ndosing\tdose\u2028dose \x01dose\x02 end\x01",
    "👩‍⚕️ dose e\u0301tat dose 阿司匹林dose dose\u00a0dose",
    "dose-dependent well-dosed high-dose-therapy dose's don't d.o.s.e",
    "<!-- dose --> <dose> </dose> <dose attr='dose'/> a<b dose c>d, a dose",
    "dose " * 180,
    "nothing",
)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("wanted", ["the dose", '"high dose"', "the", "-dose", "!!", "dose or mail"])
async def test_marks_are_places_in_the_text(shared_database_url: str, text: str, wanted: str) -> None:
    """Each is a word of the text, none is out of place, and where the words are, some are marked."""
    connection: Any = await asyncpg.connect(shared_database_url)
    try:
        marked = await connection.fetchval("select askonce.marked($1, $2)", text, wanted)
    finally:
        await connection.close()
    bare = marked.replace("\x01", "").replace("\x02", "")
    assert bare == text.replace("\x01", " ").replace("\x02", " ")
    places = highlights(Found(place=Place("chunk", (1,)), fields={"text": text}, marked=marked))
    words = [text[start:end] for start, end in places]
    assert all(word and word == word.strip() for word in words)
    if wanted == "the dose" and "dose" in text:
        assert "dose" in {word.lower() for word in words}
