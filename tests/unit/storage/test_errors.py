"""What of an error may be shown: enough to act on, and nothing of what was asked or answered."""

import asyncpg
import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from storage.errors import RefusedError, StorageError, brief
from storage.redis import _refusal


def test_the_details_of_postgres_stay_out() -> None:
    """They have the row."""
    error = asyncpg.PostgresError.new({"C": "23514", "M": "new row violates it", "D": "Failing row contains (secret)"})
    assert "secret" in str(error)
    assert brief(error) == "CheckViolationError: new row violates it"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left"), "OSError: [Errno 28] No space left"),
        (TimeoutError(), "TimeoutError"),
        (StorageError("a sentence"), "a sentence"),
        (ValueError("x" * 1000), "ValueError: " + "x" * 200),
        (ValueError("first\nsecond"), "ValueError: first"),
    ],
    ids=str,
)
def test_an_error_is_one_short_line(error: Exception, said: str) -> None:
    """With its class, unless it is one of ours."""
    assert brief(error) == said


@pytest.mark.parametrize(
    ("reply", "refused", "said"),
    [
        (ResponseError("ERR unknown command `set`, with args beginning with: `k`, `secret`"), True, "`set`"),
        (ResponseError("ERR Protocol error: invalid bulk length"), True, "invalid bulk length"),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots"), False, "MISCONF"),
        (OutOfMemoryError("command not allowed"), False, "OutOfMemoryError: command not allowed"),
    ],
    ids=str,
)
def test_what_redis_refuses(reply: ResponseError, said: str, *, refused: bool) -> None:
    """Whether it is about the entry or about the server, without the command."""
    found = _refusal(reply)
    assert isinstance(found, RefusedError) is refused
    assert said in str(found)
    assert "secret" not in str(found)
