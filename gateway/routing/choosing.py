"""Replicas that could answer in, the one that shall out: whoever has the beginning of the prompt in its KV cache."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import msgspec

from gateway.routing import prefixes
from gateway.routing.affinity import Affinity, Chosen
from gateway.routing.prefixes import Blocks
from gateway.routing.replica import Replica
from storage.entry import Usage

Say = Callable[[bytes], None]
"""Tells other gateways. Must not wait."""


class Prompt(msgspec.Struct):
    """What a chooser knows of one prompt."""

    blocks: Blocks
    """Its beginnings; none for one that is too short to matter."""
    length: int
    """In bytes."""
    chosen: Chosen | None = None
    """Where it went last."""


class _Sent(msgspec.Struct, frozen=True, array_like=True):
    """What gateways tell each other: a prompt was sent to a replica, which held so many of its blocks."""

    name: str
    held: int
    blocks: Blocks


_ENCODER = msgspec.msgpack.Encoder()
_SENT = msgspec.msgpack.Decoder(_Sent)


class Chooser(Protocol):
    """Who of several equal replicas is asked."""

    def prompt(self, text: str, scope: str) -> Prompt:
        """What `choose` wants to know of a prompt of this scope, worked out once for all attempts."""
        ...

    def choose(self, candidates: Sequence[Replica], prompt: Prompt) -> Replica:
        """One of `candidates`, of which there is at least one; all have room."""
        ...

    def preferred(self, candidates: Sequence[Replica], prompt: Prompt) -> Replica:
        """The one that would be chosen now."""
        ...

    def told(self, prompt: Prompt, usage: Usage) -> None:
        """It was answered by whoever was chosen last, who says how much of it was in its cache."""
        ...

    def heard(self, message: bytes) -> None:
        """Another gateway, or another worker of this one, has chosen."""
        ...

    def only(self, names: Collection[str]) -> None:
        """Know of these replicas, and of no others."""
        ...

    def forget(self, name: str) -> None:
        """A replica's cache is empty: it was started anew."""
        ...


class ByPrefix:
    """Whoever holds most of the prompt, unless that has more than its share to do; of equals, who has least to do."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._affinity = Affinity()
        self._names: Collection[str] = ()

    def prompt(self, text: str, scope: str) -> Prompt:
        """Its blocks. Scopes share none: engines are told to keep what they compute for each apart."""
        content = text.encode()
        return Prompt(prefixes.blocks(content, scope.encode()), len(content))

    def choose(self, candidates: Sequence[Replica], prompt: Prompt) -> Replica:
        """One of them; it counts as sent there, here and in other gateways."""
        chosen = prompt.chosen = self._affinity.choose(prompt.blocks, candidates)
        self._say(_ENCODER.encode(_Sent(chosen.name, chosen.held, prompt.blocks)))
        return next(replica for replica in candidates if replica.name == chosen.name)

    def preferred(self, candidates: Sequence[Replica], prompt: Prompt) -> Replica:
        """One of them; nothing is sent there yet."""
        name = self._affinity.preferred(prompt.blocks, candidates)
        return next(replica for replica in candidates if replica.name == name)

    def told(self, prompt: Prompt, usage: Usage) -> None:
        """So one learns how much a replica's cache has room for."""
        if prompt.chosen is not None and usage.cached_tokens is not None:
            self._affinity.told(prompt.chosen, prompt.length, usage.prompt_tokens, usage.cached_tokens)

    def heard(self, message: bytes) -> None:
        """Remember it, as if it had been chosen here."""
        try:
            sent = _SENT.decode(message)
        except msgspec.MsgspecError:  # another version's
            return
        if sent.name in self._names:
            self._affinity.sent(sent.name, sent.blocks, sent.held)

    def only(self, names: Collection[str]) -> None:
        """Know of these, and of no others."""
        for name in set(self._names) - set(names):
            self._affinity.forget(name)
        self._names = frozenset(names)

    def forget(self, name: str) -> None:
        """It was started anew."""
        self._affinity.forget(name)
