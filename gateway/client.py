"""A running askonce, asked over HTTP by the command line: requests and keys in; explanations, proofs, records out."""

from http import HTTPStatus
from types import TracebackType
from typing import Any, Final

import click
import httpx

from gateway.printing import printable

_TIMEOUT: Final = httpx.Timeout(10, read=1800)
"""A long answer is made anew before the reply begins."""
_EXPLAIN_S: Final = 30.0
_EXPLANATION: Final = frozenset({"key", "parts", "prompt", "tier"})


class UnansweredError(click.ClickException):
    """Nothing can be asked, or no more; the status is the one for that."""

    exit_code = 2


class RefusedError(Exception):
    """askonce said no, in a sentence."""

    def __init__(self, message: str, *, is_gone: bool) -> None:
        super().__init__(message)
        self.is_gone = is_gone
        """Whether there is no such answer, or not any more."""


class Gateway:
    """The askonce at `url`. Raises `UnansweredError` when there is none, or it cannot be asked with this key."""

    def __init__(self, url: str, api_key: str) -> None:
        if not (api_key.isascii() and api_key.isprintable()):
            raise UnansweredError("The key to ask with has characters that no header can carry.")
        self._url = url.rstrip("/")
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        # Not through a proxy of the environment: it would look for 127.0.0.1 on its own machine.
        self._client = httpx.Client(headers=headers, timeout=_TIMEOUT, trust_env=False)

    def __enter__(self) -> "Gateway":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._client.close()

    def explain(self, request: bytes, path: str | None) -> dict[str, Any]:
        """What a request, sent to `path`, is to the cache. Raises `RefusedError`."""
        query = {} if path is None else {"path": path}
        said, status = self._said("POST", "/v1/cache/explain", params=query, content=request, timeout=_EXPLAIN_S)
        return said if said.keys() >= _EXPLANATION else self._stranger(status)

    def verify(self, key: str) -> dict[str, Any]:
        """The proof of one answer. Raises `RefusedError`."""
        said, status = self._said("POST", f"/v1/cache/{key}/verify")
        return said if said.get("object") == "cache.verification" else self._stranger(status)

    def keys(self, **query: str | int) -> list[dict[str, Any]]:
        """Some answers' keys. Raises `RefusedError`."""
        said, status = self._said("GET", "/v1/cache", params=query)
        data = said.get("data")
        return data if said.get("object") == "list" and isinstance(data, list) else self._stranger(status)

    def models(self) -> list[str]:
        """The names of the models that can be asked. Raises `RefusedError`."""
        said, status = self._said("GET", "/v1/models", timeout=_EXPLAIN_S)
        match said:
            case {"object": "list", "data": list(data)}:
                return [str(one["id"]) for one in data if isinstance(one, dict) and "id" in one]
            case _:
                return self._stranger(status)

    def extract(self, request: dict[str, Any]) -> dict[str, Any]:
        """What was extracted. Raises `RefusedError`."""
        said, status = self._said("POST", "/v1/extractions", json=request)
        return said if said.get("object") == "extraction" else self._stranger(status)

    def _said(self, method: str, path: str, **sent: Any) -> tuple[dict[str, Any], int]:
        try:
            response = self._client.request(method, self._url + path, **sent)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            message = f"'{printable(self._url)}' is no address of an askonce; one looks like http://127.0.0.1:8080."
            raise UnansweredError(message) from error
        except httpx.HTTPError as error:
            message = f"No askonce answers at {printable(self._url)} ({printable(str(error))})."
            message += " Start one with 'askonce serve', or name another with --url."
            raise UnansweredError(message) from error
        match _json(response):
            case {"error": {"message": str(message), **rest}}:
                raise RefusedError(message, is_gone=rest.get("code") == "not_found")
            case dict() as said if response.status_code == HTTPStatus.OK:
                return said, response.status_code
            case _:
                return self._stranger(response.status_code)

    def _stranger(self, status: int) -> Any:
        message = f"What answers at {printable(self._url)} (status {status}) is no askonce, or another version of it."
        raise UnansweredError(f"{message} Name another with --url.")


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
