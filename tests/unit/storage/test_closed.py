"""What does not count, in a bounded map: never less than was said."""

import hashlib

import msgspec
import pytest

from storage import closed as module
from storage.closed import Closed, Kind
from storage.entry import Query
from tests.suites.entries import made

KINDS: tuple[Kind, ...] = ("key", "model", "tag", "prompt")


def value(kind: Kind, number: int) -> str:
    """What a deletion names."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return digest if kind in ("key", "prompt") else f"{kind}-{number}"


def asked(kind: Kind, number: int) -> tuple[Query, tuple[str, ...]]:
    """A question that such a deletion is about, and its tags."""
    query, named = made("a").query, value(kind, number)
    if kind == "tag":
        return query, ("other", named)
    field = {"key": "key", "prompt": "prompt_hash", "model": "model"}[kind]
    return msgspec.structs.replace(query, **{field: named if kind == "model" else bytes.fromhex(named)}), ()


@pytest.mark.parametrize("kind", KINDS)
def test_however_many_are_named_none_is_forgotten(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    """Beyond the bound all that is old is closed; what is asked for anew counts, and so does what others have."""
    monkeypatch.setattr(module, "MOST", 10)
    closed = Closed()
    for number in range(1, 101):
        closed.close(kind, value(kind, number), number)
        assert len(closed) <= 11
        assert all(closed.last(*asked(kind, one)) >= one for one in range(1, number + 1))
        assert closed.last(*asked(kind, number)) == number
    assert closed.last(made("never named").query, ()) <= 95, "what was asked for lately counts still"


def test_the_latest_number_stays() -> None:
    """Though an older one comes in later, and though it is said again and again."""
    closed = Closed()
    for number in (3, 7, 5):
        closed.close("tag", "x", number)
    assert (closed.last(made("a").query, ("x",)), closed.tags, len(closed)) == (7, 7, 1)
    closed.close("all", "", 9)
    assert (closed.last(made("a").query, ()), len(closed)) == (9, 1)


def test_what_is_too_old_to_matter_is_forgotten() -> None:
    """With everything before it."""
    closed = Closed()
    closed.close("all", "", 3)
    closed.close("tag", "x", 5)
    closed.prune(5)
    assert (closed.last(made("a").query, ()), closed.last(made("a").query, ("x",))) == (0, 5)
    closed.prune(6)
    assert len(closed) == 0
