"""A seed in, requests that share their beginnings out: chats that go on, and questions about long documents."""

import random
from collections.abc import Awaitable, Callable

import msgspec

from gateway.models.training.names import listed

_WORDS = listed(
    "the a old new river stone house table paper light window green red blue quiet number seven nine copper glass "
    "garden engine letter market winter morning harbour bridge carries holds opens follows answers counts keeps takes "
    "writes reads near under beside before after between of and with for"
)

Message = dict[str, str]
Ask = Callable[[list[Message]], Awaitable[str]]
"""Messages in, the answer out."""


class Session(msgspec.Struct):
    """Questions that are asked one after the other, each with those before and their answers."""

    opening: list[Message]
    """What comes before the first one."""
    questions: list[str]
    """The next one last."""

    async def go_on(self, ask: Ask) -> None:
        """Ask the next question; the answer becomes a part of what follows."""
        self.opening.append({"role": "user", "content": self.questions.pop()})
        said = await ask(self.opening)
        self.opening.append({"role": "assistant", "content": said or "…"})


class Workload(msgspec.Struct, frozen=True):
    """Sessions, and how many of them are open at once."""

    name: str
    sessions: Callable[[int], list[Session]]
    """Of a seed."""
    open_at_once: int


def chats(count: int, turns: int) -> Workload:
    """Conversations under one system prompt, of so many turns each."""

    def made(seed: int) -> list[Session]:
        chance = random.Random(seed)
        system = {"role": "system", "content": text(chance, 150)}
        return [Session([system], [text(chance, chance.randint(20, 70)) for _ in range(turns)]) for _ in range(count)]

    return Workload("chats", made, open_at_once=24)


def documents(count: int, questions: int) -> Workload:
    """So many questions on each of some documents, all in any order."""

    def made(seed: int) -> list[Session]:
        chance = random.Random(seed)
        texts = [text(chance, chance.randint(150, 500)) for _ in range(count)]
        asked = [
            Session([{"role": "system", "content": text_}], [text(chance, chance.randint(10, 30))])
            for text_ in texts
            for _ in range(questions)
        ]
        chance.shuffle(asked)
        return asked

    return Workload("documents", made, open_at_once=24)


def text(chance: random.Random, words: int) -> str:
    """Sentences that nothing else has."""
    said = [chance.choice(_WORDS) if chance.random() < 0.95 else str(chance.randrange(1000)) for _ in range(words)]
    ends = range(0, words, 12)
    return " ".join(f"{' '.join(said[start : start + 12]).capitalize()}." for start in ends)


class Crowd:
    """Those who ask: each takes any open session, asks its next question, and leaves it."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self._chance = random.Random(seed)
        self._waiting = workload.sessions(seed)[::-1]
        self._open = [self._waiting.pop() for _ in range(min(workload.open_at_once, len(self._waiting)))]

    async def asks(self, ask: Ask) -> None:
        """One of them, until there is nothing left to ask."""
        while self._open:
            session = self._open.pop(self._chance.randrange(len(self._open)))
            await session.go_on(ask)
            if session.questions:
                self._open.append(session)
            elif self._waiting:
                self._open.append(self._waiting.pop())


def first_of(workload: Workload, seed: int) -> list[Message]:
    """The first request of a workload."""
    session = workload.sessions(seed)[0]
    return [*session.opening, {"role": "user", "content": session.questions[-1]}]
