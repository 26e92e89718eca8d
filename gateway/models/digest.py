"""The weights of a model come in, the digest that names them in every cache key goes out."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

_CACHE = "digests.json"
# What decides the answers of a Hugging Face folder; a README or an image may change freely.
_DECIDING = (
    "*.safetensors",
    "pytorch_model*.bin",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "chat_template*",
)


class _Seen(msgspec.Struct, frozen=True):
    """A file as it was when its digest was taken: the same four numbers mean the same bytes."""

    size_bytes: int
    mtime_ns: int
    inode: int
    sha256: str


async def weights_digest(path: Path, *, models_dir: Path) -> str:
    """The sha256, in hex, of a GGUF file, or of all deciding files of a Hugging Face folder (names included).

    Digests are kept in `models_dir`, so that an unchanged file is read once only.

    Raises:
        OSError: a file cannot be read.
    """
    return await asyncio.to_thread(_digest, path, models_dir / _CACHE)


def deciding_files(folder: Path) -> list[Path]:
    """The files of a Hugging Face folder that decide what the model answers, by name."""
    return sorted({file for pattern in _DECIDING for file in folder.glob(pattern) if file.is_file()})


def _digest(path: Path, cache_path: Path) -> str:
    if not path.is_dir():
        return _file_digests([path], cache_path)[0]
    files = deciding_files(path)
    whole = hashlib.sha256()
    for file, digest in zip(files, _file_digests(files, cache_path), strict=True):
        name = file.name.encode()
        whole.update(len(name).to_bytes(4, "big") + name + bytes.fromhex(digest))
    return whole.hexdigest()


def _file_digests(files: Iterable[Path], cache_path: Path) -> list[str]:
    known = _known(cache_path)
    sums: list[str] = []
    fresh: dict[str, _Seen] = {}
    for file in files:
        key, status = str(file.resolve()), file.stat()
        seen = known.get(key)
        if seen is None or (seen.size_bytes, seen.mtime_ns, seen.inode) != (
            status.st_size,
            status.st_mtime_ns,
            status.st_ino,
        ):
            fresh[key] = seen = _Seen(status.st_size, status.st_mtime_ns, status.st_ino, _sha256(file))
        sums.append(seen.sha256)
    if fresh:
        _keep(known | fresh, cache_path)
    return sums


def _sha256(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _known(cache_path: Path) -> dict[str, _Seen]:
    try:
        return msgspec.json.decode(cache_path.read_bytes(), type=dict[str, _Seen])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _keep(digests: dict[str, _Seen], cache_path: Path) -> None:
    # Replaced in one step: a reader never sees half of it.
    with tempfile.NamedTemporaryFile(dir=cache_path.parent, delete=False) as file:
        file.write(msgspec.json.format(msgspec.json.encode(digests), indent=1))
    Path(file.name).replace(cache_path)
