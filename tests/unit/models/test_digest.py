"""Digests name weights: equal bytes, equal digest, and an unchanged file is not read again."""

import hashlib
import os
from pathlib import Path

import pytest

from gateway.models.digest import deciding_files, weights_digest


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
    """The same size, time and inode mean the same digest; another time means reading it again."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    first = await weights_digest(file, models_dir=models_dir)
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    with file.open("r+b") as data:
        data.write(b"WEIGHTS")
    os.utime(file, ns=times)
    assert await weights_digest(file, models_dir=models_dir) == first
    os.utime(file, ns=(times[0], times[1] + 1))
    assert await weights_digest(file, models_dir=models_dir) == hashlib.sha256(b"WEIGHTS").hexdigest()


async def test_a_damaged_cache_is_forgotten(tmp_path: Path, models_dir: Path) -> None:
    """The cache only saves time."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    (models_dir / "digests.json").write_text("{")
    assert await weights_digest(file, models_dir=models_dir) == hashlib.sha256(b"weights").hexdigest()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"])
async def test_a_folder_changes_with_what_decides_answers(tmp_path: Path, models_dir: Path, name: str) -> None:
    """Weights, configuration, tokenizer and template are in the digest; a README is not."""
    folder = tmp_path / "hf"
    folder.mkdir()
    for file in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md"):
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
