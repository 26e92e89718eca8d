"""What the ledger writes down: questions in their places, the answers that were given to them, and what ended those."""

import math
from collections.abc import Callable

import msgspec

from gateway.bench.differential import meaning
from gateway.bench.differential.client import Reply
from gateway.bench.differential.plan import BRIEF_S, Place, Selector, Shot
from gateway.bench.differential.questions import Asked


class Item(msgspec.Struct, frozen=True, order=True):
    """One question in one place, to these weights: equal items share an answer, and no others do."""

    place: Place
    weights: str
    asked: Asked


class Call(msgspec.Struct, eq=False, kw_only=True):
    """One answer that the model gave, as far as its client knows."""

    item: Item
    shot: Shot
    began: float
    ended: float
    id: str
    """Of the reply it was first given in; empty where replies have none."""
    serial: int | None
    keep: bool
    """Whether it was to be kept."""
    sure: bool
    """Whether it must have been kept; else it may have been."""
    shared: bool
    """Whether others could join it: then it can be had until every tier has it."""
    in_redis: bool = False
    in_postgres: bool = False
    sure_from: float = 0.0
    sure_until: float = math.inf
    unsure_until: float = 0.0
    """Until then workers may not have heard of what made it unsure."""
    dead_at: float = math.inf
    """From when on it must not be given."""

    def must_be_found(self, reply: Reply) -> bool:
        """Whether whoever asked when `reply` was asked for must have been given this."""
        here = self.shared or (self.in_redis or self.in_postgres)
        since = max(self.ended, 0 if self.shared else self.sure_from)
        return self.keep and self.sure and here and since < reply.began and reply.ended < self.sure_until

    def doubt(self, sent: float, settled: float) -> None:
        """Something happened between these times that may have cost it."""
        self.sure = self.shared = False
        self.sure_until, self.unsure_until = min(self.sure_until, sent), max(self.unsure_until, settled)

    def confirm(self, began: float) -> None:
        """It was given to somebody who asked at `began`, and so it is kept; where, is to be seen."""
        if not self.sure and self.keep and began > self.unsure_until and self.dead_at == math.inf:
            self.sure, self.sure_until, self.sure_from = True, math.inf, 0.0
            self.in_redis = self.in_postgres = False


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """Answers were taken back: by a deletion, or by a new answer that was asked for."""

    covers: Callable[[Call], bool]
    items: tuple[Item, ...] | None = None
    """Where to look for what is covered; None for everywhere."""
    sent: float
    certain: bool = True
    """Whether it surely came about."""


class Terms(msgspec.Struct, frozen=True):
    """What a shot's headers and its tenant's policy come to."""

    look: bool
    keep: bool
    refresh: bool
    max_age_s: float

    @classmethod
    def of(cls, shot: Shot) -> "Terms":
        """Those of `shot`."""
        body = shot.asked[0].body()
        sampled = body.get("temperature", 1) > 0 and body.get("seed") is None
        out = shot.place.scope == "strict" and shot.kind != meaning.EMBEDDING and sampled
        keep = not (out or "no-store" in shot.control)
        age_s = float(shot.control[8:]) if shot.control.startswith("max-age=") else math.inf
        age_s = min(age_s, BRIEF_S) if shot.place.scope == "brief" else age_s
        return cls(not (out or "no-cache" in shot.control), keep, keep and "no-cache" in shot.control, age_s)


def items(shot: Shot, weights: str) -> list[Item]:
    """What a shot asks for."""
    return [Item(shot.place, weights, asked) for asked in shot.asked]


def covering(selector: Selector, item: Item, tag: str) -> Callable[[Call], bool]:
    """Which answers a deletion by `selector` takes back, when `item` is what it was chosen by."""
    place, asked = item.place, item.asked.prompt
    of_place: dict[Selector, Callable[[Call], bool]] = {
        "key": lambda call: call.item == item,
        "model": lambda call: call.item.place.model == place.model,
        "tag": lambda call: tag in call.shot.tags,
        "prompt_hash": lambda call: call.item.asked.number == asked.number and call.item.asked.prompt == asked,
        "all": lambda _: True,
    }
    fits = of_place[selector]
    return lambda call: call.item.place.scope == place.scope and fits(call)


def refreshed(reply: Reply) -> Taken:
    """What a new answer that was asked for takes back: every other to the same question."""
    asked = set(items(reply.shot, reply.weights))

    def covers(call: Call) -> bool:
        return call.item in asked and call.shot is not reply.shot

    return Taken(covers=covers, items=tuple(asked), sent=reply.began, certain=reply.complete)


def called(reply: Reply, item: Item, terms: Terms, *, sure: bool, ended: float | None = None) -> Call:
    """The model's answer that `reply` brought."""
    return Call(
        item=item,
        shot=reply.shot,
        began=reply.began,
        ended=reply.ended if ended is None else ended,
        id=reply.id,
        serial=reply.serial,
        keep=terms.keep,
        sure=sure,
        shared=sure and reply.cache == "miss" and item.asked.kind != meaning.EMBEDDING,
    )
