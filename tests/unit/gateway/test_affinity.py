"""Choosing by prefix: who holds a prompt is asked, unless that loads one replica with more than its share."""

import hashlib
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator

import msgspec
import pytest

from gateway.routing import prefixes
from gateway.routing.affinity import Affinity, Chosen


class Candidate(msgspec.Struct, frozen=True):
    """A replica."""

    name: str
    outstanding: int = 0
    weight: float = 1.0


NAMES = ("one", "two", "three")
IDLE = [Candidate(name) for name in NAMES]
Pick = Callable[[bytes, list[Candidate]], Chosen]


def words(chance: random.Random, length: int) -> bytes:
    """Text that nothing else has."""
    return chance.randbytes(length)


def blocks(prompt: bytes) -> prefixes.Blocks:
    """Of one tenant."""
    return prefixes.blocks(prompt, b"acme")


def test_a_conversation_stays_where_it_began() -> None:
    """Each turn goes on where the one before was computed."""
    affinity, chance = Affinity(), random.Random(1)
    text = words(chance, 1000)
    first = affinity.choose(blocks(text), IDLE)
    for _ in range(50):
        text += words(chance, 300)
        chosen = affinity.choose(blocks(text), IDLE)
        assert chosen.name == first.name
        assert prefixes.end_of(chosen.held) > len(text) - 2_400


def test_processes_that_do_not_know_of_each_other_choose_alike() -> None:
    """What none of them has seen goes where its first block says."""
    chance = random.Random(2)
    documents = [words(chance, 2000) for _ in range(60)]
    chosen = [[Affinity().choose(blocks(text), IDLE).name for text in documents] for _ in range(3)]
    assert chosen[0] == chosen[1] == chosen[2]
    assert min(Counter(chosen[0]).values()) > 10


def test_a_replica_more_or_less_moves_few_prompts() -> None:
    """Rendezvous: only those go elsewhere that were on the one which left."""
    chance = random.Random(3)
    documents = [words(chance, 2000) for _ in range(60)]
    for text in documents:
        before = Affinity().choose(blocks(text), IDLE).name
        after = Affinity().choose(blocks(text), [one for one in IDLE if one.name != "two"]).name
        assert before in {after, "two"}


def test_weights_are_honoured() -> None:
    """Who has twice the weight is given twice as much."""
    chance, affinity = random.Random(4), Affinity()
    uneven = [Candidate("one", weight=2.0), Candidate("two"), Candidate("three")]
    counted = Counter(affinity.choose(blocks(words(chance, 2000)), uneven).name for _ in range(800))
    assert 340 < counted["one"] < 460


def test_nobody_is_given_more_than_a_share_of_what_is_under_way() -> None:
    """One document that everybody asks about is computed again elsewhere, rather than waited for."""
    affinity, text = Affinity(), words(random.Random(5), 5000)
    under_way = Counter[str]()
    for _ in range(200):
        chosen = affinity.choose(blocks(text), [Candidate(name, under_way[name]) for name in NAMES])
        under_way[chosen.name] += 1
    assert max(under_way.values()) <= 1.25 * 200 / 3 + 5


def test_a_replica_that_started_anew_holds_nothing() -> None:
    """Its cache went with it."""
    affinity, text = Affinity(), words(random.Random(6), 2000)
    chosen = affinity.choose(blocks(text), IDLE)
    affinity.forget(chosen.name)
    assert affinity.choose(blocks(text), IDLE).held == 0


def test_one_that_started_anew_is_not_sent_what_others_hold() -> None:
    """It has had nothing of late, and is no more due for that."""
    affinity, chance = Affinity(), random.Random(15)
    texts = [words(chance, 2000) for _ in range(300)]
    homes = [affinity.choose(blocks(text), IDLE).name for text in texts]
    affinity.forget("two")
    busy = [Candidate(name, 3) for name in NAMES]
    for text, home in list(zip(texts, homes, strict=True))[-30:]:
        if home != "two":
            assert affinity.choose(blocks(text), busy).name == home


def test_short_prompts_go_to_the_idlest() -> None:
    """There is nothing to share."""
    busy = [Candidate("one", 2), Candidate("two", 1), Candidate("three", 2)]
    assert Affinity().choose(blocks(b"Hi"), busy).name == "two"


class Engine:
    """A prefix cache as the engines have one: blocks of 128 bytes, the least recently used forgotten first."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes // 128
        self._held: OrderedDict[bytes, None] = OrderedDict()

    def ask(self, prompt: bytes) -> int:
        """How many bytes were found; then it has all of them."""
        ends = range(128, len(prompt) + 1, 128)
        keys = [hashlib.blake2b(prompt[:end], digest_size=8).digest() for end in ends]
        found = next((number for number, key in enumerate(keys) if key not in self._held), len(keys))
        for key in reversed(keys):
            self._held[key] = None
            self._held.move_to_end(key)
        while len(self._held) > self._capacity:
            self._held.popitem(last=False)
        return found * 128


def conversations(chance: random.Random) -> Iterator[bytes]:
    """Many at once, all with one system prompt, each some turns long."""
    system = words(chance, 1500)
    live: list[bytes] = []
    for _ in range(500):
        if len(live) < 24:
            live.append(system)
        number = chance.randrange(len(live))
        live[number] += words(chance, chance.randint(40, 400))
        yield live[number]
        live[number] += words(chance, chance.randint(100, 600))
        if chance.random() < 0.2:
            del live[number]


def documents(chance: random.Random) -> Iterator[bytes]:
    """Questions about some documents, in any order."""
    texts = [words(chance, chance.randint(3000, 20000)) for _ in range(24)]
    asked = [text + words(chance, 150) for text in texts for _ in range(16)]
    chance.shuffle(asked)
    yield from asked


def served(prompts: list[bytes], engines: dict[str, Engine], affinity: Affinity, chance: random.Random) -> Counter[str]:
    """Ask all, eight at a time; bytes by name of who was asked, and those found."""
    counted, under_way = Counter[str](), list[str]()
    for prompt in prompts:
        if len(under_way) == 8:
            under_way.pop(chance.randrange(8))
        chosen = affinity.choose(blocks(prompt), [Candidate(name, under_way.count(name)) for name in engines])
        under_way.append(chosen.name)
        found = engines[chosen.name].ask(prompt)
        affinity.told(chosen, len(prompt), len(prompt), found)
        counted += Counter({chosen.name: 1, "found": found, "all": len(prompt)})
    return counted


@pytest.mark.parametrize("workload", [conversations, documents])
@pytest.mark.parametrize("capacity_bytes", [150_000, 10**9], ids=["a little room", "much room"])
def test_three_replicas_compute_hardly_more_than_one_that_holds_all(
    workload: Callable[[random.Random], Iterator[bytes]], capacity_bytes: int
) -> None:
    """And each is asked about as often."""
    prompts = list(workload(random.Random(7)))
    many = served(prompts, {name: Engine(capacity_bytes) for name in NAMES}, Affinity(), random.Random(8))
    one = served(prompts, {"all of it": Engine(3 * capacity_bytes)}, Affinity(), random.Random(8))
    assert many["found"] / many["all"] >= 0.93 * one["found"] / one["all"]
    assert max(many[name] for name in NAMES) <= 1.25 * len(prompts) / 3


def test_new_prompts_go_to_those_who_had_least_of_late() -> None:
    """However they are hashed: a document that begins on a busy replica would have to leave it soon."""
    chance, affinity, asked = random.Random(10), Affinity(), Counter[str]()
    for _ in range(60):
        asked[affinity.choose(blocks(words(chance, 2000)), IDLE).name] += 1
    assert max(asked.values()) - min(asked.values()) <= 6


def test_what_is_short_teaches_nothing() -> None:
    """Engines count in blocks of up to some hundred tokens: that they found none of a few words says nothing."""
    affinity, chance = Affinity(), random.Random(11)
    document, alone = words(chance, 5000), [Candidate("one")]
    affinity.choose(blocks(document), alone)
    beginning = words(chance, 600)
    for _ in range(2):
        prompt = beginning + words(chance, 3000)
        affinity.told(affinity.choose(blocks(prompt), alone), len(prompt), len(prompt), 0)
    assert affinity.choose(blocks(document), alone).held == len(blocks(document))


def test_a_prompt_that_is_still_under_way_is_not_missed() -> None:
    """Two that ask the same at once: that neither finds what the other is having computed says nothing."""
    affinity, chance = Affinity(), random.Random(14)
    document, text = words(chance, 5000), words(chance, 5000)
    affinity.choose(blocks(document), [Candidate("one")])
    chosen = [affinity.choose(blocks(text), [Candidate("one", under_way)]) for under_way in range(2)]
    for one in chosen:
        affinity.told(one, len(text), len(text), 0)
    assert affinity.choose(blocks(document), [Candidate("one")]).held == len(blocks(document))


def test_an_engine_that_keeps_nothing_is_believed_to_hold_nothing() -> None:
    """Also what it was asked a moment ago."""
    affinity, text, alone = Affinity(), words(random.Random(12), 5000), [Candidate("one")]
    for _ in range(3):
        chosen = affinity.choose(blocks(text), alone)
        affinity.told(chosen, len(text), len(text), 0)
    assert affinity.choose(blocks(text), alone).held == 0


def test_what_is_remembered_is_bounded_and_what_is_used_stays() -> None:
    """Old documents are forgotten, the one that is asked about again and again is not."""
    affinity, chance, alone = Affinity(max_blocks=400), random.Random(13), [Candidate("one")]
    used, once = words(chance, 3000), words(chance, 3000)
    affinity.choose(blocks(once), alone)
    for _ in range(200):
        affinity.choose(blocks(words(chance, 3000)), alone)
        assert affinity.choose(blocks(used), alone).name == "one"
    assert affinity.choose(blocks(used), alone).held == len(blocks(used))
    assert affinity.choose(blocks(once), alone).held == 0


def test_how_much_an_engine_has_room_for_is_learnt() -> None:
    """What it has forgotten is not believed to be there."""
    affinity, engine, chance = Affinity(), Engine(20_000), random.Random(9)
    texts = [words(chance, 5000) for _ in range(12)]
    alone = [Candidate("one")]
    for round_ in range(3):
        for text in texts:
            chosen = affinity.choose(blocks(text), alone)
            affinity.told(chosen, len(text), len(text), engine.ask(text))
            assert round_ < 2 or chosen.held == 0
