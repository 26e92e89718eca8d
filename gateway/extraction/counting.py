"""What came of a run, in numbers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final

from storage.extracted import Call, Record

_STATUSES: Final = ("ok", "empty", "refused", "truncated", "invalid", "failed")
_HITS: Final = frozenset({"hit", "coalesced"})


def counts(calls: Sequence[Call], chunks: int) -> dict[str, Any]:
    """How many chunks there are and were asked about, how often, and with what outcome; and how many records."""
    done = {call.chunk for call in calls if call.chosen} - {call.chunk for call in calls if _has_failed(call)}
    asked = {call.chunk for call in calls}
    outcomes = Counter(call.status for call in calls if call.chosen)
    answered = [call for call in calls if call.key is not None]
    records = [record for call in calls for record in call.records if record.kept]
    return {
        "chunks": chunks,
        "chunks_done": len(done),
        "calls": len(calls),
        "hits": sum(call.cache in _HITS for call in answered),
        **{status: outcomes[status] for status in _STATUSES},
        "pending": chunks - len(asked),
        **of_records(records),
    }


def _has_failed(call: Call) -> bool:
    """Whether a pass ended without an answer."""
    return call.chosen and call.status == "failed"


def of_records(records: Sequence[Record]) -> dict[str, int]:
    """How many there are, are said letter for letter by the text, stand nowhere in it, and do not fit the recipe."""
    return {
        "records": len(records),
        "verbatim": sum(record.quote == record.text for record in records),
        "unaligned": sum(record.start is None for record in records),
        "unfit": sum(not record.fits for record in records),
    }


def usage(calls: Iterable[Call]) -> dict[str, Any]:
    """Tokens, as the models counted them when they were asked, and those that nobody had to compute now."""
    counted = [call for call in calls if call.key is not None]
    prompt, completion = (sum(getattr(call, name) or 0 for call in counted) for name in _TOKENS)
    saved = sum((call.prompt_tokens or 0) + (call.completion_tokens or 0) for call in counted if call.cache in _HITS)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "askonce": {"calls": sum(call.cache not in _HITS for call in counted), "saved_tokens": saved},
    }


_TOKENS: Final = ("prompt_tokens", "completion_tokens")


def by_chunk(calls: Iterable[Call]) -> list[list[Call]]:
    """The calls of each chunk, in order."""
    ordered = sorted(calls, key=lambda call: (call.chunk, call.pass_number, call.attempt))
    return [list(some) for _, some in groupby(ordered, key=lambda call: call.chunk)]
