"""The steps of a second try in, and out what the first had not given yet, for as long as both say the same.

What is compared is what a client ends up with: the content, reasoning, refusal and tool calls of each choice, and how
it finished. Where steps were cut does not matter. Neither do the ids of tool calls: servers draw them anew each time,
and a client keeps those it has.
"""

from collections.abc import Generator, Iterable, Sequence
from typing import Any

import msgspec

from gateway.errors import AnswerChanged
from storage.entry import Chunk

_TEXTS = ("content", "reasoning", "refusal")
_LABELS = frozenset({"index", "id", "type"})
"""What names a tool call and is no part of what it says."""

Path = tuple[int | str, ...]
"""Where a text grows: a field of a step, or the number of a tool call and the fields below it."""


class Agreement:
    """Compares a second try with `had`, the steps of the first that were given."""

    def __init__(self, had: Iterable[Chunk]) -> None:
        self._usages = 0
        said: dict[int, list[Chunk]] = {}
        for step in had:
            if step.usage is not None:
                self._usages += 1
            else:
                said.setdefault(step.index, []).append(step)
        self._choices = {index: _Choice(steps) for index, steps in said.items()}

    def rest(self, step: Chunk) -> Chunk | None:
        """What is new in `step`, or None. Raises `AnswerChanged` before anything is given that follows a difference.

        A step that is cut loses its tokens and log-probabilities: there are none for half a step.
        """
        if step.usage is not None:
            self._usages -= 1
            return step if self._usages < 0 else None
        choice = self._choices.get(step.index)
        return choice.rest(step) if choice else step

    def end(self) -> None:
        """The second try is complete. Raises `AnswerChanged` when it says less than the first."""
        if not all(choice.repeated for choice in self._choices.values()):
            raise AnswerChanged


class _Choice:
    """One choice. While the very same steps come again there is nothing to cut; then texts are compared."""

    def __init__(self, had: Sequence[Chunk]) -> None:
        self._had = had
        self._same = 0
        self._texts: _Texts | None = None

    @property
    def repeated(self) -> bool:
        """Whether everything was said again."""
        return self._texts.repeated if self._texts else self._same == len(self._had)

    def rest(self, step: Chunk) -> Chunk | None:
        """What is new in `step`."""
        if self._texts is None:
            if self._same < len(self._had) and _said(step) == _said(self._had[self._same]):
                self._same += 1
                return None
            self._texts = _Texts(self._had, self._same)
        return self._texts.rest(step)


class _Texts:
    """The texts of one choice, the first `same` steps of which were repeated exactly."""

    def __init__(self, had: Sequence[Chunk], same: int) -> None:
        self._exact = same == len(had)
        self._begun = False
        self._finish = next((step.finish_reason for step in had if step.finish_reason), None)
        self._calls = {_place(call) for step in had for call in step.tool_calls}
        self._labels = {path for step in had for path, value in _leaves(step) if not _is_text(path, value)}
        self._left: dict[Path, tuple[str, int]] = {path: (text, 0) for path, text in _folded(had[same:]).items()}
        """What was not repeated yet: whole texts, and how far each has come."""

    @property
    def repeated(self) -> bool:
        """Whether everything was said again."""
        return not self._left

    def rest(self, step: Chunk) -> Chunk | None:
        """What is new in `step`."""
        texts = {name: self._take((name,), getattr(step, name)) for name in _TEXTS}
        calls = tuple(rest for call in step.tool_calls if (rest := self._call(call)) is not None)
        speaks = bool(calls) or any(texts.values())
        self._check(step, speaks=speaks)
        if self._finish or not (self._begun or self._exact or speaks or step.finish_reason):
            return None
        whole = self._begun or self._exact
        self._begun = True
        if whole:
            return msgspec.structs.replace(step, tool_calls=calls)
        return msgspec.structs.replace(
            step, **texts, tool_calls=calls, token_ids=None, logprobs=None, prompt_token_ids=None
        )

    def _check(self, step: Chunk, *, speaks: bool) -> None:
        """Nothing new may come before everything old has, nor after the end; and there is one end."""
        if speaks and (self._left or self._finish):
            raise AnswerChanged
        if step.finish_reason and (self._left or self._finish not in (None, step.finish_reason)):
            raise AnswerChanged

    def _take(self, path: Path, said: str) -> str:
        """What `said` adds to the text at `path`."""
        if path not in self._left:
            return said
        text, at = self._left[path]
        shared = min(len(said), len(text) - at)
        if not text.startswith(said[:shared], at):
            raise AnswerChanged
        if at + shared == len(text):
            del self._left[path]
        else:
            self._left[path] = text, at + shared
        return said[shared:]

    def _call(self, call: dict[str, Any]) -> dict[str, Any] | None:
        """What is new in the delta of a tool call."""
        place = _place(call)
        if place not in self._calls:
            return call
        rest = self._fields(call, (place,))
        return {"index": place, **rest} if rest else None

    def _fields(self, fields: dict[str, Any], above: Path) -> dict[str, Any]:
        rest: dict[str, Any] = {}
        for name, value in fields.items():
            path = (*above, name)
            if isinstance(value, dict):
                new: Any = self._fields(value, path)
            elif _is_text(path, value):
                new = self._take(path, value)
            else:
                new = None if path in self._labels or name == "index" else value
            if new:
                rest[name] = new
        return rest


def _said(step: Chunk) -> tuple[Any, ...]:
    """What makes two steps the same."""
    calls = [{name: value for name, value in call.items() if name != "id"} for call in step.tool_calls]
    return step.content, step.reasoning, step.refusal, step.finish_reason, step.token_ids, calls


def _folded(steps: Iterable[Chunk]) -> dict[Path, str]:
    """Every text of `steps`, joined."""
    parts: dict[Path, list[str]] = {}
    for path, value in (leaf for step in steps for leaf in _leaves(step)):
        if value and _is_text(path, value):
            parts.setdefault(path, []).append(value)
    return {path: "".join(texts) for path, texts in parts.items()}


def _leaves(step: Chunk) -> Generator[tuple[Path, Any]]:
    for name in _TEXTS:
        yield (name,), getattr(step, name)
    for call in step.tool_calls:
        yield from _below((_place(call),), call)


def _below(above: Path, fields: dict[str, Any]) -> Generator[tuple[Path, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _below((*above, name), value)
        else:
            yield (*above, name), value


def _is_text(path: Path, value: Any) -> bool:
    return isinstance(value, str) and path[-1] not in _LABELS


def _place(call: dict[str, Any]) -> int:
    return int(call.get("index") or 0)
