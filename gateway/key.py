"""Request -> Query: the canonical form and the sha256 over it. Pure.

Two requests are equal when every field that can change the answer is equal. A field counts unless it is listed in
`NEUTRAL`; a field nobody has heard of therefore counts.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from gateway import jcs
from gateway.canonical import RENDERING, Identity, Request
from gateway.errors import InvalidRequest
from storage.entry import Query

VERSION = b"askonce/1"

_EXACT = 2.0**53

DEFAULTS_OF_MODEL = "model"
"""The value of the parameter `defaults` where what is not said is left to the model's own settings."""

NEUTRAL = frozenset(
    {
        "stream",
        "stream_options",
        "user",
        "metadata",
        "store",
        "safety_identifier",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "encoding_format",
        "keep_alive",
        "extract",
    }
)
"""Fields that say who asks, how the reply travels or what is made of it, and so cannot change the answer."""


def query(request: Request, scope: str, identity: Identity) -> Query:
    """Name `request`, asked within `scope` of the model `identity`.

    Raises `InvalidRequest` for values RFC 8785 cannot write: integers beyond 2^53, lone surrogates.
    """
    prompt, params = canonical(request.prompt), canonical(counted(request, identity.engine))
    prompt_hash = hashlib.sha256(prompt).digest()
    return Query(
        key=digest(value for _, value in parts(request, scope, identity, prompt_hash, params)),
        scope=scope,
        kind=request.kind,
        model=request.model,
        model_version=identity.model_version,
        engine=identity.engine,
        engine_version=identity.engine_version,
        prompt_hash=prompt_hash,
        prompt=prompt.decode(),
        params=params.decode(),
        text=searchable(request.prompt),
    )


def parts(
    request: Request, scope: str, identity: Identity, prompt_hash: bytes, params: bytes
) -> list[tuple[str, bytes]]:
    """Every named part of the key, in the order it is hashed."""
    return [
        ("version", _version(request)),
        ("scope", scope.encode()),
        ("kind", request.kind.encode()),
        ("model", request.model.encode()),
        ("model_version", identity.model_version.encode()),
        ("engine", identity.engine.encode()),
        ("engine_version", identity.engine_version.encode()),
        ("prompt_hash", prompt_hash),
        ("params", params),
        ("context_keys", ",".join(_hexadecimal(request)).encode()),
        ("attempt", b""),
    ]


def _version(request: Request) -> bytes:
    """Of this encoding, and where the gateway has a hand in what is asked and answered, of that too."""
    touched = request.about_tools or request.repeats_roles or "response_format" in request.prompt
    return VERSION + b" rendering/" + RENDERING if touched else VERSION


def digest(values: Iterable[bytes]) -> bytes:
    """sha256 over length-prefixed values: no two different lists run together to the same bytes."""
    prefixed = [part for value in values for part in (len(value).to_bytes(8, "big"), value)]
    return hashlib.sha256(b"".join(prefixed)).digest()


def counted(request: Request, engine: str) -> dict[str, Any]:
    """The parameters that can change the answer; unknown ones are kept apart so that no name can collide."""
    request = request.of(engine)
    known = {name: _whole(value) for name, value in request.params.items() if name not in NEUTRAL}
    if isinstance(known.get("seed"), int):
        # Seeds are 64-bit integers; canonical JSON numbers are doubles.
        known["seed"] = str(known["seed"])
    if engine == "ollama" and request.unsaid is not None:
        known["defaults"] = DEFAULTS_OF_MODEL
    tried = {} if request.extraction is None else {"extraction": msgspec.to_builtins(request.extraction)}
    context = {"context": _hexadecimal(request)} if request.context else {}
    return {"known": known, "extra": request.extra, **tried, **context}


def _hexadecimal(request: Request) -> list[str]:
    """The keys of what was retrieved, in the order of the prompt."""
    return [key.hex() for key in request.context]


def _whole(value: Any) -> Any:
    """A number without a fraction as an integer: both are written alike, and integers sooner."""
    return int(value) if type(value) is float and abs(value) < _EXACT and value.is_integer() else value


def canonical(value: Any) -> bytes:
    """RFC 8785 JSON. Raises `InvalidRequest` where there is none."""
    try:
        return jcs.dumps(value)
    except jcs.IntegerDomainError as error:
        message = "Integers beyond ±(2^53 - 1) have no canonical JSON form; use a smaller one, or send it as a string."
        raise InvalidRequest(message, code="integer_out_of_range") from error
    except (jcs.CanonicalizationError, UnicodeEncodeError) as error:
        message = "A string holds half of a surrogate pair, which is not a character; send it whole or escape it."
        raise InvalidRequest(message, code="invalid_unicode") from error


def searchable(prompt: dict[str, Any]) -> str:
    """The words of a prompt, without roles, images or tools."""
    return "\n".join(_texts(prompt.get("messages", prompt.get("prompt", prompt.get("input", "")))))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        yield from _texts(value.get("content", value.get("text", "")))
