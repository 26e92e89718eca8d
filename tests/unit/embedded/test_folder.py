"""A data folder is private, held by one process, and refused when it cannot work."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.embedded.folder import claimed
from storage.errors import EmbeddedError, FolderInUse


@pytest.fixture
def parent() -> Iterator[Path]:
    """Short enough for sockets, which pytest's own folders are not everywhere."""
    path = Path(tempfile.mkdtemp(prefix="ao-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def test_all_of_it_is_private(parent: Path) -> None:
    """An existing folder is made private too."""
    (parent / "data").mkdir(mode=0o755)
    with claimed(parent / "data") as folder:
        paths = [folder.root, folder.postgres, folder.redis, folder.run, folder.logs, folder.models]
        assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o700}
        assert stat.S_IMODE((folder.root / "askonce.lock").stat().st_mode) == 0o600


def test_links_are_resolved(parent: Path) -> None:
    """Two ways to one folder are one folder."""
    (parent / "link").symlink_to(parent / "data")
    with (
        claimed(parent / "link") as folder,
        pytest.raises(FolderInUse, match=rf"{parent}/data is already served by pid {os.getpid()}; stop it"),
        claimed(parent / "data"),
    ):
        raise AssertionError
    assert folder.root == parent / "data"


def test_it_is_free_again_afterwards(parent: Path) -> None:
    """After a clean end."""
    for _ in range(2):
        with claimed(parent / "data"):
            pass


def test_a_killed_owner_does_not_block(parent: Path) -> None:
    """Its lock file is still there, naming a pid."""
    script = (
        "import sys, pathlib, os, signal\n"
        "from storage.embedded.folder import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[3]
    killed = subprocess.run([sys.executable, "-c", script, parent / "data"], cwd=root, check=False)
    assert killed.returncode == -9
    assert (parent / "data" / "askonce.lock").read_text().strip().isdecimal()
    with claimed(parent / "data"):
        pass


def test_a_long_path_is_refused_with_the_limit(parent: Path) -> None:
    """Sockets have short names; the error says how short."""
    limit = 107 - len("/run/sb/.s.PGSQL.65535")
    fits = parent / ("d" * (limit - len(str(parent)) - 1))
    with claimed(fits) as folder:
        assert len(str(folder.run / "sb" / ".s.PGSQL.65535")) == 107
    with (
        pytest.raises(EmbeddedError, match=rf"at most {limit}\): choose a shorter --data-dir"),
        claimed(Path(f"{fits}d")),
    ):
        pass
    assert not Path(f"{fits}d").exists()


def test_a_comma_is_refused(parent: Path) -> None:
    """It would be read as two hosts by everyone who connects to Postgres."""
    with pytest.raises(EmbeddedError, match="must have no comma"), claimed(parent / "my data, kept"):
        pass


def test_a_folder_of_something_else_is_refused(parent: Path) -> None:
    """A home folder given by mistake keeps its mode."""
    (parent / "home").mkdir(mode=0o755)
    (parent / "home" / "letter.txt").touch()
    with pytest.raises(EmbeddedError, match=r"holds other files \(letter.txt"), claimed(parent / "home"):
        pass
    assert stat.S_IMODE((parent / "home").stat().st_mode) == 0o755


def test_a_file_in_the_way_is_named(parent: Path) -> None:
    """Not every path can be a folder."""
    (parent / "file").touch()
    with pytest.raises(EmbeddedError, match="cannot be used"), claimed(parent / "file"):
        pass
