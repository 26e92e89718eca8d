"""The weights of a model come in, the digest that names them in every cache key goes out."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

FULL_MAX_BYTES: Final = 16 * 10**9
"""Larger models are not read whole: at 1 GB/s a first request would wait for minutes."""

_CACHE = "digests.json"
_SAMPLE_BYTES = 4096
_STRIDE_BYTES = 2**20
_TRIES = 3
_TICK_S = 0.02
"""More than a step of the clock that file systems use: two changes within one look like one."""
_SPLIT = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")
# What decides the answers of a model folder; a README or an image may change freely.
_DECIDING = (
    "*.safetensors",
    "*.bin",
    "*.pt",
    "*.pth",
    "*.gguf",
    "*.json",
    "*/config.json",  # how sentence-transformers pool
    "*.jinja",
    "*.model",
    "*.tiktoken",
    "*.py",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "chat_template*",
)


class Seen(msgspec.Struct, frozen=True):
    """What is known of a model's files without reading them."""

    changed_s: float
    """When the last of them was written, replaced, renamed or linked to, in seconds since 1970."""
    sign: str
    """Another one whenever any of them changed."""
    size_bytes: int


class _Stat(msgspec.Struct, frozen=True):
    """A file as it was when its digest was taken: the same numbers mean the same bytes.

    The time of change is among them, since nobody can set it: unpacked archives give every version of a file the same
    time of modification, the same size, and often the inode of the file they replace.
    """

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class _Known(msgspec.Struct, frozen=True):
    stat: _Stat
    sha256: str


class Digests:
    """Digests of the models that servers say they serve; those kept in `folder` are not computed again."""

    def __init__(self, folder: Path | None = None, *, full_max_bytes: int = FULL_MAX_BYTES) -> None:
        self._cache = folder / _CACHE if folder else None
        self._full_max_bytes = full_max_bytes
        self._last: dict[Path, tuple[str, str]] = {}

    async def seen(self, path: Path) -> Seen | None:
        """The state of the model at `path`, or None where no model can be read."""
        return await asyncio.to_thread(_seen, path)

    async def of(self, path: Path) -> str:
        """The digest of a model file or folder: of every byte, or `sampled:` and that of a part of a very large one.

        Raises:
            OSError: it cannot be read, or is being written.
        """
        return await asyncio.to_thread(self._of, path)

    def _of(self, path: Path) -> str:
        for _ in range(_TRIES):
            before = _seen(path)
            if before is None:
                break
            if (last := self._last.get(path)) and last[0] == before.sign:
                return last[1]
            time.sleep(max(0.0, min(_TICK_S, before.changed_s + _TICK_S - time.time())))
            whole = before.size_bytes <= self._full_max_bytes
            digest = _digest(path, self._cache) if whole else f"sampled:{_sampled(path)}"
            if _seen(path) == before:
                self._last[path] = (before.sign, digest)
                return digest
        raise OSError(f"The model at {path} cannot be read, or changes all the time.")


async def weights_digest(path: Path, *, models_dir: Path) -> str:
    """The sha256, in hex, of a GGUF file, or of all deciding files of a model folder (names included).

    Digests are kept in `models_dir`, so that an unchanged file is read once only.

    Raises:
        OSError: a file cannot be read.
    """
    return await asyncio.to_thread(_digest, path, models_dir / _CACHE)


def deciding_files(path: Path) -> list[Path]:
    """The files that decide what a model answers, by name: those of a folder, or a GGUF file and its other parts."""
    if path.is_dir():
        return sorted({file for pattern in _DECIDING for file in path.glob(pattern) if file.is_file()})
    if split := _SPLIT.search(path.name):
        return sorted(path.parent.glob(f"{path.name[: split.start()]}-*-of-{split[1]}.gguf"))
    return [path]


def _seen(path: Path) -> Seen | None:
    try:
        files = deciding_files(path)
        stats = [(file.relative_to(path.parent), _stat(file)) for file in files]
        if not files or not any(stat.size_bytes for _, stat in stats):
            return None
        changed_ns = max(place.lstat().st_ctime_ns for place in _places(path, files))
    except (OSError, ValueError):  # no path at all, such as one with a NUL in it
        return None
    newest_ns = max(changed_ns, *(stat.ctime_ns for _, stat in stats))
    sign = hashlib.sha256(msgspec.json.encode([(str(name), stat) for name, stat in stats])).hexdigest()
    return Seen(newest_ns / 1e9, sign[:16], sum(stat.size_bytes for _, stat in stats))


def _places(path: Path, files: Sequence[Path]) -> Iterator[Path]:
    """Where another file can be put in the place of one: the files, their folder, and every link on the way."""
    yield from files
    if path.is_dir():
        yield path.resolve()
    yield from (place for place in (path, *path.parents) if place.is_symlink())


def _stat(file: Path) -> _Stat:
    status = file.stat()
    return _Stat(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _digest(path: Path, cache: Path | None) -> str:
    files = deciding_files(path)
    sums = _file_digests(files, cache)
    return sums[0] if not path.is_dir() and len(files) == 1 else _together(path, files, sums)


def _together(path: Path, files: Sequence[Path], sums: Sequence[str]) -> str:
    whole = hashlib.sha256()
    folder = path if path.is_dir() else path.parent
    for file, digest in zip(files, sums, strict=True):
        name = str(file.relative_to(folder)).encode()
        whole.update(len(name).to_bytes(4, "big") + name + bytes.fromhex(digest))
    return whole.hexdigest()


def _sampled(path: Path) -> str:
    """A digest of sizes, times of modification and some bytes: the first MiB, 4 KiB of every further one, the last.

    The times are in it because a small change may lie between the samples.
    """
    files = deciding_files(path)
    return _together(path, files, [_sampled_file(file) for file in files])


def _sampled_file(file: Path) -> str:
    stat = _stat(file)
    digest = hashlib.sha256(f"{stat.size_bytes} {stat.mtime_ns} ".encode())
    with file.open("rb", buffering=0) as data:
        digest.update(data.read(_STRIDE_BYTES))
        for start in (*range(_STRIDE_BYTES, stat.size_bytes, _STRIDE_BYTES), max(0, stat.size_bytes - _SAMPLE_BYTES)):
            data.seek(start)
            digest.update(data.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _file_digests(files: Iterable[Path], cache: Path | None) -> list[str]:
    known = _known(cache)
    sums: list[str] = []
    fresh: dict[str, _Known] = {}
    for file in files:
        key, stat = str(file.resolve()), _stat(file)
        one = known.get(key)
        if one is None or one.stat != stat:
            fresh[key] = one = _Known(stat, _sha256(file))
        sums.append(one.sha256)
    if fresh and cache:
        _keep(known | fresh, cache)
    return sums


def _sha256(file: Path) -> str:
    with file.open("rb", buffering=0) as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _known(cache: Path | None) -> dict[str, _Known]:
    try:
        return msgspec.json.decode(cache.read_bytes(), type=dict[str, _Known]) if cache else {}
    except (OSError, msgspec.DecodeError):
        return {}


def _keep(digests: dict[str, _Known], cache: Path) -> None:
    """In one step, so that a reader never sees half of it. A folder that cannot be written only costs time."""
    with contextlib.suppress(OSError):
        with tempfile.NamedTemporaryFile(dir=cache.parent, delete=False) as file:
            file.write(msgspec.json.format(msgspec.json.encode(digests), indent=1))
        Path(file.name).replace(cache)
