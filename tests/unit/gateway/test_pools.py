"""Several backends of one name: who is asked, who comes next, whose name the answer has, and what is never mixed up."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from gateway.canonical import Request
from gateway.config import ModelConfig
from gateway.embedding.embedder import Embedder
from gateway.errors import BackendError, BackendGone, BackendRefused, BackendTimeout, BackendUnreachable, Overloaded
from gateway.flights.shared import SharedFlights
from gateway.steering import Steering
from tests.unit.gateway.fleet import CALLER, Fleet, replica, until


async def test_replicas_share_their_work(fleet: Fleet) -> None:
    """Those with less to do are asked; one of twice the weight takes twice as much."""
    fleet.configure(replica("a"), replica("b", weight=2.0))
    servers = [fleet.servers["a"], fleet.servers["b"]]
    for server in servers:
        server.hold.clear()
    asked = [asyncio.create_task(fleet.ask(f"question {number}")) for number in range(12)]
    await until(lambda: sum(server.running for server in servers) == 12)
    assert [server.running for server in servers] == [4, 8]
    for server in servers:
        server.hold.set()
    assert {(await answer).backend for answer in asked} == {"a", "b"}


async def test_one_that_fails_before_its_first_step_is_followed_by_another(fleet: Fleet) -> None:
    """The client hears nothing of it, and the answer names who gave it."""
    fleet.configure(replica("a", weight=100), replica("b"))
    fleet.servers["a"].faults = [BackendError("garbage")]
    answer = await fleet.ask()
    assert (answer.backend, answer.fallback) == ("b", "")
    assert [entry.backend for entry in fleet.shelf.kept.values()] == ["b"]
    assert (await fleet.ask()).backend == "b"  # kept: the header tells who said it


async def test_a_connection_that_breaks_costs_nobody_else_an_answer(fleet: Fleet) -> None:
    """Not those either who are just about to ask: a server that is still there is asked again who it is, and then."""
    fleet.configure(replica("a"))
    await fleet.ask("first")
    (one,) = fleet.router.model("m").replicas
    looked, seen = fleet.shelf.get, set[bytes]()

    async def breaks(key: bytes, *args: Any) -> Any:
        if key not in seen:
            one.failed(BackendGone("Backend 'a' broke the connection."))  # for somebody else, in the meantime
        seen.add(key)
        return await looked(key, *args)

    fleet.shelf.get = breaks  # type: ignore[method-assign] -- a tier that takes its time
    assert [(await fleet.ask(f"question {number}", stream=number % 2 > 0)).backend for number in range(4)] == ["a"] * 4


async def test_who_is_alone_is_asked_again(fleet: Fleet) -> None:
    """What was wrong may have passed; but not one that was too slow, nor for ever."""
    fleet.configure(replica("a"))
    server = fleet.servers["a"]
    server.faults = [BackendError("busy for a moment")] * 2
    assert (await fleet.ask()).backend == "a"
    for fault, times in ((BackendError("always"), 3), (BackendTimeout("slow"), 1)):
        server.faults, before = [fault] * 10, server.calls
        with pytest.raises(type(fault)):
            await fleet.ask("another")
        assert server.calls == before + times


async def test_the_time_of_a_replica_is_shared(fleet: Fleet) -> None:
    """What it costs by the second it costs once, however many it answers at the same time."""
    fleet.configure(replica("a"))
    (one,) = fleet.router.model("m").replicas
    for many in (1, 4):
        for _ in range(many):
            one.begin()
        before, started = one.spent_s(), time.monotonic()
        await asyncio.sleep(0.05)
        assert one.spent_s() - before == pytest.approx((time.monotonic() - started) / many, rel=0.05)
        for _ in range(many):
            one.end()


async def test_what_is_the_clients_fault_is_asked_once(fleet: Fleet) -> None:
    """No other replica, and no fallback."""
    fleet.configure(replica("a", weight=100), replica("b"), replica("c", "ollama"))
    fleet.servers["a"].faults = [BackendRefused("No such parameter.", status=400)]
    with pytest.raises(BackendRefused, match="No such parameter"):
        await fleet.ask()
    assert [server.calls for server in fleet.servers.values()] == [1, 0, 0]


async def test_a_stream_that_has_begun_is_never_tried_again(fleet: Fleet) -> None:
    """A whole reply is: its client has heard nothing."""
    fleet.configure(replica("a", weight=1000), replica("b"))
    fleet.servers["a"].breaks_after = 2
    with pytest.raises(BackendGone):
        await fleet.ask(stream=True)
    assert (fleet.servers["b"].calls, fleet.shelf.kept) == (0, {})
    assert (await fleet.ask("another")).backend == "b"


async def test_a_fallback_answers_under_its_own_name(fleet: Fleet) -> None:
    """Its answer is kept as its own; when those come back who should have answered, they are asked."""
    fleet.configure(replica("a"), replica("c", "ollama"))
    primary = await fleet.ask("first")
    fleet.servers["a"].stop()
    answer = await fleet.ask("second")
    assert (answer.backend, answer.fallback) == ("c", "vllm")
    (entry,) = [entry for entry in fleet.shelf.kept.values() if entry.backend == "c"]
    assert (entry.query.engine, entry.fallback) == ("ollama", "vllm")
    again = await fleet.ask("second")
    assert (again.status, again.fallback, again.key) == ("hit", "vllm", answer.key)
    kept = await fleet.ask("first")
    assert (kept.status, kept.fallback, kept.key) == ("hit", "", primary.key)
    fleet.servers["a"].start()
    await until(lambda: fleet.router.model("m").replicas[0].state == "ready")
    back = await fleet.ask("second")
    assert (back.status, back.backend, back.fallback) == ("miss", "a", "")
    assert back.key != answer.key


async def test_one_that_was_never_there_is_missed_all_the_same(fleet: Fleet) -> None:
    """Who should have answered is a matter of the settings, not of who has been seen."""
    fleet.configure(replica("a"), replica("c", "ollama"))
    fleet.servers["a"].stop()
    assert (await fleet.ask()).fallback == "vllm"


async def test_the_operators_order_counts_and_may_name_other_models(fleet: Fleet) -> None:
    """A key that is for some models is not answered by others."""
    order = ModelConfig(name="m", fallback=("ollama", "vllm", "n"))
    fleet.configure(replica("a"), replica("c", "ollama"), replica("d", alias="n"), models=[order])
    assert (await fleet.ask("1")).backend == "c"
    fleet.servers["c"].stop()
    assert (await fleet.ask("2")).backend == "a"
    fleet.servers["a"].stop()
    last = await fleet.ask("3")
    assert (last.backend, last.fallback) == ("d", "m")
    assert (await fleet.ask("3", model="n")).key == last.key
    with pytest.raises(BackendUnreachable):
        await fleet.ask("4", models=frozenset({"m"}))


async def test_other_weights_under_the_same_name_share_no_answer(fleet: Fleet) -> None:
    """A server that was away is asked who it is before it is asked anything else."""
    fleet.configure(replica("a"))
    first = await fleet.ask()
    fleet.servers["a"].stop()
    assert (await fleet.ask()).status == "hit"
    with pytest.raises(BackendUnreachable):
        await fleet.ask("something new")
    fleet.servers["a"].start("w2")
    await until(lambda: fleet.router.model("m").replicas[0].state == "ready")
    second = await fleet.ask()
    assert (second.status, second.key == first.key) == ("miss", False)
    assert [entry.query.model_version for entry in fleet.shelf.kept.values()] == ["w1", "w2"]


async def test_an_answer_of_one_who_has_become_another_is_not_kept(fleet: Fleet) -> None:
    """It was named after the old weights, and the new ones gave it: the client has it, and nobody else will."""
    fleet.configure(replica("a"))
    await fleet.ask("known")
    server = fleet.servers["a"]
    server.hold.clear()
    asked = asyncio.create_task(fleet.ask("new"))
    await until(lambda: server.running == 1)
    server.weights = "w2"
    server.signs += 1
    server.hold.set()
    assert (await asked).backend == "a"
    assert [entry.query.text for entry in fleet.shelf.kept.values()] == ["known"]


async def test_replicas_of_two_weights_share_the_work_and_no_names(fleet: Fleet) -> None:
    """While weights are being replaced, or where nobody knows whether they are the same: each answer has the name of
    who gave it, and what one has answered the other is not asked.
    """
    fleet.configure(replica("a"), replica("b"), replica("c"))
    for server, weights in zip(fleet.servers.values(), ("w2", "w1", "w1"), strict=True):
        server.weights = weights
    asked = [await fleet.ask(f"question {number}") for number in range(12)]
    assert Counter(answer.backend for answer in asked) == {"a": 4, "b": 4, "c": 4}
    assert not any(answer.fallback for answer in asked)
    named = {(entry.backend, entry.query.model_version) for entry in fleet.shelf.kept.values()}
    assert named == {("a", "w2"), ("b", "w1"), ("c", "w1")}
    again = [await fleet.ask(f"question {number}") for number in range(12)]
    assert [answer.status for answer in again] == ["hit"] * 12
    fleet.servers["b"].stop()
    fleet.servers["c"].stop()
    assert {(await fleet.ask(f"last {number}")).backend for number in range(3)} == {"a"}


async def test_kept_answers_of_weights_that_are_gone_are_not_given_while_others_can_be_asked(fleet: Fleet) -> None:
    """But while nobody can be."""
    fleet.configure(replica("a"), replica("b"))
    fleet.servers["a"].weights = "w2"
    first = [await fleet.ask(f"question {number}") for number in range(4)]
    old = next(number for number, answer in enumerate(first) if answer.backend == "b")
    fleet.servers["b"].stop()
    assert (await fleet.ask(f"question {old}")).status == "miss"
    fleet.servers["a"].stop()
    assert [(await fleet.ask(f"question {number}")).status for number in range(4)] == ["hit"] * 4


async def test_a_kind_that_hangs_is_left_alone_once_the_next_has_answered_for_it(fleet: Fleet) -> None:
    """Three requests find out; the others are answered by the fallback at once."""
    fleet.configure(replica("a"), replica("b"), replica("c", kind="ollama"))
    bad = [fleet.servers["a"], fleet.servers["b"]]
    for server in bad:
        server.faults = [BackendTimeout("Nothing came.", code="first_token_timeout")] * 1000
    asked = [await fleet.ask(f"question {number}") for number in range(10)]
    assert [(answer.backend, answer.fallback) for answer in asked] == [("c", "vllm")] * 10
    assert [server.calls for server in bad] == [3, 3]


async def test_one_that_others_outdo_is_left_alone_for_a_while(fleet: Fleet) -> None:
    """Then it gets one request for a trial; alone it would be asked every time."""
    fleet.configure(replica("a", weight=1000), replica("b"))
    bad = fleet.servers["a"]
    bad.faults = [BackendError("garbage")] * 1000
    for number in range(10):
        assert (await fleet.ask(f"question {number}")).backend == "b"
    assert bad.calls == 3
    breaker = fleet.router.model("m").replicas[0].breaker
    await until(lambda: not breaker.left_s)
    bad.faults = []
    assert (await fleet.ask("trial")).backend == "a"
    assert (await fleet.ask("and more")).backend == "a"


async def test_a_failure_that_all_share_is_nobodys_fault(fleet: Fleet) -> None:
    """A request that breaks every server must not have them all left alone."""
    fleet.configure(replica("a"), replica("b"))
    for server in fleet.servers.values():
        server.faults = [BackendError("too strange a request")] * 30
    for number in range(10):
        with pytest.raises(BackendError, match="too strange"):
            await fleet.ask(f"question {number}")
    for server in fleet.servers.values():
        server.faults = []
    assert (await fleet.ask("plain")).backend in {"a", "b"}


async def test_one_that_asks_for_a_rest_gets_it(fleet: Fleet) -> None:
    """Others are asked meanwhile; without any, the client is told when to come back."""
    fleet.configure(replica("a", weight=1000), replica("b"))
    busy = BackendRefused("Too many requests.", status=429)
    busy.retry_after_s = 30.0
    fleet.servers["a"].faults = [busy]
    assert [(await fleet.ask(str(number))).backend for number in range(3)] == ["b", "b", "b"]
    assert fleet.servers["a"].calls == 1
    fleet.configure(replica("a", weight=1000))
    assert (await fleet.ask("with other settings the rest is over")).backend == "a"
    fleet.servers["a"].faults = [busy]
    for text in ("new", "newer"):
        with pytest.raises(BackendRefused) as refused:
            await fleet.ask(text)
    assert fleet.servers["a"].calls == 3
    assert (refused.value.status, refused.value.type) == (429, "overloaded_error")
    assert 0 < (refused.value.retry_after_s or 0) <= 30


async def test_what_no_replica_has_room_for_waits_in_line(fleet: Fleet) -> None:
    """As long as the line is not full, and not for ever."""
    settings = ModelConfig(name="m", queue_max=2, queue_deadline_s=60)
    fleet.configure(replica("a", max_concurrency=1), models=[settings])
    server = fleet.servers["a"]
    await fleet.ask("warm")
    server.hold.clear()
    asked = [asyncio.create_task(fleet.ask(f"question {number}")) for number in range(3)]
    await until(lambda: len(fleet.router.model("m").admission) == 2)
    with pytest.raises(Overloaded) as refused:
        await fleet.ask("one too many")
    assert (refused.value.status, refused.value.code) == (429, "overloaded")
    gone = asked.pop()
    gone.cancel()
    await asyncio.wait({gone})
    server.hold.set()
    assert [(await answer).backend for answer in asked] == ["a", "a"]
    assert server.most == 1
    assert fleet.router.model("m").replicas[0].outstanding == 0


async def test_the_line_has_a_deadline(fleet: Fleet) -> None:
    """503, and when to come back."""
    settings = ModelConfig(name="m", queue_deadline_s=0.05)
    fleet.configure(replica("a", max_concurrency=1), models=[settings])
    fleet.servers["a"].hold.clear()
    asked = asyncio.create_task(fleet.ask("first"))
    await until(lambda: fleet.servers["a"].running == 1)
    with pytest.raises(Overloaded) as refused:
        await fleet.ask("second")
    assert (refused.value.status, refused.value.code) == (503, "queue_timeout")
    fleet.servers["a"].hold.set()
    await asked


async def test_those_in_line_go_to_the_fallback_when_their_replica_dies(fleet: Fleet) -> None:
    """They need not wait for the deadline."""
    fleet.configure(replica("a", max_concurrency=1), replica("c", "ollama"))
    await fleet.ask("warm")
    server = fleet.servers["a"]
    server.hold.clear()
    first = asyncio.create_task(fleet.ask("first", stream=True))
    await until(lambda: server.running == 1)
    second = asyncio.create_task(fleet.ask("second"))
    await until(lambda: len(fleet.router.model("m").admission) == 1)
    server.stop()
    server.breaks_after = 0
    server.hold.set()
    assert ((await second).backend, (await first).backend) == ("c", "c")


async def test_settings_change_while_requests_run(fleet: Fleet) -> None:
    """A replica that stays keeps what is known of it; one that goes finishes what it has begun."""
    fleet.configure(replica("a"), replica("b"))
    await fleet.ask("warm")
    kept = fleet.router.model("m").replicas[1]
    leaving = fleet.servers["a"]
    for server in fleet.servers.values():
        server.hold.clear()
    asked = [asyncio.create_task(fleet.ask(f"question {number}")) for number in range(2)]
    await until(lambda: leaving.running == 1)
    fleet.configure(replica("b", weight=3.0), replica("c"))
    assert fleet.router.model("m").replicas[0] is kept
    assert (kept.weight, kept.outstanding) == (3.0, 1)
    assert not leaving.closed
    for server in fleet.servers.values():
        server.hold.set()
    assert {(await answer).backend for answer in asked} == {"a", "b"}
    await until(lambda: leaving.closed)
    assert {(await fleet.ask(f"later {number}")).backend for number in range(40)} == {"b", "c"}


async def test_vectors_of_one_reply_come_from_one_model(fleet: Fleet) -> None:
    """A fallback gives all of them, also those that the first has kept."""
    fleet.configure(replica("a"), replica("c", "ollama"))
    embedder = Embedder(fleet.shelf, fleet.router, SharedFlights())

    def inputs(*texts: str) -> list[Request]:
        return [Request(kind="embedding", model="m", prompt={"input": text}, params={}, extra={}) for text in texts]

    first = await embedder.embed(inputs("x"), CALLER, Steering(), "id")
    assert (first.backend, first.fallback) == ("a", "")
    fleet.servers["a"].stop()
    both = await embedder.embed(inputs("x", "y"), CALLER, Steering(), "id")
    assert (both.backend, both.fallback, both.hits) == ("c", "vllm", 0)
    kept = await embedder.embed(inputs("x"), CALLER, Steering(), "id")
    assert (kept.backend, kept.fallback, kept.hits) == ("a", "", 1)


async def test_each_tenant_has_its_own_part_of_an_engines_cache(fleet: Fleet) -> None:
    """The same one each time, and a name that says nothing of the tenant."""
    fleet.configure(replica("a"))
    for tenant in ("acme", "rival", "acme"):
        await fleet.ask(f"{tenant} {len(fleet.servers['a'].partitions)}", tenant=tenant)
    first, other, again = fleet.servers["a"].partitions
    assert first == again != other
    assert "acme" not in first
