"""What befalls a gateway between and during requests: kills, restarts, emptied tiers, deletions, new weights."""

import asyncio
import math
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from gateway.bench.differential import calls, client
from gateway.bench.differential.calls import Call, Item, Taken
from gateway.bench.differential.client import Reply
from gateway.bench.differential.ledger import Ledger, Wrong
from gateway.bench.differential.oracle import Orders
from gateway.bench.differential.plan import BRIEF_S, MODELS, TAGS, Deletion, Event, Round, Shot, Upset
from gateway.bench.differential.site import Site
from gateway.bench.processes import BenchError

_WRITTEN_S: Final = 20.0
"""How long an answer may take to get into every tier."""
HEARD_S: Final = 20.0
"""How long a worker may take to hear of a deletion; it is milliseconds."""
_NOTICED_S: Final = 90.0
_AGAIN_S: Final = 0.02
_NAMES: Final = re.compile("[:/@]")
"""What stands between the parts of a version."""
_NOBODYS_KEY: Final = "0" * 64


class Befalling:
    """Lets things happen to `site`, and tells `ledger` what may be lost by them."""

    def __init__(self, site: Site, known: Ledger, order: Callable[[Orders], Awaitable[None]], seed: int) -> None:
        self.weights = dict.fromkeys(MODELS, "w1")
        self.up = asyncio.Event()
        self.up.set()
        self.begun = False
        """Whether this round's upset has begun."""
        self.upset_until = 0.0
        """When the last upset that may have lost answers was over."""
        self._site = site
        self._ledger = known
        self._order = order
        self._seed = seed
        self.upset_since = math.inf
        """When this round's began, if it is one that requests may fail by."""
        self._deleted: tuple[Deletion, Item, str, float] | None = None
        self._counted: Counter[str] = Counter()
        self._newest = 1

    def begin(self) -> None:
        """A new round."""
        self.begun, self.upset_since, self._deleted = False, math.inf, None

    def count(self) -> Counter[str]:
        """What has happened since this was last asked."""
        counted, self._counted = self._counted, Counter()
        return counted

    def excuses(self, reply: Reply) -> bool:
        """Whether a reply may have failed because the gateway was stopped or killed: not by a mistake of its own."""
        return reply.ended > self.upset_since and reply.status in (0, 200, 503)

    async def upset(self, planned: Round) -> None:
        """What happens while requests are on their way."""
        self.begun = True
        upset = planned.upset
        if upset is None:
            return
        self._counted[f"{upset}, under way"] += 1
        if upset == "delete" and planned.deletion is not None:
            await self._delete(planned.deletion)
            return
        await self._upset(upset, planned.number)
        self._ledger.lost(redis=upset == "flush redis")
        self.upset_until = time.time()

    async def taken_back(self, refreshed: Sequence[Taken]) -> None:
        """Wait until every worker knows of this round's deletions, and tell the ledger."""
        taken = list(refreshed)
        if self._deleted is not None:
            deletion, item, tag, sent = self._deleted
            taken.append(Taken(covers=calls.covering(deletion.selector, item, tag), sent=sent))
            await self._until_heard(self._ledger.covered(taken[-1]))
        if refreshed:
            await self._tell_everybody()
        settled = time.time()
        for one in taken:
            self._ledger.take(one, settled)

    async def after(self, planned: Round, touched: Iterable[Item]) -> None:
        """What happens once all have been answered."""
        lossy = planned.event not in ("nothing", "let answers expire", "new weights while it runs")
        await self._settle(touched, wait_s=_WRITTEN_S if planned.waits else 0)
        self._counted[planned.event] += 1
        await self._happen(planned.event, planned.number)
        if lossy:
            self._ledger.lost(redis="redis" in planned.event, postgres="postgres" in planned.event)

    async def _happen(self, event: Event, number: int) -> None:
        site = self._site
        if "redis" in event:
            await site.flush_redis()
        if "postgres" in event:
            await site.truncate()
        if event.startswith("restart"):
            await self._restart(site.stop, number if "weights" in event else None)
        elif event == "kill everything":
            await self._restart(site.kill)
        elif event == "kill a worker":
            site.kill_worker(number)
        elif event == "let answers expire":
            await asyncio.sleep(BRIEF_S)
        elif event == "new weights while it runs":
            await self._weigh(number)
            await self._until_noticed()

    async def _upset(self, upset: Upset, number: int) -> None:
        site = self._site
        if upset == "flush redis":
            await site.flush_redis()
            return
        self.upset_since = time.time()
        if upset == "kill a worker":
            site.kill_worker(number)
        elif upset == "restart":
            await self._restart(site.stop)
        elif upset == "kill everything":
            await self._restart(site.kill)

    async def _restart(self, end: Callable[[], Awaitable[None]], new_weights: int | None = None) -> None:
        self.up.clear()
        await end()
        if new_weights is not None:
            await self._weigh(new_weights)
        await self._site.start()
        self.up.set()

    async def _weigh(self, number: int) -> None:
        """Give one model other weights: new ones, or those it had before."""
        model = MODELS[number % len(MODELS)]
        back = random.Random(f"{self._seed}/weights/{number}").random() < 0.3
        old = int(self.weights[model][1:])
        if back and old > 1:
            self.weights[model] = f"w{old - 1}"
        else:
            self._newest += 1
            self.weights[model] = f"w{self._newest}"
        await self._order(Orders(weights=self.weights))

    async def _until_noticed(self) -> None:
        """Ask nothing until every worker knows of the new weights: until then old answers may be given."""
        end = time.monotonic() + _NOTICED_S
        for model, weights in self.weights.items():
            body = msgspec.json.encode({"model": model, "prompt": "Who are you?"})
            while True:
                replies = await self._each("POST", "/v1/cache/explain", body, {"authorization": self._key("acme")})
                told = [msgspec.json.decode(content)["parts"]["model_version"] for _, _, content in replies]
                if all(weights in _NAMES.split(version) for version in told):
                    break
                if time.monotonic() > end:
                    raise BenchError(f"The gateway has not noticed the weights {weights} of {model}.")
                await asyncio.sleep(50 * _AGAIN_S)

    async def _delete(self, deletion: Deletion) -> None:
        shot = deletion.shot
        (item,) = calls.items(shot, self.weights[shot.place.model])
        tag = (shot.tags or TAGS)[0]
        headers = client.access(shot, self._site.keys, random.Random(shot.number))
        explained = await self._explained(shot, headers)
        where = {
            "key": f"/{explained['key']}",
            "model": f"?model={shot.place.model}",
            "tag": f"?tag={tag}",
            "prompt_hash": f"?prompt_hash={explained['parts']['prompt_hash']}",
            "all": "?all=true",
        }[deletion.selector]
        sent = time.time()
        replies = await asyncio.to_thread(self._site.ask_any, "DELETE", f"/v1/cache{where}", b"", headers)
        if replies[0] != 200:
            raise BenchError(f"Nothing could be deleted: {replies[2]!r}")
        self._counted[f"deleted by {deletion.selector}"] += 1
        self._deleted = deletion, item, tag, sent

    async def _explained(self, shot: Shot, headers: dict[str, str]) -> Any:
        body = msgspec.json.encode({**client.body_of(shot), "model": shot.place.model})
        status, _, content = await asyncio.to_thread(self._site.ask_any, "POST", "/v1/cache/explain", body, headers)
        if status != 200:
            raise BenchError(f"A question cannot be explained: {content!r}")
        return msgspec.json.decode(content)

    async def _tell_everybody(self) -> None:
        """Who deletes something reads the whole list: so every worker does, though nobody has this key."""
        headers = {"authorization": self._key("acme")}
        await self._each("DELETE", f"/v1/cache/{_NOBODYS_KEY}", b"", headers)

    async def _until_heard(self, dead: Sequence[Call]) -> None:
        """Until no worker gives an answer that was deleted: they hear of it by themselves."""
        texts = [call for call in dead if call.id and call.sure and call.item.place.scope != "brief"]
        if not texts:
            await self._tell_everybody()
            return
        ids, shot = {call.id for call in dead}, texts[-1].shot
        body = msgspec.json.encode({**client.body_of(shot), "model": shot.place.model})
        headers = client.access(shot, self._site.keys, random.Random(shot.number))
        headers |= {"cache-control": "only-if-cached", "content-type": "application/json"}
        end = time.monotonic() + HEARD_S
        while True:
            replies = await self._each("POST", client.PATHS[shot.kind], body, headers)
            if not any(head.get("x-askonce-origin-id") in ids for _, head, _ in replies):
                return
            if time.monotonic() > end:
                reply = Reply(shot=shot, weights=texts[-1].item.weights, began=time.time())
                self._ledger.wrong.append(Wrong("an answer that had been taken back", reply, shot))
                return
            await asyncio.sleep(_AGAIN_S)

    async def _settle(self, touched: Iterable[Item], wait_s: float) -> None:
        """Look into the tiers, for as long as `wait_s` until everything new is in all of them."""
        end = time.monotonic() + wait_s
        touched = set(touched)
        while found := self._ledger.unsettled(touched):
            in_redis, in_postgres = await self._site.kept(found)
            waiting: list[Item] = []
            for key, (item, new) in found.items():
                there = self._ledger.settle(item, in_redis.get(key), in_postgres.get(key), time.time())
                if new and not there:
                    waiting.append(item)
            if not waiting or time.monotonic() > end:
                break
            touched = set()
            await asyncio.sleep(_AGAIN_S)
        else:
            return
        if wait_s:
            for item in waiting:
                self._ledger.give_up(item)

    def _key(self, tenant: str) -> str:
        return f"Bearer {self._site.keys[tenant][0]}"

    async def _each(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> list[tuple[int, Any, bytes]]:
        return await asyncio.to_thread(self._site.ask_each, method, path, body, headers)
