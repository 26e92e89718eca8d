"""Seeded examples to train and measure the bundled model: chat, copying and extraction.

Held out, by construction and split by a checksum: coined names, copied strings, and how questions,
requests and task descriptions are put together. With `unseen_wording` the notes' sentences are unseen too.
"""

import random
import string
from dataclasses import dataclass
from typing import Final, Literal

from gateway.models.training import facts, names, notes, prompts
from gateway.models.training.names import Split
from gateway.models.training.notes import Domain, Record

Kind = Literal["chat", "copy", "extraction"]
Role = Literal["system", "user", "assistant"]

_SYSTEMS: Final = (
    "You are a helpful assistant.", "You are helpful.", "Answer briefly.", "You are a careful clerk.",
    "Be concise.", "You are the demo model of askonce.", "Answer in one sentence.", "Follow the instructions.",
)  # fmt: skip
_COPY_PHRASES: Final = (
    "Repeat: {}", "Say {}", "Copy this exactly: {}", "Repeat after me: {}", "Echo: {}", "Say: {}",
    "Repeat this text: {}", "Please repeat: {}", "Write exactly: {}", "Copy: {}", "Please copy: {}",
)  # fmt: skip
# Put together from these, a request belongs to one split: every part is trained on, the whole may be held out.
_COPY_STARTS: Final = ("", "", "Please ", "Now ", "Can you ", "You must ", "Just ")
_COPY_VERBS: Final = ("repeat", "copy", "say", "write", "echo", "print", "type", "answer with")
_COPY_OBJECTS: Final = (
    ": ", " this: ", " this text: ", " exactly this: ", " the following: ", " the text after the colon: ",
    " these characters: ", " the same again: ", " what follows: ", " only this: ",
)  # fmt: skip
_WORDS: Final = names.listed(
    "the blue horse runs over a quiet hill and eats green apples while seven old friends sing near river "
    "stone house small table light window paper table number red glass open door hello world"
)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation, the answer expected, and for extraction the note and its gold records."""

    kind: Kind
    messages: tuple[Message, ...]
    answer: str
    note: str = ""
    records: tuple[Record, ...] = ()


def _string(rng: random.Random, split: Split) -> str:
    """Return a text to copy: names, numbers, codes, plain words, or JSON."""
    shape = rng.randrange(8)
    many = range(rng.randint(1, 6))
    if shape == 0:
        return " ".join(rng.choice(_WORDS) for _ in many)
    if shape == 1:
        return "".join(rng.choice(string.digits) for _ in range(rng.randint(2, 12)))
    if shape == 2:
        return "".join(rng.choice(string.ascii_letters + string.digits) for _ in range(rng.randint(3, 14)))
    if shape == 3:
        return f"{names.drug(rng, split)} {names.dosage(rng)} {names.frequency(rng)}"
    if shape == 4:
        return f"{names.vendor(rng, split)}, {names.invoice_number(rng)}, {names.amount(rng)}, {names.date(rng)}"
    if shape == 5:
        return f'{{"{names.coined(rng, split).lower()}":"{names.condition(rng, split)}"}}'
    words = [names.coined(rng, split) if rng.random() < 0.6 else rng.choice(_WORDS) for _ in many]
    marked = [word + rng.choice(("", "", "", ",", "!", "?", " -", ".", ";", "...")) for word in words]
    return " ".join(marked).strip(" ,-;")


def _copy_phrase(rng: random.Random, split: Split) -> str:
    if split == "train" and rng.random() < 0.5:
        return rng.choice(_COPY_PHRASES).removesuffix("{}")
    while True:
        start = rng.choice(_COPY_STARTS)
        verb = rng.choice(_COPY_VERBS)
        phrase = start + (verb if start else verb.capitalize()) + rng.choice(_COPY_OBJECTS)
        if phrase + "{}" not in _COPY_PHRASES and names.belongs(phrase, split):
            return phrase


def _copy(rng: random.Random, split: Split) -> tuple[str, str]:
    text = _string(rng, split)
    while not names.belongs(text, split):
        text = _string(rng, split)
    return _copy_phrase(rng, split) + text, text


def _turn(rng: random.Random, split: Split) -> tuple[str, str]:
    """Return one question of any chat kind and its answer."""
    ask = rng.choices((facts.fact, _copy, facts.unknown, facts.counting), (55, 20, 18, 7))[0]
    return ask(rng, split)


def _conversation(rng: random.Random, split: Split, kind: Kind, question: str, answer: str) -> Example:
    messages: list[Message] = []
    if rng.random() < 0.15:
        messages.append(Message("system", rng.choice(_SYSTEMS)))
    for _ in range(rng.choices((0, 1, 2), (75, 18, 7))[0]):
        earlier, reply = _turn(rng, split)
        messages += (Message("user", earlier), Message("assistant", reply))
    return Example(kind, (*messages, Message("user", question)), answer)


def chat_example(rng: random.Random, split: Split = "train") -> Example:
    """Return a conversation that ends in a fact, a copy, a count or an unknown question."""
    return _conversation(rng, split, "chat", *_turn(rng, split))


def copy_example(rng: random.Random, split: Split = "train") -> Example:
    """Return a conversation that ends in a request to repeat a text."""
    return _conversation(rng, split, "copy", *_copy(rng, split))


def _task(rng: random.Random, split: Split, domain: Domain, ask: str | None) -> tuple[str, str]:
    """Return the task's description and the text after the prompt, mostly none."""
    task = prompts.description(rng, split, domain, ask)
    if ask is not None or rng.random() >= 0.06:
        return task, ""
    text = f"Answer with JSON that matches this schema: {prompts.schema(domain)}"
    return (task, f"\n{text}") if rng.random() < 0.5 else (f"{task}\n\n{text}", "")


def _shots(rng: random.Random, split: Split, domain: Domain, ask: str | None) -> list[tuple[str, str]]:
    counts = rng.choices((1, 2, 3), (70, 28, 2))[0]
    made = [notes.note(rng, split, domain, findings=rng.choice((1, 1, 1, 2))) for _ in range(counts)]
    if counts > 1 and rng.random() < 0.15:
        made[rng.randrange(counts)] = notes.note(rng, split, domain, findings=0)
    return [prompts.shot(note, ask) for note in made]


def extraction_example(
    rng: random.Random, split: Split = "train", *, long: bool = False, unseen_wording: bool = False
) -> Example:
    """Return one LangExtract prompt with its compact JSON answer and gold records."""
    domain: Domain = rng.choice(("clinical", "invoices"))
    ask = rng.choice(notes.CLASSES[domain]) if rng.random() < 0.2 else None
    findings = rng.randint(4, 10) if long else rng.choices((0, 1, 2, 3), (10, 30, 35, 25))[0]
    asked = domain
    if findings == 0 and rng.random() < 0.3:
        # A note of the other kind, full of findings, holds none of what is asked for.
        asked, findings = ("invoices" if domain == "clinical" else "clinical"), 1
        ask = None
    note = notes.note(rng, split, domain, findings=findings, long=long, unseen_wording=unseen_wording)
    records = prompts.wanted(note.records, ask) if asked == domain else ()
    task, after = _task(rng, split, asked, ask)
    context = f"[Previous text]: ...{names.coined(rng, split).lower()}." if rng.random() < 0.03 else ""
    prompt = prompts.layout(task, _shots(rng, split, asked, ask), note.text, context) + after
    messages = (Message("user", prompt),)
    if rng.random() < 0.05:
        messages = (Message("system", rng.choice(_SYSTEMS)), *messages)
    return Example("extraction", messages, prompts.compact(records), note.text, records)


def held_out(kind: Kind, count: int, seed: int = 0) -> list[Example]:
    """Return the examples that the figures are measured on: the same for the same arguments."""
    makers = {"chat": chat_example, "copy": copy_example, "extraction": extraction_example}
    rng = random.Random(f"held-out:{kind}:{seed}")
    return [makers[kind](rng, "held_out") for _ in range(count)]


def chat_text(messages: tuple[Message, ...]) -> str:
    """Return a conversation as Gemma's chat template renders it, ready for the model's turn."""
    first, turns = "", list(messages)
    if turns and turns[0].role == "system":
        first = turns.pop(0).content + "\n\n"
    parts = ["<bos>"]
    for index, turn in enumerate(turns):
        role = "model" if turn.role == "assistant" else turn.role
        content = (first if index == 0 else "") + turn.content.strip()
        parts.append(f"<start_of_turn>{role}\n{content}<end_of_turn>\n")
    return "".join(parts) + "<start_of_turn>model\n"
