"""A leader's error in, the same error out in the processes that follow it."""

from gateway.errors import BackendError, RequestError
from storage.flights.record import Fault

_MISTAKE = "askonce made a mistake; its log has the details."


def told(error: Exception) -> Fault:
    """What a client is told about `error`, to be passed on."""
    if isinstance(error, RequestError):
        return Fault("request", error.status, error.code, error.type, str(error), error.param)
    if isinstance(error, BackendError):
        return Fault("backend", error.status, error.code, error.type, str(error), error.param, error.retry_after_s)
    return Fault("backend", 500, "internal_error", "server_error", _MISTAKE)


def raised(fault: Fault) -> RequestError | BackendError:
    """An error that tells a client the same."""
    error = (RequestError if fault.of == "request" else BackendError)(fault.message)
    if isinstance(error, BackendError):
        error.retry_after_s = fault.retry_after_s
    error.status, error.code, error.type, error.param = fault.status, fault.code, fault.type, fault.param
    return error
