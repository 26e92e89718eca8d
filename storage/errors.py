"""The root of the one error tree, and the branch for what keeps answers and runs servers."""


class AskonceError(Exception):
    """Something askonce can name went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class StorageError(AskonceError):
    """A tier could not be read or written."""


class LeaderLost(StorageError):
    """The process that asked the backend is gone, and its answer is not complete."""


class MigrationError(StorageError):
    """The database's schema cannot be brought to this version."""


class EmbeddedError(AskonceError):
    """An embedded server could not be started."""


class FolderInUse(EmbeddedError):
    """Another askonce serves this data folder."""
