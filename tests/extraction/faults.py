"""What models and servers do wrong, put into a right answer on purpose: the text of an answer in, the spoilt one out.

What askonce has to make of each is known. The `last` is the last record of an answer: no mention of its words comes
after it, so that those which stay keep their places.

| fault         | what it is                                | status    | records that come of it       | asked again |
|---------------|-------------------------------------------|-----------|-------------------------------|-------------|
| fenced        | JSON in a fence                           | ok        | all                           | no          |
| two fences    | the list, in two fences                   | ok        | all                           | no          |
| words after   | prose after the JSON                      | ok        | all                           | no          |
| thoughts      | `<think>` before it                       | ok        | all                           | no          |
| bare list     | a list without its frame                  | ok        | all                           | no          |
| fields        | class and text in fields of their own     | ok        | all                           | no          |
| colon         | `medication_attributes:`                  | ok        | all                           | no          |
| named twice   | a name twice in the last                  | ok        | all: the second one counts    | no          |
| upper case    | all words in capitals                     | ok        | all, in capitals, where       | no          |
|               |                                           |           | they were, not verbatim       |             |
| backwards     | records in the other order                | ok        | all                           | no          |
| made up       | a word that no text has, in the middle    | ok        | all, and it without a place   | no          |
| no attributes | the last has none                         | ok        | all, the last with null       | no          |
| not a number  | NaN as the last's first attribute         | invalid   | all, that null, which is unfit| yes         |
| other type    | 7 as the last's first attribute           | invalid   | all, that 7, which is unfit   | yes         |
| other class   | the last is of a class nobody asked for   | invalid   | all but the last              | yes         |
| null          | the last's words are null                 | invalid   | all but the last              | yes         |
| no words      | the last's words are empty                | invalid   | all but the last              | yes         |
| cut           | ended by its length within a record       | truncated | those before that record      | yes         |
| refusal       | prose instead of JSON                     | refused   | none                          | yes         |
| nothing       | an empty answer                           | invalid   | none                          | yes         |
| unavailable   | 503                                       | failed    | none                          | silently    |
| silence       | no answer, until whoever asked has left   | failed    | none                          | silently    |

`ok` is `empty` where the text has no records. A fault is there `once`, and the next question is answered well, or
always. Where nothing is asked again, both come to the same. What is asked again silently is no try of its own: a fault
of that kind that is there once is not seen at all.

Three of these could be argued about. Where words in capitals stand follows from their tokens, which are compared in
lower case. A `made up` record fits the recipe, and nobody asks again for it. And which place LangExtract finds for what
comes `backwards` is not to be said as soon as words are there twice, so that the fault is made only of answers whose
words are all different: each has one place then, whichever of LangExtract's three ways finds it.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

MADE_UP: Final = "zyxoprane"
"""One token that no text has: nothing in it is like anything else."""
OTHER_CLASS: Final = "mood"
WRONG: Final = 7
"""As an attribute that is to be a string."""
REFUSAL: Final = "I'm sorry, but I cannot help with medical records."

Item = dict[str, Any]
Outcome = Literal["everything", "part", "nothing"]


class Answer(msgspec.Struct, frozen=True):
    """What a server replies."""

    text: str = ""
    finish_reason: str = "stop"
    refuse_status: int = 0
    """This HTTP status instead."""
    is_silent: bool = False
    """Nothing, until whoever asked has left."""


class Fault(msgspec.Struct, frozen=True):
    """One of them."""

    name: str
    spoilt: Callable[[str], Answer]
    """A right answer's text in."""
    outcome: Outcome = "everything"
    """What askonce can have of it where it is always there. `part`: all but one record, what comes before the cut, or
    all with something wrong about one.
    """
    status: Literal["ok", "invalid", "truncated", "refused", "failed"] = "ok"
    asked_again: bool = False
    """Whether askonce makes another try of it, as long as there are any left."""
    applies: Callable[[Sequence[Item]], bool] = lambda items: bool(items)
    """To an answer of these."""

    @property
    def is_said(self) -> bool:
        """Whether it is in what the model says, and not in how the server behaves."""
        return self.status != "failed"


class Planned(msgspec.Struct, frozen=True):
    """A fault, and whether it is there for every question or for the first alone."""

    fault: Fault
    always: bool = False


class Plan(msgspec.Struct, frozen=True):
    """Which fault an answer has: the same for a seed, a text and a pass, whoever asks when."""

    seed: int = 0
    share: float = 0.0
    """Of all texts, how many have one."""
    among: tuple[Fault, ...] = ()
    chosen: Mapping[str, Planned] = {}
    """Of some texts what they have, whatever the seed says."""

    def of(self, text: str, items: Sequence[Item], pass_seed: int | None = None) -> Planned | None:
        """That of the part `text`, whose right answer has these items."""
        if text in self.chosen:
            return self.chosen[text]
        chance = random.Random(f"{self.seed}/{pass_seed}/{text}")
        fitting = [fault for fault in self.among if fault.applies(items)]
        if not fitting or chance.random() >= self.share:
            return None
        return Planned(chance.choice(fitting), always=chance.random() < 0.5)


def framed(items: Sequence[Item]) -> str:
    """A right answer."""
    return _json({"extractions": items})


def items_of(text: str) -> list[Item]:
    """What a right answer says."""
    return json.loads(text)["extractions"]


def words_of(item: Item) -> tuple[str, str]:
    """The class of an item, and its words."""
    name = next(iter(item))
    return name, item[name]


def refused(status: int) -> Fault:
    """A server that refuses with this HTTP status."""
    return Fault(f"refused with {status}", lambda _: Answer(refuse_status=status), "nothing", "failed", applies=_any)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _any(items: Sequence[Item]) -> bool:
    del items
    return True


def _several(items: Sequence[Item]) -> bool:
    return len(items) > 1


def _different(items: Sequence[Item]) -> bool:
    words = [words_of(item)[1].lower() for item in items]
    return len(words) > 1 and len(set(words)) == len(words)


def _has_attributes(items: Sequence[Item]) -> bool:
    return bool(items) and bool(_attributes(items[-1]))


def _attributes(item: Item) -> Item:
    return item[f"{words_of(item)[0]}_attributes"]


def _with_last(text: str, change: Callable[[Item], Item]) -> Answer:
    *others, last = items_of(text)
    return Answer(framed([*others, change(last)]))


def _fenced(text: str) -> Answer:
    return Answer(f"```json\n{text}\n```")


def _two_fences(text: str) -> Answer:
    items = items_of(text)
    middle = len(items) // 2
    return Answer(f"{_fenced(framed(items[:middle])).text}\n\nAnd also:\n\n{_fenced(framed(items[middle:])).text}")


def _words_after(text: str) -> Answer:
    return Answer(f"{text}\n\nI hope this helps! Let me know whether anything is missing.")


def _thoughts(text: str) -> Answer:
    return Answer(f'<think>Which records? {{"extractions":[{{"medication":"{MADE_UP}"}}]}} — no.</think>\n{text}')


def _bare_list(text: str) -> Answer:
    return Answer(_json(items_of(text)))


def _fields(text: str) -> Answer:
    return Answer(
        framed(
            [
                {"extraction_class": name, "extraction_text": words, "attributes": item[f"{name}_attributes"]}
                for item in items_of(text)
                for name, words in [words_of(item)]
            ]
        )
    )


def _colon(text: str) -> Answer:
    return Answer(text.replace('_attributes":', '_attributes:":'))


def _named_twice(text: str) -> Answer:
    *others, last = items_of(text)
    name = words_of(last)[0]
    twice = f'{{"{name}":"{MADE_UP}",{_json(last)[1:]}'
    return Answer(f'{{"extractions":[{",".join([*map(_json, others), twice])}]}}')


def _upper_case(text: str) -> Answer:
    return Answer(framed([item | {name: words.upper()} for item in items_of(text) for name, words in [words_of(item)]]))


def _backwards(text: str) -> Answer:
    return Answer(framed(items_of(text)[::-1]))


def _made_up(text: str) -> Answer:
    items = items_of(text)
    middle = len(items) // 2
    attributes = {"dosage": "", "frequency": "", "status": "taken"}
    item = {"medication": MADE_UP, "medication_attributes": attributes}
    return Answer(framed([*items[:middle], item, *items[middle:]]))


def _no_attributes(text: str) -> Answer:
    return _with_last(text, lambda item: dict([words_of(item)]))


def _not_a_number(text: str) -> Answer:
    return _with_last(text, lambda item: _with_first(item, float("nan")))


def _other_type(text: str) -> Answer:
    return _with_last(text, lambda item: _with_first(item, WRONG))


def _with_first(item: Item, value: Any) -> Item:
    attributes = _attributes(item)
    return item | {f"{words_of(item)[0]}_attributes": attributes | {next(iter(attributes)): value}}


def _other_class(text: str) -> Answer:
    return _with_last(
        text, lambda item: {OTHER_CLASS: words_of(item)[1], f"{OTHER_CLASS}_attributes": _attributes(item)}
    )


def _null(text: str) -> Answer:
    return _with_last(text, lambda item: item | {words_of(item)[0]: None})


def _no_words(text: str) -> Answer:
    return _with_last(text, lambda item: item | {words_of(item)[0]: ""})


def _cut(text: str) -> Answer:
    items = items_of(text)
    whole = [*map(_json, items[: len(items) // 2])]
    begun = _json(items[len(items) // 2])
    return Answer('{"extractions":[' + ",".join([*whole, begun[: len(begun) // 2]]), "length")


FAULTS: Final[Mapping[str, Fault]] = {
    fault.name: fault
    for fault in (
        Fault("fenced", _fenced, applies=_any),
        Fault("two fences", _two_fences, applies=_several),
        Fault("words after", _words_after, applies=_any),
        Fault("thoughts", _thoughts, applies=_any),
        Fault("bare list", _bare_list, applies=_any),
        Fault("fields", _fields),
        Fault("colon", _colon),
        Fault("named twice", _named_twice),
        Fault("upper case", _upper_case),
        Fault("backwards", _backwards, applies=_different),
        Fault("made up", _made_up, applies=_any),
        Fault("no attributes", _no_attributes, "part", applies=_has_attributes),
        Fault("not a number", _not_a_number, "part", "invalid", asked_again=True, applies=_has_attributes),
        Fault("other type", _other_type, "part", "invalid", asked_again=True, applies=_has_attributes),
        Fault("other class", _other_class, "part", "invalid", asked_again=True),
        Fault("null", _null, "part", "invalid", asked_again=True),
        Fault("no words", _no_words, "part", "invalid", asked_again=True),
        Fault("cut", _cut, "part", "truncated", asked_again=True),
        Fault("refusal", lambda _: Answer(REFUSAL), "nothing", "refused", asked_again=True, applies=_any),
        Fault("nothing", lambda _: Answer(), "nothing", "invalid", asked_again=True, applies=_any),
        msgspec.structs.replace(refused(503), name="unavailable"),
        Fault("silence", lambda _: Answer(is_silent=True), "nothing", "failed", applies=_any),
    )
}
"""All of the table."""
