"""That there was a key once, remembered in the data folder for when the database cannot be asked."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

NAME: Final = "keys-required"
_LOG = logging.getLogger("askonce")


class KeysRequired:
    """The file of `folder` that stands for it. Where it cannot be written the log says so, and nothing fails."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._is_set = False

    def is_set(self) -> bool:
        """Whether there was a key; True as well when the folder cannot be looked into."""
        try:
            return self._path.exists()
        except OSError:
            return True

    def set(self) -> None:
        """There was a key."""
        if not self._is_set:
            self._try(self._path.touch)
            self._is_set = True

    def unset(self) -> None:
        """There never was: this folder was another database's."""
        self._try(lambda: self._path.unlink(missing_ok=True))

    def _try(self, doing: Callable[[], object]) -> None:
        try:
            doing()
        except OSError as error:
            _LOG.warning("%s cannot be changed (%s)", self._path, error.strerror)
