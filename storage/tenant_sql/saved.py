"""Saved queries by their names: those that come with askonce, and `.sql` files of a folder, which come before them."""

import re
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec

from storage.errors import StorageError

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_TITLE: Final = re.compile(r"\s*--\s*title:\s*(.*)")
_MOST_BYTES: Final = 2**17
_END: Final = ".sql"


class SavedQuery(msgspec.Struct, frozen=True):
    """A query that has a name."""

    name: str
    title: str
    """What it begins with, after `-- title:`."""
    sql: str


class Saved:
    """Those that there are, as their files are now."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, name: str) -> SavedQuery | None:
        """The query of this name, as its file is now. Raises `StorageError` for a file that cannot be read."""
        if _NAME.fullmatch(name) is None:
            return None
        if self._folder is not None and (file := self._folder / f"{name}{_END}").is_file():
            return _read(file)
        return next((one for one in _shipped() if one.name == name), None)

    def all(self) -> list[SavedQuery]:
        """All of them, by their names. Raises `StorageError` for a file that cannot be read."""
        found = {one.name: one for one in _shipped()}
        if self._folder is not None and self._folder.is_dir():
            files = [file for file in self._folder.glob(f"*{_END}") if _NAME.fullmatch(file.stem) and file.is_file()]
            found |= {file.stem: _read(file) for file in files}
        return [found[name] for name in sorted(found)]


def _shipped() -> list[SavedQuery]:
    files = (resources.files("migrations") / "queries").iterdir()
    return [_saved(file.name.removesuffix(_END), file.read_text("utf-8")) for file in files if file.name.endswith(_END)]


def _read(file: Path) -> SavedQuery:
    try:
        if file.stat().st_size > _MOST_BYTES:
            message = f"The saved query '{file.stem}' is larger than {_MOST_BYTES} bytes."
            raise StorageError(message)
        return _saved(file.stem, file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        message = f"The saved query '{file.stem}' cannot be read."
        raise StorageError(message) from error


def _saved(name: str, text: str) -> SavedQuery:
    return SavedQuery(name, title_of(text) or name, text)


def title_of(text: str) -> str:
    """What a file says in its first line that it is about; empty when it does not."""
    title = _TITLE.match(text)
    return title[1].strip() if title else ""
