"""Saved recipes by their names: those that come with askonce, and the files of a folder, which come before them."""

import os
import stat
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import msgspec

from extractors.errors import RecipeError
from extractors.recipe import Recipe, check_name, from_toml, shipped

_END: Final = ".toml"
_MOST_BYTES: Final = 2**20


class UnknownRecipe(LookupError):
    """There is no recipe of this name. Its message says which ones have a similar name, or else which there are."""

    def __init__(self, name: str, known: list[str]) -> None:
        close = get_close_matches(name[:80], known)
        hint = f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(known)}."
        super().__init__(f"There is no recipe '{name[:80]}'. {hint}")


class _Stamp(msgspec.Struct, frozen=True):
    """What is another after a file was changed."""

    mtime_ns: int
    size_bytes: int
    inode: int


class Book:
    """The recipes that ship, and those in `folder`: each a file, called as its recipe is. A file is looked at each time
    that its recipe is wanted, and read when it has changed.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._shipped = shipped()
        self._read: dict[Path, tuple[_Stamp, Recipe]] = {}

    def get(self, name: str) -> Recipe:
        """The recipe of this name. Raises `UnknownRecipe`, and `RecipeError` with the file's name when it is there but
        is not valid: one that ships is not given in its place.
        """
        file = self.file(name)
        if file is not None:
            found = self._of(file)
            if isinstance(found, RecipeError):
                raise found
            return found
        if name in self._shipped:
            return self._shipped[name]
        raise UnknownRecipe(name, sorted({*self._shipped, *(file.stem for file in self._files())}))

    def all(self) -> dict[str, Recipe | RecipeError]:
        """All of them, in the order of their names; of those that are not valid, what is wrong. Raises `RecipeError`
        when the folder cannot be read.
        """
        found: dict[str, Recipe | RecipeError] = {**self._shipped}
        found |= {file.stem: self._of(file) for file in self._files()}
        return dict(sorted(found.items()))

    def file(self, name: str) -> Path | None:
        """The file that this recipe is in; None for one that ships, and for one that is not there."""
        if self.folder is None or not _is_name(name):
            return None
        file = self.folder / f"{name}{_END}"
        return file if os.path.lexists(file) else None

    def _files(self) -> list[Path]:
        try:
            files = [] if self.folder is None else list(self.folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            message = f"The folder of recipes cannot be read: {error.strerror}."
            raise RecipeError(message, "") from error
        return sorted(file for file in files if file.suffix == _END and not file.name.startswith("."))

    def _of(self, file: Path) -> Recipe | RecipeError:
        """What is not valid is read each time: it may be made readable without being changed."""
        try:
            stamp = _stamp(file)
            if file not in self._read or self._read[file][0] != stamp:
                self._read[file] = (stamp, opened(file))
        except OSError as error:
            return _unreadable(file, error)
        except RecipeError as error:
            return error
        return self._read[file][1]


def opened(file: Path) -> Recipe:
    """The recipe in `file`, which is called as the file is. Raises `RecipeError`, with the file's name."""
    try:
        return _parsed(_text(file), file.stem)
    except OSError as error:
        raise _unreadable(file, error) from error
    except RecipeError as error:
        message = f"{file.name}: {error}"
        raise RecipeError(message, error.where) from error


def _parsed(text: str, name: str) -> Recipe:
    check_name(name, "")
    recipe = from_toml(text, name)
    if recipe.name != name:
        message = f"It calls itself '{recipe.name}'; call the file so, or leave out the name."
        raise RecipeError(message, "name")
    return recipe


def _text(file: Path) -> str:
    status = file.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
        message = f"It is not a file of at most {_MOST_BYTES} bytes."
        raise RecipeError(message, "")
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError("It is not UTF-8.", "") from error


def _stamp(file: Path) -> _Stamp:
    status = file.stat()
    return _Stamp(status.st_mtime_ns, status.st_size, status.st_ino)


def _unreadable(file: Path, error: OSError) -> RecipeError:
    return RecipeError(f"{file.name}: It cannot be read: {error.strerror}.", "")


def _is_name(name: str) -> bool:
    try:
        check_name(name, "")
    except RecipeError:
        return False
    return True
