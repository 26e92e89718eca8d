"""Digests name weights: equal bytes, equal digest, and an unchanged file is not read again."""

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.models.digest import Digests, deciding_files, weights_digest

MIB = 2**20


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    path.mkdir()
    return path


async def test_a_file_has_its_sha256(tmp_path: Path, models_dir: Path) -> None:
    """The digest of a GGUF file is what sha256sum prints."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    assert await weights_digest(file, models_dir=models_dir) == hashlib.sha256(b"weights").hexdigest()


async def test_an_unchanged_file_is_read_once(tmp_path: Path, models_dir: Path) -> None:
    """What is kept of it is believed, until the file is touched."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    first = await weights_digest(file, models_dir=models_dir)
    kept = models_dir / "digests.json"
    kept.write_text(kept.read_text().replace(first, "0" * 64))
    assert await weights_digest(file, models_dir=models_dir) == "0" * 64
    file.touch()
    assert await weights_digest(file, models_dir=models_dir) == first


async def test_other_bytes_with_the_old_size_time_and_inode_are_noticed(tmp_path: Path, models_dir: Path) -> None:
    """As archives unpack them: every version of a file with the same time."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    await weights_digest(file, models_dir=models_dir)
    status = file.stat()
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    assert await weights_digest(file, models_dir=models_dir) == hashlib.sha256(b"WEIGHTS").hexdigest()


async def test_a_damaged_cache_is_forgotten(tmp_path: Path, models_dir: Path) -> None:
    """The cache only saves time."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    (models_dir / "digests.json").write_text("{")
    assert await weights_digest(file, models_dir=models_dir) == hashlib.sha256(b"weights").hexdigest()


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "adapter_model.safetensors",
        "tokenizer.json",
        "tokenizer.model",
        "chat_template.jinja",
        "modeling.py",
        "1_Pooling/config.json",
    ],
)
async def test_a_folder_changes_with_what_decides_answers(tmp_path: Path, models_dir: Path, name: str) -> None:
    """Weights, configuration, tokenizer and template are in the digest; a README is not."""
    folder = tmp_path / "hf"
    (folder / name).parent.mkdir(parents=True)
    for file in {name, "config.json", "model.safetensors", "README.md"}:
        (folder / file).write_text(file)
    first = await weights_digest(folder, models_dir=models_dir)
    (folder / "README.md").write_text("other words")
    assert await weights_digest(folder, models_dir=models_dir) == first
    (folder / name).write_text("other content")
    assert await weights_digest(folder, models_dir=models_dir) != first


def test_deciding_files_are_sorted_and_unique(tmp_path: Path) -> None:
    """The order of a folder's listing does not matter."""
    for name in ("vocab.json", "tokenizer.model", "config.json", "model-00001-of-00001.safetensors", "notes.txt"):
        (tmp_path / name).touch()
    names = [file.name for file in deciding_files(tmp_path)]
    assert names == ["config.json", "model-00001-of-00001.safetensors", "tokenizer.model", "vocab.json"]


def test_a_split_model_is_all_of_its_parts(tmp_path: Path) -> None:
    """Whichever of them is named; those of another model are not among them."""
    parts = [tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    for file in (*parts, tmp_path / "m-00001-of-00003.gguf", tmp_path / "other-00001-of-00002.gguf"):
        file.touch()
    assert deciding_files(parts[0]) == deciding_files(parts[1]) == parts


@given(st.integers(0, 2**13 - 1), st.integers(1, 255), st.sampled_from(["a.safetensors", "b.safetensors"]))
async def test_any_byte_of_any_tensor_is_in_the_digest(place: int, by: int, name: str) -> None:
    """Read whole, a model that differs in one byte, anywhere, has another name."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for file in ("a.safetensors", "b.safetensors"):
            (folder / file).write_bytes(bytes(range(256)) * 32)
        digests = Digests()
        first = await digests.of(folder)
        changed = bytearray((folder / name).read_bytes())
        changed[place] = (changed[place] + by) % 256
        (folder / name).write_bytes(changed)
        assert await digests.of(folder) != first
        assert await Digests().of(folder) == await digests.of(folder)


@pytest.mark.parametrize(
    ("start", "length", "seen"),
    [
        (0, 1, True),
        (MIB - 1, 1, True),
        (2 * MIB, 1, True),
        (5 * MIB // 2, MIB, True),
        (7 * MIB - 1, 1, True),
        (MIB + 4096, 1, False),
        (5 * MIB // 2, MIB // 2, False),
    ],
)
async def test_samples_see_whatever_is_long_or_rewritten(tmp_path: Path, start: int, length: int, seen: bool) -> None:
    """A very large model: a change of a MiB in a row always; a smaller one by the time of modification alone."""
    file = tmp_path / "m.gguf"
    file.write_bytes(bytes(7 * MIB))
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    digests = Digests(full_max_bytes=MIB)
    first = await digests.of(file)
    assert first.startswith("sampled:")
    with file.open("r+b") as data:
        data.seek(start)
        data.write(b"x" * length)
    os.utime(file, ns=times)
    assert (await digests.of(file) != first) is seen
    os.utime(file, ns=(times[0], times[1] + 1))
    assert await digests.of(file) != first


def ticked(file: Path, since_s: float) -> None:
    """Wait until the file system's clock, which is a coarse one, has gone on."""
    file.touch()
    while file.stat().st_ctime_ns / 1e9 <= since_s:
        file.touch()


async def test_a_model_is_seen_to_change_however_it_is_exchanged(tmp_path: Path) -> None:
    """Written over, renamed over, by a link that points elsewhere, by a file that goes."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text(name)
        (tmp_path / name / "generation_config.json").write_text("{}")
    (tmp_path / "now").symlink_to(tmp_path / "one")
    model, digests = tmp_path / "now", Digests()
    before = await digests.seen(model)
    assert before

    def relinked() -> None:
        (tmp_path / "new").symlink_to(tmp_path / "two")
        (tmp_path / "new").rename(model)

    for change in (
        lambda: (model / "model.safetensors").write_text("on"),
        lambda: (tmp_path / "two" / "model.safetensors").rename(model / "model.safetensors"),
        (model / "generation_config.json").unlink,
        relinked,
    ):
        ticked(tmp_path / "clock", before.changed_s)
        change()
        after = await digests.seen(model)
        assert after is not None
        assert after.sign != before.sign
        assert after.changed_s > before.changed_s
        before = after


async def test_what_is_no_model_is_not_seen(tmp_path: Path) -> None:
    """An empty folder, an empty file, and one that is not there."""
    (tmp_path / "empty.gguf").touch()
    for path in (tmp_path, tmp_path / "empty.gguf", tmp_path / "none"):
        assert await Digests().seen(path) is None
        with pytest.raises(OSError, match="cannot be read"):
            await Digests().of(path)


async def test_digests_are_kept_where_they_can_be(tmp_path: Path, models_dir: Path) -> None:
    """For the next start; a folder that cannot be written costs time, not the answer."""
    file = tmp_path / "m.gguf"
    file.write_bytes(b"weights")
    first = await Digests(models_dir).of(file)
    kept = models_dir / "digests.json"
    kept.write_text(kept.read_text().replace(first, "0" * 64))
    assert await Digests(models_dir).of(file) == "0" * 64
    assert await Digests(tmp_path / "none").of(file) == first
