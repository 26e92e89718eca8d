"""A seed -> rounds of requests, and what happens to the gateway in and after each. Nothing here depends on time."""

import random
from collections.abc import Iterator
from typing import Final, Literal, TypeVar

import msgspec

from gateway.bench.differential import meaning, questions, writing
from gateway.bench.differential.oracle import Fault
from gateway.bench.differential.questions import Asked

T = TypeVar("T")

MODELS: Final[tuple[str, ...]] = ("alpha", "beta", "gamma")
REWRITTEN: Final = frozenset({"gamma"})
"""Models of an engine that the gateway asks for tools and formats in words of its own: there the oracle's answer, a
hash of what it is asked, is none to the client's question.
"""
TENANTS: Final[tuple[str, ...]] = ("acme", "rival", "brief", "strict")
NAMESPACE: Final = "handbook"
SHARED: Final = f"shared/{NAMESPACE}"
MEMBERS: Final = ("acme", "rival")
BRIEF_S: Final = 1.5
"""How long answers count for the tenant `brief`."""
TAGS: Final[tuple[str, ...]] = ("draft", "web", "night")
_KINDS: Final = (*[meaning.CHAT] * 7, *[meaning.COMPLETION] * 2, meaning.EMBEDDING)
_FAULTS: Final[tuple[Fault, ...]] = ("429", "500", "503", "cut", "silent", "garbage", "error", "abort")
_REMEMBERED: Final = 3000

Control = Literal["", "no-cache", "no-store", "no-cache, no-store", "max-age=0", "max-age=2", "only-if-cached"]
Event = Literal[
    "nothing",
    "flush redis",
    "truncate postgres",
    "flush redis and postgres",
    "restart",
    "restart with new weights",
    "kill a worker",
    "kill everything",
    "let answers expire",
    "new weights while it runs",
]
Selector = Literal["key", "model", "tag", "prompt_hash", "all"]
Upset = Literal["delete", "flush redis", "kill a worker", "restart", "kill everything"]
_CONTROLS: Final[dict[Control, int]] = {
    "": 900,
    "max-age=2": 30,
    "only-if-cached": 30,
    "max-age=0": 10,
    "no-cache": 10,
    "no-store": 10,
    "no-cache, no-store": 10,
}
"""How often each is sent, in a thousand."""


class Place(msgspec.Struct, frozen=True, order=True):
    """Whose answers of which model."""

    scope: str
    model: str


class Shot(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `asked` has several questions for embeddings only."""

    number: int
    place: Place
    asked: tuple[Asked, ...]
    mutation: str
    """What made it: `repeated`, or the field in which it differs from a question asked before."""
    habits: tuple[str, ...]
    tenant: str
    control: Control = ""
    tags: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    leaves: bool = False
    """The client goes away after the first event."""
    latest: bool = False
    """The model is named with `:latest`."""

    @property
    def kind(self) -> str:
        """Of the question."""
        return self.asked[0].kind


class Deletion(msgspec.Struct, frozen=True):
    """What is to be taken back: by the place and question of a shot."""

    selector: Selector
    shot: Shot


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked at the same time, and what then happens."""

    number: int
    shots: tuple[Shot, ...]
    upset: Upset | None
    """Happens once half of them are on their way."""
    deletion: Deletion | None
    faults: tuple[tuple[int, tuple[Fault, ...]], ...]
    """Which shots' questions fail at first, and how."""
    event: Event
    """Happens when all have been answered."""
    waits: bool
    """Whether everything is written before that."""


EVENTS: Final[dict[Event, int]] = {
    "nothing": 24,
    "flush redis": 8,
    "truncate postgres": 4,
    "flush redis and postgres": 2,
    "restart": 3,
    "restart with new weights": 2,
    "kill a worker": 4,
    "kill everything": 2,
    "let answers expire": 3,
}
UPSETS: Final[dict[Upset | None, int]] = {
    None: 30,
    "delete": 20,
    "flush redis": 3,
    "kill a worker": 3,
    "restart": 1,
    "kill everything": 1,
}
_SELECTORS: Final[dict[Selector, int]] = {"key": 8, "tag": 4, "prompt_hash": 4, "model": 2, "all": 1}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How much, and from which seed."""

    requests: int
    seed: int
    round_size: int = 250
    workers: int = 2
    live_weights: int = 0
    """How often the model changes while the gateway runs: that takes half a minute each."""
    events: dict[Event, int] = msgspec.field(default_factory=lambda: EVENTS)
    upsets: dict[Upset | None, int] = msgspec.field(default_factory=lambda: UPSETS)
    """What befalls the gateway after and during rounds, and how often in relation to others."""


class Planner:
    """Draws rounds, and remembers what it has drawn to ask again."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._chance = random.Random(options.seed)
        self._known: list[tuple[Place, tuple[Asked, ...]]] = []
        self._texts = 0
        self._shots = 0

    def rounds(self) -> Iterator[Round]:
        """All of them."""
        count = -(-self._options.requests // self._options.round_size)
        events = self._dealt(self._options.events, count)
        live = set(self._chance.sample(range(count), min(count, self._options.live_weights)))
        upsets = self._dealt(self._options.upsets, count)
        selectors = iter(self._dealt(_SELECTORS, count))
        for number in range(count):
            left = self._options.requests - number * self._options.round_size
            event: Event = "new weights while it runs" if number in live else events[number]
            selector = next(selectors) if upsets[number] == "delete" else None
            yield self._round(number, min(left, self._options.round_size), upsets[number], event, selector)

    def _dealt(self, weighed: dict[T, int], count: int) -> list[T]:
        """Each as often as it weighs, in any order: no run is without one of them by bad luck."""
        deck = [one for one, weight in weighed.items() for _ in range(weight)]
        first = list(weighed)
        dealt = (first + deck * (count // len(deck) + 1))[: max(count, len(first))]
        self._chance.shuffle(dealt)
        return dealt[:count]

    def _round(self, number: int, size: int, upset: Upset | None, event: Event, selector: Selector | None) -> Round:
        chance = self._chance
        shots = tuple(self._shot() for _ in range(size))
        failing = chance.sample(range(size), size // 60)
        deletion = None
        if selector is not None:
            deletion = Deletion(selector, chance.choice([shot for shot in shots if len(shot.asked) == 1]))
        return Round(
            number=number,
            shots=shots,
            upset=upset,
            deletion=deletion,
            faults=tuple((i, tuple(chance.choices(_FAULTS, k=chance.randint(1, 2)))) for i in sorted(failing)),
            event=event,
            waits=chance.random() < 0.7,
        )

    def _shot(self) -> Shot:
        chance = self._chance
        place, asked, mutation = self._question()
        self._known.append((place, asked))
        if len(self._known) > _REMEMBERED:
            self._known = self._known[_REMEMBERED // 3 :]
        self._shots += 1
        kind = asked[0].kind
        stream = kind != meaning.EMBEDDING and chance.random() < 0.6
        return Shot(
            number=self._shots,
            place=place,
            asked=asked,
            mutation=mutation,
            habits=writing.habits(kind, chance),
            tenant=chance.choice(MEMBERS) if place.scope == SHARED else place.scope,
            control=chance.choices(list(_CONTROLS), list(_CONTROLS.values()))[0],
            tags=tuple(sorted(chance.sample(TAGS, chance.choice((0, 0, 0, 1, 2))))),
            stream=stream,
            include_usage=stream and chance.random() < 0.7,
            leaves=stream and chance.random() < 0.02,
            latest=chance.random() < 0.05,
        )

    def _question(self) -> tuple[Place, tuple[Asked, ...], str]:
        place, asked, mutation = self._drawn()
        if place.model in REWRITTEN and any(one.is_rewritten for one in asked):
            others = [model for model in MODELS if model not in REWRITTEN]
            place = Place(place.scope, others[asked[0].number % len(others)])
        return place, asked, mutation

    def _drawn(self) -> tuple[Place, tuple[Asked, ...], str]:
        chance = self._chance
        if not self._known or chance.random() < 0.08:
            return self._new()
        # What was asked just now is asked again more often: that is what meets on the way.
        near = chance.random() < 0.5
        place, asked = chance.choice(self._known[-40:] if near else self._known)
        draw = chance.random()
        if draw < 0.7:
            return place, asked, "repeated"
        if draw < 0.76:
            scope = chance.choice([scope for scope in (*TENANTS, SHARED) if scope != place.scope])
            return Place(scope, place.model), asked, "tenant"
        if draw < 0.82:
            model = chance.choice([model for model in MODELS if model != place.model])
            return Place(place.scope, model), asked, "model"
        first, *others = asked
        if others:
            return self._new()
        other, name = questions.neighbour(first, chance)
        return place, (other,), name

    def _new(self) -> tuple[Place, tuple[Asked, ...], str]:
        chance = self._chance
        kind = chance.choice(_KINDS)
        place = Place(chance.choice((*TENANTS, "acme", SHARED)), chance.choice(MODELS))
        if kind == meaning.EMBEDDING and chance.random() < 0.5:
            # Some of these texts are asked for alone, or in other company, too.
            numbers = [chance.randrange(self._texts + 2) for _ in range(chance.randint(2, 5))]
            return place, tuple(Asked(kind, number) for number in numbers), "inputs"
        self._texts += 1
        return place, (questions.drawn(kind, self._texts, chance),), "text"
