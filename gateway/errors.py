"""What a client may have done wrong or a backend failed to do: each error knows its status, code and parameter.

AskonceError
├── RequestError            4xx
│   ├── InvalidRequest      400  ├── UnknownModel 404
│   ├── NotKept 504             ├── NoAnswer 404  ├── DamagedRecord 409
│   ├── MissingKey, InvalidKey 401  ├── Forbidden 403  ├── AccessUnknown, StorageUnavailable 503
│   ├── UnsupportedMedia    415
│   ├── SqlRefused          400, 403, 429, 503 or 504
│   ├── SearchTimeout 504
│   ├── ExtractionUnavailable 501  ├── ExtractionFailed 500
└── BackendError            502
    ├── BackendRefused      the backend's own 4xx, passed on
    ├── BackendUnavailable  503 ── BackendUnreachable
    ├── BackendTimeout      504  ├── BackendGone 502
    ├── Overloaded          429 or 503
    └── AnswerChanged, UnfitAnswer  502
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from storage.errors import AskonceError

_NO_HEADERS: Final[Mapping[str, str]] = {}


class RequestError(AskonceError):
    """The request cannot be answered."""

    status = 400
    code = "invalid_request"
    type = "invalid_request_error"
    headers: Mapping[str, str] = _NO_HEADERS
    """What the reply says beside it: what there is all the same."""

    def __init__(self, message: str | None = None, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code or type(self).code


class InvalidRequest(RequestError):
    """The request body is not valid."""


class UnsupportedMedia(RequestError):
    """A file of this type cannot be read."""

    status = 415
    code = "unsupported_media_type"


class UnknownModel(RequestError):
    """No such model."""

    status = 404
    code = "model_not_found"


class NotKept(RequestError):
    """No kept answer fits, and 'only-if-cached' forbids asking the model; leave it out to have it asked."""

    status = 504
    code = "not_cached"


class NoAnswer(RequestError):
    """Nothing is kept for you under this key."""

    status = 404
    code = "not_found"


class DamagedRecord(RequestError):
    """The record's question cannot be read, so it cannot be asked again; somebody has changed the row."""

    status = 409
    code = "damaged_record"


class MissingKey(RequestError):
    """This server wants a key: send 'Authorization: Bearer ak-…'."""

    status = 401
    code = "missing_api_key"
    type = "authentication_error"


class InvalidKey(RequestError):
    """The key is not known; 'askonce keys list' shows those that are."""

    status = 401
    code = "invalid_api_key"
    type = "authentication_error"


class Forbidden(RequestError):
    """The key is not good for this."""

    status = 403
    code = "forbidden"
    type = "permission_error"


class AccessUnknown(RequestError):
    """The key cannot be checked until the database is back; try again soon."""

    status = 503
    code = "keys_unavailable"
    type = "server_error"


class ExtractionUnavailable(RequestError):
    """Nothing can be extracted here."""

    status = 501
    code = "extraction_unavailable"
    type = "server_error"


class ExtractionFailed(RequestError):
    """The records could not be aligned with the text."""

    status = 500
    code = "alignment_failed"
    type = "server_error"


class SearchTimeout(RequestError):
    """The search takes too long: look for fewer words, or in a collection, some documents or what a filter leaves."""

    status = 504
    code = "search_timeout"
    type = "server_error"


class StorageUnavailable(RequestError):
    """The database cannot be reached."""

    status = 503
    code = "storage_unavailable"
    type = "server_error"


class SqlRefused(RequestError):
    """The statement gives no rows."""

    _STATUS: ClassVar = {
        "sql_timeout": 504,
        "sql_busy": 429,
        "sql_unavailable": 503,
        "sql_not_allowed": 403,
        "query_not_found": 404,
    }

    def __init__(self, code: str, message: str, *, param: str = "sql") -> None:
        super().__init__(message, param=param, code=code)
        self.status = self._STATUS.get(code, 400)
        self.type = "server_error" if self.status >= 500 else type(self).type


class BackendError(AskonceError):
    """The backend failed."""

    status = 502
    code = "backend_error"
    type = "backend_error"
    param: str | None = None
    retry_after_s: float | None = None
    """When to ask again, if that is known."""
    headers: Mapping[str, str] = _NO_HEADERS
    """As for a request's errors."""


class BackendRefused(BackendError):
    """The backend refused the request."""

    type = "invalid_request_error"
    code = "backend_refused"

    def __init__(self, message: str, *, status: int, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or type(self).code
        self.param = param
        if status == 429:
            self.type, self.code = "overloaded_error", code or "rate_limit_exceeded"


class BackendUnavailable(BackendError):
    """The backend cannot be reached."""

    status = 503
    code = "backend_unavailable"


class BackendUnreachable(BackendUnavailable):
    """Nothing accepts connections where the backend should be."""


class BackendGone(BackendError):
    """The backend broke the connection."""


class BackendTimeout(BackendError):
    """The backend did not answer in time."""

    status = 504
    code = "backend_timeout"

    def __init__(self, message: str | None = None, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or type(self).code


class Overloaded(BackendError):
    """There are more requests than the backends take; ask again soon."""

    status = 429
    code = "overloaded"
    type = "overloaded_error"

    def __init__(self, message: str | None = None, *, status: int = 429, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.status = status
        self.code = type(self).code if status == type(self).status else "queue_timeout"
        self.retry_after_s = retry_after_s


class AnswerChanged(BackendError):
    """The answer was broken off midway, and a second try gave another one. Drop what came so far, and ask again."""

    code = "answer_changed"


class UnfitAnswer(BackendError):
    """The model's answer breaks the schema it was to fit, and is not kept."""

    code = "unfit_answer"


_ANOTHERS_TOO = frozenset({404, 408, 425, 429})
"""Refusals that another backend may not share: it has no such model, or it has too much to do."""


def may_pass(error: RequestError | BackendError) -> bool:
    """Whether another backend, or the same one later, may answer what this one did not."""
    if not isinstance(error, BackendError) or isinstance(error, (UnfitAnswer, AnswerChanged)):
        return False  # those two are what the model said, and no fault of who carried it
    return error.status >= 500 or error.status in _ANOTHERS_TOO


def passed(
    error: RequestError | BackendError, first: RequestError | BackendError | None
) -> RequestError | BackendError:
    """What a client is to be told if nobody else answers either, once `error` has come after `first`.

    Raises what it is to be told now: that there is too much to do, that its request is at fault, or, where only those
    find fault with it who were to help out, what was wrong with the first.
    """
    if isinstance(error, Overloaded) or (first is None and not may_pass(error)):
        raise error
    if first is not None and not may_pass(error):
        raise first from error
    return first or error


def envelope(error: RequestError | BackendError) -> dict[str, Any]:
    """OpenAI's error object for `error`."""
    return {"error": {"message": str(error), "type": error.type, "param": error.param, "code": error.code}}
