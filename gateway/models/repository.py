"""A Hugging Face folder or the name of a repository comes in, a folder that is complete goes out."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from gateway.models.digest import deciding_files
from gateway.models.hub import Hub, HubError, HubFile, Progress
from gateway.models.source import BUNDLED, BUNDLED_FOLDER, ModelNotUsable, folder_name

_REPOSITORY: Final = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_COMPLETE: Final = ".askonce.json"
_BEGUN: Final = ".askonce.commit"
_SMALL: Final = ("*.json", "*.jinja", "tokenizer.model", "*.tiktoken", "merges.txt", "vocab.txt")
_WEIGHTS: Final = (("*.safetensors",), ("pytorch_model*.bin",))
"""The first kind that a repository has."""


class ModelFolder(msgspec.Struct, frozen=True):
    """A model in Hugging Face's layout, and the name it is served under."""

    path: Path
    name: str


class _Complete(msgspec.Struct, frozen=True):
    """What a downloaded folder holds, written once all of it is there."""

    commit: str
    files: tuple[str, ...]


async def folder_of(
    spec: str,
    *,
    models_dir: Path,
    hub_endpoint: str | None = None,
    hub_token: str | None = None,
    progress: Progress = lambda done, total: None,
) -> ModelFolder:
    """Find or download the model that `spec` means: `bundled`, a folder, or `org/repo` on the hub.

    What was downloaded once is not asked for again.

    Raises:
        ModelNotUsable: it is none of these.
        HubError: the hub cannot be reached, or does not give the files.
    """
    if spec == BUNDLED:
        return ModelFolder(BUNDLED_FOLDER, folder_name(BUNDLED_FOLDER))
    if (path := _local(spec)) is not None:
        return ModelFolder(path, folder_name(path))
    if not _REPOSITORY.fullmatch(spec):
        message = f"This engine does not serve {spec}: name a Hugging Face folder, org/repo on the hub, or 'bundled'."
        raise ModelNotUsable(message)
    hub = Hub(models_dir, endpoint=hub_endpoint, token=hub_token)
    return ModelFolder(await _downloaded(spec, models_dir, hub, progress), spec)


def _local(spec: str) -> Path | None:
    """The folder `spec`, if there is one. Raises `ModelNotUsable` for one that holds no model."""
    path = Path(spec).expanduser().resolve()
    if not path.is_dir():
        return None
    if not (path / "config.json").is_file():
        raise ModelNotUsable(f"{path} is no model: it has no config.json.")
    return path


async def _downloaded(repo: str, models_dir: Path, hub: Hub, progress: Progress) -> Path:
    folder = models_dir / repo.replace("/", "--")
    if _is_complete(folder):
        return folder
    listed = await hub.listed(repo)
    wanted = _wanted([file.path for file in listed.files])
    if not wanted:
        raise HubError(f"{repo} has no weights in a form that is known here (safetensors).")
    _begin(folder, listed.commit, wanted)
    sizes = {file.path: file.size_bytes for file in listed.files}
    total, before = sum(sizes[path] for path in wanted), 0
    for path in wanted:
        await hub.fetch(HubFile(repo, path, listed.commit), lambda done, _, start=before: progress(start + done, total))
        before += sizes[path]
    (folder / _COMPLETE).write_bytes(msgspec.json.encode(_Complete(listed.commit, tuple(wanted))))
    return folder


def _begin(folder: Path, commit: str, wanted: Sequence[str]) -> None:
    """Files of another commit are not mixed with those of this one."""
    folder.mkdir(parents=True, exist_ok=True)
    begun = folder / _BEGUN
    if not begun.exists() or begun.read_text() != commit:
        for path in wanted:
            (folder / path).unlink(missing_ok=True)
    begun.write_text(commit)


def _is_complete(folder: Path) -> bool:
    try:
        held = msgspec.json.decode((folder / _COMPLETE).read_bytes(), type=_Complete)
    except (OSError, msgspec.DecodeError):
        return False
    return all((folder / file).is_file() for file in held.files) and bool(deciding_files(folder))


def _wanted(paths: Sequence[str]) -> list[str]:
    """The files that a model is loaded from: those of the first folder, small ones first."""
    top = [path for path in paths if "/" not in path]
    small = [path for path in top if any(fnmatch.fnmatch(path, pattern) for pattern in _SMALL)]
    for patterns in _WEIGHTS:
        if weights := [path for path in top if any(fnmatch.fnmatch(path, pattern) for pattern in patterns)]:
            return [*small, *weights]
    return []
