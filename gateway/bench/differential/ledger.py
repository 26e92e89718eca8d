"""Replies in, judgements out: a model of what is kept, of somebody who sees what clients and operators see.

It knows two things of every answer: whether it may be given (if not, and it is, that is a wrong answer), and whether
it must be there (if so, and the model is asked all the same, that is a missed hit). What raced with a deletion, a kill
or a flush is neither: it may be there or not, but what is given must be right.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from gateway.bench.differential import meaning
from gateway.bench.differential.calls import Call, Item, Taken, Terms, called, items, refreshed
from gateway.bench.differential.client import Reply
from gateway.bench.differential.plan import Shot
from gateway.bench.differential.site import Kept


class Wrong(msgspec.Struct, frozen=True):
    """An answer that must not have been given, and whose it is."""

    what: str
    reply: Reply
    other: Shot | None = None


class Ledger:
    """Everything known of what is kept."""

    def __init__(self) -> None:
        self.wrong: list[Wrong] = []
        self.missed: list[Reply] = []
        self.possible = 0
        self.unwritten = 0
        self._live: defaultdict[Item, list[Call]] = defaultdict(list)
        self._by_id: dict[str, Call] = {}
        self._by_serial: dict[int, Call] = {}
        self._unheard: Counter[Item] = Counter()
        self._keys: dict[Item, str] = {}
        self._items: dict[str, tuple[Item, Shot]] = {}
        self._fresh: set[Item] = set()
        """Those with a new answer that was not seen in every tier yet."""

    @property
    def questions(self) -> int:
        """How many different ones there were."""
        return len(self._keys)

    def heard(self, replies: Iterable[Reply], upset_until: float) -> list[Taken]:
        """Take note of new answers; the refreshes among them. What was asked before `upset_until` may be lost."""
        taken: list[Taken] = []
        for reply in replies:
            terms = Terms.of(reply.shot)
            if not reply.complete:
                self._note_unheard(reply, terms)
            else:
                self._note_key(reply)
                if reply.reused:
                    self._note_reused(reply)
                elif reply.cache:
                    self._note_calls(reply, terms, upset_until)
            if terms.refresh and reply.status in (0, 200):
                taken.append(refreshed(reply))
        return taken

    def covered(self, taken: Taken) -> list[Call]:
        """The answers that were taken back for sure."""
        found = (call for item in self._among(taken) for call in self._live[item] if taken.covers(call))
        return [call for call in found if taken.certain and call.ended < taken.sent]

    def take(self, taken: Taken, settled: float) -> None:
        """Answers were taken back, of which every worker knows since `settled`."""
        for item in self._among(taken):
            calls = self._live[item]
            if not any(taken.covers(call) for call in calls):
                continue
            for call in calls:
                # Those not covered too: any of them may be the one that was kept.
                call.doubt(taken.sent, settled)
                if taken.certain and call.ended < taken.sent and taken.covers(call):
                    call.dead_at = min(call.dead_at, settled)
            self._live[item] = [call for call in calls if call.dead_at == math.inf]

    def whose(self, reply: Reply) -> Shot | None:
        """The request that the answer in `reply` was first given to, as far as the reply says."""
        origin = self._by_id.get(reply.headers.get("x-askonce-origin-id", "")) or self._by_serial.get(reply.serial or 0)
        return origin.shot if origin else None

    def judge(self, replies: Iterable[Reply]) -> None:
        """Check where each answer came from, and count the hits there could have been."""
        for reply in replies:
            if reply.complete and reply.reused:
                self._check_origin(reply)
            if reply.complete or reply.status == 504:
                self._count(reply)

    def asked_again(self, reply: Reply) -> bool:
        """Whether the model was asked for a follower: it had lost the one whose answer it was to hear."""
        named = self._by_id.get(reply.headers.get("x-askonce-origin-id", ""))
        own = reply.serial is not None and reply.serial not in self._by_serial
        return reply.cache == "coalesced" and own and named is not None and named.serial is not None

    def unsettled(self, touched: Iterable[Item]) -> dict[bytes, tuple[Item, bool]]:
        """What must be kept, but was not seen in every tier: all that is new, and of the rest what was `touched`.

        Also whether it is new, and so has to get there.
        """
        found: dict[bytes, tuple[Item, bool]] = {}
        for item in {*self._fresh, *touched}:
            key = self._keys.get(item)
            if key and any(c.keep and c.sure and not (c.in_redis and c.in_postgres) for c in self._live[item]):
                found[bytes.fromhex(key)] = item, item in self._fresh
            else:
                self._fresh.discard(item)
        return found

    def settle(self, item: Item, redis: Kept | None, postgres: Kept | None, now: float) -> bool:
        """What the tiers hold under the key of `item`; whether there is nothing to wait for."""
        calls, nameless = self._live[item], item.asked.kind == meaning.EMBEDDING
        if not nameless and any(self._strange(kept, calls) for kept in (redis, postgres) if kept is not None):
            for call in calls:
                call.sure = False
            return True
        for call in calls:
            # What Redis has of embeddings may be an old one: they do not say whose they are.
            call.in_redis = redis is not None and redis.origin_id == call.id
            call.in_postgres = postgres is not None and (nameless or postgres.origin_id == call.id)
            call.sure_from = call.sure_from or now
        if redis is None or not any(call.in_postgres for call in calls):
            return False
        self._fresh.discard(item)
        for call in calls:
            call.sure &= call.in_redis or call.in_postgres
        return any(call.in_redis for call in calls) or nameless

    def give_up(self, item: Item) -> None:
        """It was never written, though it should have been."""
        self.unwritten += 1
        self._fresh.discard(item)
        for call in self._live[item]:
            call.sure = False

    def lost(self, *, redis: bool = False, postgres: bool = False) -> None:
        """These tiers have lost what they had, and memories what only they had."""
        for item in self._fresh:
            for call in self._live[item]:
                call.sure = False
        self._fresh.clear()
        for calls in self._live.values():
            for call in calls:
                call.in_redis &= not redis
                call.in_postgres &= not postgres
                call.shared = False

    def _among(self, taken: Taken) -> Iterable[Item]:
        return list(self._live) if taken.items is None else taken.items

    def _strange(self, kept: Kept, calls: Sequence[Call]) -> bool:
        """Whether it may count, though nothing is sure of it: somebody never heard it, or something happened then."""
        if own := [call for call in calls if call.id == kept.origin_id]:
            return not own[0].sure
        known = self._by_id.get(kept.origin_id)
        return known is None or known.dead_at == math.inf

    def _note_unheard(self, reply: Reply, terms: Terms) -> None:
        for item in items(reply.shot, reply.weights):
            self._unheard[item] += 1
            if reply.id and not reply.reused:
                self._by_id.setdefault(reply.id, called(reply, item, terms, sure=False, ended=math.inf))

    def _note_key(self, reply: Reply) -> None:
        key = reply.headers.get("x-askonce-key")
        if key is None or len(reply.shot.asked) > 1:
            return
        (item,) = items(reply.shot, reply.weights)
        other, shot = self._items.setdefault(key, (item, reply.shot))
        if other != item:
            self.wrong.append(Wrong("two different questions have the same key", reply, shot))
        if self._keys.setdefault(item, key) != key:
            self.wrong.append(Wrong("the same question has two keys", reply))

    def _note_calls(self, reply: Reply, terms: Terms, upset_until: float) -> None:
        if reply.serial is not None and reply.serial in self._by_serial:
            # Somebody had just been answered the same, and so the model was not asked again.
            self._by_id.setdefault(reply.id, self._by_serial[reply.serial])
            return
        several = len(reply.shot.asked) > 1
        for item in set(items(reply.shot, reply.weights)):
            if several and self._live[item]:
                continue
            call = called(reply, item, terms, sure=not several and reply.began > upset_until)
            call.unsure_until = upset_until
            if call.id:
                self._by_id[call.id] = call
            if call.serial is not None:
                self._by_serial[call.serial] = call
            if call.keep:
                self._live[item].append(call)
                if call.sure:
                    self._fresh.add(item)

    def _note_reused(self, reply: Reply) -> None:
        asked = items(reply.shot, reply.weights)
        if reply.shot.kind == meaning.EMBEDDING:
            for item in asked:
                for call in self._live[item]:
                    call.confirm(reply.began)
            return
        if reply.cache == "coalesced" and reply.id:
            # A follower's reply may become an origin: when its leader dies, it is the one who asks.
            self._by_id.setdefault(reply.id, called(reply, asked[0], Terms.of(reply.shot), sure=False))
        origin = self._by_id.get(reply.headers.get("x-askonce-origin-id", ""))
        if origin is not None and origin.ended < reply.began:
            origin.confirm(reply.began)
            if origin.sure and origin not in self._live[origin.item]:
                self._live[origin.item].append(origin)

    def _check_origin(self, reply: Reply) -> None:
        if reply.shot.kind == meaning.EMBEDDING:
            return
        (item,) = items(reply.shot, reply.weights)
        origin = reply.headers.get("x-askonce-origin-id", "")
        named, said = self._by_id.get(origin), self._by_serial.get(reply.serial or 0)
        if origin and named is None and not self._unheard[item]:
            self.wrong.append(Wrong("an answer that nobody was given before", reply))
        if named and named.serial is None and said is None and reply.serial is not None:
            named.serial, self._by_serial[reply.serial] = reply.serial, named
        for call in (named, said):
            if call is not None and (what := _misgiven(call, item, reply)):
                self.wrong.append(Wrong(what, reply, call.shot))
                return
        # A follower that lost its leader has asked by itself: that is no kept answer.
        if reply.cache == "hit" and named and None not in (named.serial, reply.serial) and named.serial != reply.serial:
            self.wrong.append(Wrong("not the answer that it says it is", reply, named.shot))

    def _count(self, reply: Reply) -> None:
        terms = Terms.of(reply.shot)
        if not terms.look:
            if reply.reused:
                self.wrong.append(Wrong("a kept answer, where the model was to be asked", reply))
            return
        if all(self._must_be_found(item, reply, terms) for item in items(reply.shot, reply.weights)):
            self.possible += 1
            if not reply.reused or self.asked_again(reply):
                self.missed.append(reply)

    def _must_be_found(self, item: Item, reply: Reply, terms: Terms) -> bool:
        calls = self._live[item]
        young = all(reply.ended - call.began < terms.max_age_s for call in calls)
        return young and any(call.must_be_found(reply) for call in calls)


def _misgiven(call: Call, item: Item, reply: Reply) -> str:
    """Why this answer must not have been given to who asked for `item`; empty when it may."""
    late_s = reply.began - call.ended
    if call.item != item:
        return "the answer to another question"
    if not call.keep and late_s > 0:
        return "an answer that was not to be kept"
    if reply.began > call.dead_at:
        return "an answer that had been taken back"
    return "an answer that is too old" if late_s > Terms.of(reply.shot).max_age_s else ""
