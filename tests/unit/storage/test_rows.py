"""What the columns of a row are made of."""

from storage import entry as entries
from storage import rows
from storage.entry import Chunk, Encoded, Usage
from tests.suites.entries import SPECIAL, made

STEPS = 17
TOKEN_IDS, LENGTHS, TAGS = 23, 24, 28


def test_steps_are_kept_as_they_are() -> None:
    """Not made anew, and yet what making them anew would give."""
    for name, item in SPECIAL.items():
        assert rows.row(Encoded.of(item))[STEPS] == entries.encode_steps(item.chunks), name


def test_arrays_are_postgres_own_text() -> None:
    """Whatever is in a tag; no tokens are something else than unknown ones."""
    steps = (Chunk(content="ab", token_ids=(7,)), Chunk(content="c", token_ids=(8, 9)), Chunk(usage=Usage(1, 3)))
    row = rows.row(Encoded.of(made("a", chunks=steps, tags=("plain", 'a "b", \\c'))))
    assert (row[TOKEN_IDS], row[LENGTHS], row[TAGS]) == ("{7,8,9}", "{2,1}", '{"plain","a \\"b\\", \\\\c"}')
    row = rows.row(Encoded.of(made("a", chunks=(*steps, Chunk(content="d")))))
    assert (row[TOKEN_IDS], row[LENGTHS], row[TAGS]) == (None, "{2,1,1}", "{}")
