"""The root of the one error tree, and the branch for what keeps answers and runs servers."""

_LONGEST = 200


class AskonceError(Exception):
    """Something askonce can name went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class StorageError(AskonceError):
    """A tier could not be read or written."""


class RefusedError(StorageError):
    """A tier will not take these answers, now or later."""


class TooMuchError(RefusedError):
    """What was asked takes longer than it may; the server is well."""


class TooSlowError(StorageError):
    """A tier did not answer in time."""


class UnsureError(StorageError):
    """A tier was told something and did not say that it is done."""


class LeaderLost(StorageError):
    """The process that asked the backend is gone, and its answer is not complete."""


class MigrationError(StorageError):
    """The database's schema cannot be brought to this version."""


class AddressError(StorageError):
    """A server's address is not valid."""


class EmbeddedError(AskonceError):
    """An embedded server could not be started."""


class FolderInUse(EmbeddedError):
    """Another askonce serves this data folder."""


def brief(error: BaseException) -> str:
    """An error's class and the first line of its message, cut, for logs and for whoever asks how a tier is.

    What libraries add to their message (Postgres' DETAIL has the row) may hold prompts and answers.
    """
    said = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    line = said.partition("\n")[0][:_LONGEST]
    return line if isinstance(error, AskonceError) else f"{type(error).__name__}: {line}".removesuffix(": ")
