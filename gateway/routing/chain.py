"""Replicas and the operator's order in, places out: who answers first, and who after whom."""

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.routing.replica import Replica

USUAL: Final = (("vllm", "openai"), ("ollama",), ("llamacpp",), ("scripted",))
"""Kinds of backends, those first that are to answer when they can."""

Place = tuple[str, ...]
"""Kinds of backends that are equal, or the name of another model."""


def places(fallback: Sequence[str]) -> list[Place]:
    """The whole order. Kinds that `fallback` does not name follow those it does, or come first if it names none."""
    kinds = {kind for place in USUAL for kind in place}
    named = [(word,) for word in fallback]
    rest = [left for place in USUAL if (left := tuple(kind for kind in place if kind not in fallback))]
    last = max((at for at, word in enumerate(fallback) if word in kinds), default=-1)
    return [*named[: last + 1], *rest, *named[last + 1 :]]


def by_kind(replicas: Sequence[Replica]) -> Mapping[str, list[Replica]]:
    """Replicas, by what they are."""
    found: dict[str, list[Replica]] = {}
    for replica in replicas:
        found.setdefault(replica.kind, []).append(replica)
    return found
