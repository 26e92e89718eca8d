"""What `--model` says comes in; a GGUF file, the name it is served under and its digest go out."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import msgspec

from gateway.models.digest import weights_digest
from gateway.models.hub import Hub, HubFile, HubUnreachable, Progress
from storage.errors import AskonceError

DEFAULT = "default"
BUNDLED = "bundled"
DEFAULT_FILE = HubFile("ggml-org/gemma-3-270m-it-GGUF", "gemma-3-270m-it-Q8_0.gguf")
BUNDLED_NAME = "gemma-3-askonce"
BUNDLED_PATH = Path(__file__).with_name("bundled") / f"{BUNDLED_NAME}.gguf"
BUNDLED_FOLDER = BUNDLED_PATH.with_name("hf")

_HUB_FILE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+):(?P<path>[^:]+)")
_PLAIN_NAME = re.compile(r"\w[\w.-]*")
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


class ModelNotUsable(AskonceError):
    """No model can be served under this specification."""


class ModelFile(msgspec.Struct, frozen=True):
    """A model ready to be loaded; `notice` is one sentence for the user when it is not the one that was asked for."""

    path: Path
    name: str
    digest: str
    notice: str | None = None


class _FolderConfig(msgspec.Struct, frozen=True):
    name_or_path: str = msgspec.field(default="", name="_name_or_path")


async def resolve(
    spec: str,
    *,
    models_dir: Path,
    hub_endpoint: str | None = None,
    hub_token: str | None = None,
    progress: Progress = lambda done, total: None,
) -> ModelFile:
    """Find, download or convert the model that `spec` means.

    `spec` is `default`, `bundled`, a GGUF file, a Hugging Face folder, or `org/repo:file` on the hub. When the hub
    cannot be reached and the default was not downloaded before, the bundled model is returned, with a notice.

    Raises:
        ModelNotUsable: nothing is there, or it is not a model; or the hub cannot be reached, and it was not downloaded
            before.
        HubError: the hub was reached and does not give the file.
    """
    hub = Hub(models_dir, endpoint=hub_endpoint, token=hub_token)
    if spec == BUNDLED:
        return await _bundled(models_dir)
    if spec == DEFAULT:
        return await _default(hub, models_dir, progress)
    if _is_file(spec):
        return await _from_file(Path(spec), models_dir)
    if _is_model_folder(spec):
        return await _from_folder(Path(spec), models_dir, progress)
    if wanted := _HUB_FILE.fullmatch(spec):
        return await _from_hub(HubFile(wanted["repo"], wanted["path"]), hub, models_dir, progress)
    message = f"There is no model {spec}: name a GGUF file, a Hugging Face folder, org/repo:file.gguf or 'bundled'."
    raise ModelNotUsable(message)


async def _bundled(models_dir: Path, notice: str | None = None) -> ModelFile:
    if not _is_file(BUNDLED_PATH):
        raise ModelNotUsable(f"The bundled model is missing from this installation ({BUNDLED_PATH}).")
    return await _from_file(BUNDLED_PATH, models_dir, notice)


async def _from_file(path: Path, models_dir: Path, notice: str | None = None) -> ModelFile:
    if _SPLIT.search(path.name):
        raise ModelNotUsable(f"{path.name} is one part of a split model: name a model that is one file.")
    try:
        digest = await weights_digest(path, models_dir=models_dir)
    except OSError as unreadable:
        raise ModelNotUsable(f"The model {path} cannot be read: {unreadable.strerror}.") from unreadable
    return ModelFile(path=_absolute(path), name=path.stem.lower(), digest=digest, notice=notice)


async def _from_hub(file: HubFile, hub: Hub, models_dir: Path, progress: Progress) -> ModelFile:
    if ".." in Path(file.path).parts or Path(file.path).is_absolute() or not file.path.endswith(".gguf"):
        raise ModelNotUsable(f"{file} does not name a GGUF file of a repository.")
    try:
        path = await hub.fetch(file, progress)
    except HubUnreachable as unreachable:
        cause = str(unreachable).removesuffix(".")
        raise ModelNotUsable(f"{cause} and {file} was not downloaded before.") from unreachable
    return await _from_file(path, models_dir)


async def _default(hub: Hub, models_dir: Path, progress: Progress) -> ModelFile:
    try:
        return await _from_hub(DEFAULT_FILE, hub, models_dir, progress)
    except ModelNotUsable as unusable:
        if not isinstance(unusable.__cause__, HubUnreachable):
            raise
        return await _bundled(models_dir, f"{str(unusable).removesuffix('.')}, so the bundled model is served instead.")


async def _from_folder(folder: Path, models_dir: Path, progress: Progress) -> ModelFile:
    digest = await weights_digest(folder, models_dir=models_dir)
    name = folder_name(folder)
    target = models_dir / f"{name}-{digest[:16]}.gguf"
    if not _is_file(target):
        await asyncio.to_thread(_convert, folder, target, progress)
    return ModelFile(path=target, name=name, digest=digest)


def folder_name(folder: Path) -> str:
    """What a Hugging Face folder is served as: the model's own name where its configuration has one."""
    folder = _absolute(folder)
    if folder == _absolute(BUNDLED_FOLDER):
        return BUNDLED_NAME
    try:
        config = msgspec.json.decode((folder / "config.json").read_bytes(), type=_FolderConfig)
    except (OSError, msgspec.DecodeError):  # The conversion says what is wrong with it.
        return folder.name.lower()
    own = config.name_or_path.rstrip("/").rpartition("/")[2]
    return (own if _PLAIN_NAME.fullmatch(own) else folder.name).lower()


def _convert(folder: Path, target: Path, progress: Progress) -> None:
    try:
        # Brings numpy and gguf along, which nothing else here needs.
        from gateway.models.convert import ConversionError, convert  # noqa: PLC0415
    except ImportError as missing:
        raise ModelNotUsable(f"To convert {folder}, install askonce[embedded]: {missing}.") from missing
    size_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    try:
        convert(folder, target, progress=lambda share: progress(int(share * size_bytes), size_bytes))
    except ConversionError as failed:
        raise ModelNotUsable(str(failed)) from failed


def _is_file(path: str | Path) -> bool:
    return Path(path).is_file()


def _is_model_folder(path: str) -> bool:
    return (Path(path) / "config.json").is_file()


def _absolute(path: Path) -> Path:
    return path.expanduser().resolve()
