"""A proof as JSON -> lines for a terminal: where two answers part, with the end of what both say and how each goes on.

Pure. What models say is shown without control characters.
"""

import math
from collections.abc import Iterable
from typing import Any, Final

from rich.cells import cell_len

from gateway.printing import printable

_BEFORE: Final = 36
_AFTER: Final = 48
_MARGIN: Final = "    "


def picture(proof: dict[str, Any]) -> list[str]:
    """All there is to say of one proof; one line for an answer that is the same."""
    lines = [f"{proof['outcome']:9}  {proof['key']}  {proof['model']}, {_extent(proof)}"]
    if proof["divergence"]:
        parting = _distance if proof["compared"] == "vector" else _parting
        lines += [_MARGIN + line for line in parting(proof["divergence"])]
    lines += [f"{_MARGIN}! {printable(note)}" for note in _notes(proof)]
    return lines


def _extent(proof: dict[str, Any]) -> str:
    if proof["compared"] == "vector":
        return "compared by its vector"
    tokens = [choice["tokens"][0] for choice in proof["choices"]]
    return f"{sum(tokens)} tokens compared" if proof["compared"] == "tokens" else "compared by its text"


def _parting(where: dict[str, Any]) -> list[str]:
    before = printable(where["before"])
    shown = before if len(before) <= _BEFORE else "…" + before[-_BEFORE:]
    then, now = (_continued(where[name]) for name in ("then", "now"))
    pad = " " * cell_len(shown)
    tokens = [_token(name, where[name]) for name in ("then", "now")]
    return [_place(where), "", f"{shown}┬ then: {then}", f"{pad}└ now:  {now}", "", *filter(None, tokens)]


def _place(where: dict[str, Any]) -> str:
    choice = f" of choice {where['choice']}" if where["choice"] else ""
    if where["where"] == "finish_reason":
        return f"the reason for the end{choice}"
    if where["where"] == "tokens":
        return f"token {where['token']}{choice}, behind the same text"
    token = f"token {where['token']} and " if where["token"] is not None else ""
    return f"{token}character {where['character']} of the {where['where'].replace('_', ' ')}{choice}"


def _continued(alternative: dict[str, Any]) -> str:
    text = printable(alternative["text"])
    if not text:
        return f"[ends: {alternative['finish_reason']}]" if alternative["finish_reason"] else "[nothing]"
    return text if len(text) <= _AFTER else text[:_AFTER] + "…"


def _token(name: str, alternative: dict[str, Any]) -> str:
    """The token itself, how likely it was, and how likely the other one in its place."""
    if alternative["token_id"] is None and alternative["token"] is None:
        return ""
    said = [f"{name + ':':5} token"]
    said += [str(alternative["token_id"])] if alternative["token_id"] is not None else []
    said += [f"'{printable(alternative['token'])}'"] if alternative["token"] is not None else []
    likely = [f"{_percent(alternative['logprob'])} likely"] if alternative["logprob"] is not None else []
    other = alternative["other_logprob"]
    likely += [f"the other's {_percent(other)}"] if other is not None else []
    return " ".join(said) + (f", {', '.join(likely)}" if likely else "")


def _percent(logprob: float) -> str:
    return f"{100 * math.exp(min(logprob, 0)):.3g} %"


def _distance(where: dict[str, Any]) -> Iterable[str]:
    then, now = where["dimensions"]
    if then != now:
        return [f"{then} dimensions then, {now} now"]
    close = f"largest difference {where['max_difference']:.3g}"
    angle = "" if where["cosine"] is None else f", cosine {where['cosine']:.9f}"
    return [f"dimension {where['dimension']}: {where['then']:.9g} then, {where['now']:.9g} now; {close}{angle}"]


def _notes(proof: dict[str, Any]) -> list[str]:
    unkept = "The outcome could not be kept with the answer."
    return proof["notes"] if proof["kept"] else [*proof["notes"], unkept]
