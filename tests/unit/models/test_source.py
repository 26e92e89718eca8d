"""What `--model` may say, and what is served for it."""

import socket
import types
from pathlib import Path

import pytest

from gateway.models import source
from gateway.models.hub import HubError
from gateway.models.source import BUNDLED_NAME, DEFAULT_FILE, ModelFile, ModelNotUsable, resolve


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    path.mkdir()
    return path


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the bundled file, which is not in a fresh checkout's way."""
    path = tmp_path / f"{BUNDLED_NAME}.gguf"
    path.write_bytes(b"bundled weights")
    monkeypatch.setattr(source, "BUNDLED_PATH", path)
    return path


@pytest.fixture
def nowhere() -> str:
    """The address of a hub that nobody runs."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


async def test_bundled(models_dir: Path, bundled: Path) -> None:
    """Asked for by name, it comes without a notice."""
    model = await resolve("bundled", models_dir=models_dir)
    assert (model.path, model.name, model.notice) == (bundled, "gemma-3-askonce", None)


async def test_a_gguf_file(models_dir: Path, tmp_path: Path) -> None:
    """It is served where it is, under its own name in lower case."""
    file = tmp_path / "My-Model-Q8_0.GGUF.gguf"
    file.write_bytes(b"weights")
    model = await resolve(str(file), models_dir=models_dir)
    assert (model.path, model.name) == (file, "my-model-q8_0.gguf")


async def test_a_model_that_was_named_is_not_replaced(models_dir: Path, bundled: Path, nowhere: str) -> None:
    """Whoever names one does not want another."""
    del bundled
    with pytest.raises(ModelNotUsable, match=r"org/repo:model.gguf was not downloaded before\.$"):
        await resolve("org/repo:model.gguf", models_dir=models_dir, hub_endpoint=nowhere)


async def test_without_a_hub_the_bundled_model_is_served(models_dir: Path, bundled: Path, nowhere: str) -> None:
    """One sentence says so."""
    model = await resolve("default", models_dir=models_dir, hub_endpoint=nowhere)
    assert (model.path, model.name) == (bundled, "gemma-3-askonce")
    assert model.notice is not None
    assert nowhere in model.notice
    assert model.notice.endswith("so the bundled model is served instead.")


async def test_a_downloaded_model_needs_no_hub(models_dir: Path, nowhere: str) -> None:
    """What an earlier start brought is served, and the hub not asked."""
    kept = models_dir / DEFAULT_FILE.repo.replace("/", "--") / DEFAULT_FILE.path
    kept.parent.mkdir()
    kept.write_bytes(b"weights")
    model = await resolve("default", models_dir=models_dir, hub_endpoint=nowhere)
    assert (model.path, model.name, model.notice) == (kept, "gemma-3-270m-it-q8_0", None)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was converted, by a stand-in that needs no weights."""
    made: list[Path] = []

    def convert(_: Path, target: Path, *, progress: object) -> None:
        made.append(target)
        target.write_bytes(b"gguf")

    fake = types.SimpleNamespace(convert=convert, ConversionError=ValueError)
    monkeypatch.setitem(__import__("sys").modules, "gateway.models.convert", fake)
    return made


def hf_folder(path: Path, config: str = "{}") -> Path:
    """A folder that looks like a model's."""
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(config)
    return path


async def test_a_folder_is_converted_once(models_dir: Path, tmp_path: Path, made: list[Path]) -> None:
    """The file is kept by the folder's digest, so a changed folder is converted again."""
    folder = hf_folder(tmp_path / "Gemma-Mine")

    async def served() -> ModelFile:
        return await resolve(str(folder), models_dir=models_dir)

    first = await served()
    assert first == await served()
    assert (first.name, first.path, len(made)) == ("gemma-mine", made[0], 1)
    hf_folder(folder, '{"other": true}')
    assert (await served()).path != first.path


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ('{"_name_or_path": "google/Gemma-3-270m-it"}', "gemma-3-270m-it"),
        ('{"_name_or_path": "/models/me/tuned/"}', "tuned"),
        ('{"_name_or_path": ""}', "snapshot"),
        ('{"_name_or_path": "a/.."}', "snapshot"),
        ('{"_name_or_path": null}', "snapshot"),
        ("{", "snapshot"),
    ],
)
@pytest.mark.usefixtures("made")
async def test_a_folder_has_its_models_name(models_dir: Path, tmp_path: Path, config: str, name: str) -> None:
    """That of its configuration, or else its own."""
    folder = hf_folder(tmp_path / "Snapshot", config)
    model = await resolve(str(folder), models_dir=models_dir)
    assert (model.name, model.path.parent) == (name, models_dir)


@pytest.mark.usefixtures("made")
async def test_the_bundled_folder_has_the_bundled_name(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the same model as the bundled file, whatever its folder is called."""
    monkeypatch.setattr(source, "BUNDLED_FOLDER", hf_folder(tmp_path / "hf"))
    assert (await resolve(f"{tmp_path}/models/../hf/", models_dir=models_dir)).name == BUNDLED_NAME


def test_the_bundled_folder_is_where_it_is_looked_for() -> None:
    """Beside the bundled file."""
    assert (source.BUNDLED_FOLDER / "config.json").is_file()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("/no/such/file.gguf", "There is no model /no/such/file.gguf"),
        ("org/repo", "There is no model org/repo"),
        ("org/repo:../../etc/passwd.gguf", "does not name a GGUF file"),
        ("org/repo:model.safetensors", "does not name a GGUF file"),
    ],
)
async def test_a_wrong_name_is_an_error(models_dir: Path, bundled: Path, spec: str, message: str) -> None:
    """Another model than the one that was meant would be worse than none."""
    with pytest.raises(ModelNotUsable, match=message):
        await resolve(spec, models_dir=models_dir)


async def test_a_part_of_a_split_model_is_refused(models_dir: Path, tmp_path: Path) -> None:
    """Its digest would not name all the weights."""
    file = tmp_path / "model-00001-of-00002.gguf"
    file.write_bytes(b"weights")
    with pytest.raises(ModelNotUsable, match="one part of a split model"):
        await resolve(str(file), models_dir=models_dir)


async def test_a_refusal_of_the_hub_is_not_hidden(
    models_dir: Path, bundled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that does not exist is the user's mistake to see."""

    async def refuse(*_: object) -> Path:
        raise HubError("org/repo has no file x.gguf.")

    monkeypatch.setattr(source.Hub, "fetch", refuse)
    with pytest.raises(HubError, match="has no file"):
        await resolve("org/repo:x.gguf", models_dir=models_dir)
