"""Servers are asked what they serve, each engine in its own way; as little as will do, as long as none was replaced."""

import asyncio
import hashlib
import math
import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from gateway.backends import upstream
from gateway.backends.known import Ages
from gateway.backends.weights import Served
from gateway.errors import BackendError, BackendRefused, BackendTimeout

T = TypeVar("T")

_HERE: Final = Ages(1.0, 5.0)
"""That the process is still the same is known at any time; what may change in it are adapters."""
_ELSEWHERE: Final = Ages(2.0, 5.0)
_HOSTED: Final = Ages(60.0, math.inf)
_ASK_S: Final = 10.0
_START_EVERY_S: Final = 4.0
"""It is among hundreds of figures, and so is not asked for each time."""
_PROBE_S: Final = 60.0
"""It waits in the same queue as everybody's requests."""
_CLOCK_S: Final = 2.0
"""How wrong the start of a process may be: it is counted from a boot time in whole seconds. No server loads faster."""
_LOADS_BYTES_S: Final = 1e8
_STARTED: Final = re.compile(rb"^process_start_time_seconds (\S+)", re.MULTILINE)
_DEFAULT_FINGERPRINT: Final = re.compile(r"vllm-.*-([0-9a-f]{8}|nohash)")
_COMMON_MARKER: Final = "<__media__>"


class Server(Protocol):
    """Who is asked. What it raises is a `BackendError`."""

    @property
    def here(self) -> bool:
        """Whether it is on this machine."""
        ...

    async def tie(self) -> None:
        """Hold on to the process that answers now."""
        ...

    def tied(self) -> bool:
        """Whether it is still the same since then."""
        ...

    def signs(self) -> int:
        """How often it may have become another one."""
        ...

    async def read(self, path: str, content: bytes | None = None, *, sign: bool = True) -> bytes:
        """Post JSON, or get; the whole body of the reply. Without `sign`, a connection that breaks says nothing."""
        ...

    async def headers(self, path: str) -> Mapping[str, str]:
        """Get; the head of the reply, names in lower case."""
        ...


class Card(msgspec.Struct, frozen=True):
    """An entry of `/v1/models`."""

    id: str
    # Others than the engines we know may say anything there.
    root: Any = None
    parent: Any = None
    max_model_len: Any = None
    meta: Any = None

    @property
    def place(self) -> str:
        """Where its weights came from, or nothing."""
        return self.root if isinstance(self.root, str) else ""

    @property
    def size_bytes(self) -> int | None:
        """Of its weights, where llama.cpp says it."""
        size = self.meta.get("size") if isinstance(self.meta, dict) else None
        return size if isinstance(size, int) else None


class Cards(msgspec.Struct, frozen=True):
    """`/v1/models`."""

    data: tuple[Card, ...]


class _Props(msgspec.Struct, frozen=True):
    model_path: str = ""
    chat_template: str = ""
    media_marker: str = _COMMON_MARKER
    build_info: str = ""
    modalities: dict[str, Any] = {}
    default_generation_settings: dict[str, Any] = {}


class _Version(msgspec.Struct):
    version: str


class _Choices(msgspec.Struct):
    system_fingerprint: str | None = None


CARDS: Final = msgspec.json.Decoder(Cards)
_PROPS: Final = msgspec.json.Decoder(_Props)
_VERSION: Final = msgspec.json.Decoder(_Version)
_CHOICES: Final = msgspec.json.Decoder(_Choices)


class Telling(ABC):
    """What `server` tells of `model`. Everything is asked anew once the process may be another one."""

    def __init__(self, name: str, server: Server, model: str) -> None:
        self._name = name
        self._server = server
        self._model = model
        self._last: tuple[object, Served] | None = None
        self._nobody_elses = -1, ""

    @property
    def ages(self) -> Ages:
        """How long what it says is believed, if nothing happens."""
        return _HERE if self._server.here else _ELSEWHERE

    async def served(self) -> Served:
        """What is served now. Raises `BackendError`."""
        try:
            async with asyncio.timeout(_ASK_S):
                await self._server.tie()
                signs = self._server.signs() if self._server.tied() else object()
                short = signs, await self._short()
                if self._last is None or self._last[0] != short:
                    self._last = short, await self._all(short[1])
                return self._last[1]
        except TimeoutError as error:
            message = f"Backend '{self._name}' did not say in time what it serves."
            raise BackendTimeout(message) from error

    async def fingerprint(self) -> str:
        """What the operator calls the weights, where the server says it."""
        return ""

    @abstractmethod
    async def _short(self) -> Any:
        """What changes with the model as long as the process is the same."""

    @abstractmethod
    async def _all(self, short: Any) -> Served:
        """Everything."""

    async def _cards(self) -> tuple[Card, ...]:
        """Of the model, and before it of the one that it adapts; none where the server does not list it."""
        cards = {card.id: card for card in (await self._read("/v1/models", CARDS)).data}
        mine = cards.get(self._model)
        base = cards.get(mine.parent) if mine and isinstance(mine.parent, str) else None
        return tuple(card for card in (base, mine) if card)

    async def _read(self, path: str, decoder: msgspec.json.Decoder[T]) -> T:
        return upstream.decoded(self._name, await self._server.read(path), decoder)

    def _process_unknown(self) -> str:
        """A name that nobody else has, for as long as there is no sign of another process."""
        if self._nobody_elses[0] != (signs := self._server.signs()):
            self._nobody_elses = signs, f"unknown-{secrets.token_hex(8)}"
        return self._nobody_elses[1]

    async def _process_started_s(self) -> float | None:
        """When a server in Python says that it started; several processes that serve one port do not."""
        try:
            found = _STARTED.search(await self._server.read("/metrics", sign=False))
            return float(found[1]) if found else None
        except (BackendError, ValueError):
            return None


class OpenAITelling(Telling):
    """Any server: a name has to do where it tells no more."""

    @property
    def ages(self) -> Ages:
        """Of a hosted model nothing can be learnt but its name."""
        return _HERE if self._server.here else _HOSTED

    async def _short(self) -> tuple[Card, ...]:
        return await self._cards()

    async def _all(self, short: tuple[Card, ...]) -> Served:
        roots = tuple(card.place for card in short if card.place)
        started_s = await self._process_started_s() if roots and self._server.here else None
        return Served(roots=roots or (self._model,), here=self._server.here, read_since_s=_after(started_s))


class VllmTelling(Telling):
    """vLLM."""

    _started_s: float | None = None
    _start_asked_at = -math.inf
    _start_signs = -1

    async def fingerprint(self) -> str:
        """That of `--fingerprint-mode custom`, which is said with completions only: the model makes one token."""
        said = {"model": self._model, "prompt": "Hi", "max_tokens": 1, "temperature": 0}
        try:
            async with asyncio.timeout(_PROBE_S):
                content = await self._server.read("/v1/completions", msgspec.json.encode(said))
        except BackendRefused:  # a model that only embeds
            return ""
        except TimeoutError as error:
            message = f"Backend '{self._name}' did not say in time what it serves."
            raise BackendTimeout(message) from error
        found = upstream.decoded(self._name, content, _CHOICES).system_fingerprint or ""
        return "" if _DEFAULT_FINGERPRINT.fullmatch(found) else found

    async def _short(self) -> tuple[tuple[Card, ...], float | None]:
        """With the start: behind a proxy, which stays while its servers come and go, nothing else tells of another."""
        now, signs = time.monotonic(), self._server.signs()
        if now - self._start_asked_at > _START_EVERY_S or self._start_signs != signs or not self._server.tied():
            self._started_s = await self._process_started_s()
            self._start_asked_at, self._start_signs = now, signs
        return await self._cards(), self._started_s

    async def _all(self, short: tuple[tuple[Card, ...], float | None]) -> Served:
        version = (await self._read("/version", _VERSION)).version
        cards, started_s = short
        return Served(
            engine_version=version,
            roots=tuple(card.place or card.id for card in cards) or (self._model,),
            here=self._server.here,
            read_since_s=_after(started_s),
            process=self._process_unknown() if started_s is None else str(started_s),
            manner=_short_digest([card.max_model_len for card in cards]),
        )


class LlamaCppTelling(Telling):
    """llama.cpp. Each process makes up a marker of its own for pictures in a prompt."""

    async def _short(self) -> _Props:
        return await self._read("/props", _PROPS)

    async def _all(self, short: _Props) -> Served:
        loaded = (await self._metrics_head()).get("process-start-time-unix", "")
        cards = (await self._read("/v1/models", CARDS)).data
        marker = "" if short.media_marker == _COMMON_MARKER else short.media_marker.strip("<>_")
        settings = short.default_generation_settings
        # Of files beside the model nobody says where they are.
        params = settings.get("params")
        alone = not any(short.modalities.values()) and isinstance(params, dict) and not params.get("lora")
        return Served(
            engine_version=short.build_info,
            roots=(short.model_path or self._model,),
            here=self._server.here,
            read_since_s=self._read_since_s(loaded, cards) if alone else None,
            process=marker or loaded,
            manner=_short_digest([short.chat_template, settings.get("n_ctx"), [card.meta for card in cards]]),
        )

    async def _metrics_head(self) -> Mapping[str, str]:
        try:
            return await self._server.headers("/metrics")
        except BackendError:  # without --metrics
            return {}

    def _read_since_s(self, loaded: str, cards: Sequence[Card]) -> float | None:
        """Loaded at so many microseconds of this machine's clock, for as long as a slow disk would have taken."""
        sizes = [card.size_bytes for card in cards]
        age_s = time.monotonic() - int(loaded) / 1e6 if loaded.isdecimal() else -1.0
        if age_s < 0 or not self._server.here or None in sizes:
            return None
        return time.time() - age_s - 1.0 - sum(size or 0 for size in sizes) / _LOADS_BYTES_S


def _after(started_s: float | None) -> float | None:
    return None if started_s is None else started_s + _CLOCK_S


def _short_digest(said: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:8]


TELLING: Final[Mapping[str, type[Telling]]] = {
    "openai": OpenAITelling,
    "vllm": VllmTelling,
    "llamacpp": LlamaCppTelling,
}
