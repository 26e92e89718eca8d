"""What every reply says of where its answer came from."""

import string
from typing import Final
from urllib.parse import quote

from gateway.embedding.embedder import Vectors
from gateway.pipeline import Answer

_PLAIN: Final = string.punctuation + " "


def describing(answer: Answer, *, ended: bool = False) -> dict[str, str]:
    """The headers of one answer. Before it has `ended` it has a record if it is to be kept; then, if it is."""
    headers = {
        "x-askonce-cache": answer.status,
        "x-askonce-tier": answer.tier,
        "x-askonce-key": (answer.near or answer).key.hex(),
        "x-askonce-provenance": answer.provenance,
        "age": str(int(answer.age_s)),
    }
    if answer.near is not None:
        headers["x-askonce-source-key"] = answer.key.hex()
        headers["x-askonce-similarity"] = f"{answer.near.similarity:.4f}"
    if answer.origin_id:
        headers["x-askonce-origin-id"] = answer.origin_id
    if answer.is_kept() if ended else answer.kept:
        headers["x-askonce-record"] = record(answer.key)
    return headers | _who(answer.backend, answer.fallback)


def record(key: bytes) -> str:
    """Where all that is known of an answer can be read."""
    return f"/v1/cache/{key.hex()}"


def describing_vectors(vectors: Vectors) -> dict[str, str]:
    """The headers of several embeddings. Some kept and some not have no age; one alone has a key and a record."""
    headers = {
        "x-askonce-cache": vectors.status,
        "x-askonce-tier": vectors.tier,
        "x-askonce-provenance": vectors.provenance,
        "x-askonce-hits": f"{vectors.hits}/{len(vectors.values)}",
    }
    headers |= _who(vectors.backend, vectors.fallback)
    if vectors.age_s is not None:
        headers["age"] = str(int(vectors.age_s))
    if len(vectors.keys) == 1:
        headers["x-askonce-key"] = vectors.keys[0].hex()
        if vectors.kept:
            headers["x-askonce-record"] = record(vectors.keys[0])
        if vectors.origin_id:
            headers["x-askonce-origin-id"] = vectors.origin_id
    return headers


def _who(backend: str, fallback: str) -> dict[str, str]:
    """Which replica answered, and who should have."""
    named = {"x-askonce-backend": backend, "x-askonce-fallback": fallback}
    return {name: _sayable(value) for name, value in named.items() if value}


def _sayable(name: str) -> str:
    """A name as a header may have it: what is not plain ASCII as in an address, percent by percent."""
    return name if name.isascii() and name.isprintable() else quote(name, safe=_PLAIN, errors="replace")
