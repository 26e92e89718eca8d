"""A running askonce, asked over HTTP: keys in, proofs out."""

from http import HTTPStatus
from types import TracebackType
from typing import Any, Final

import click
import httpx

_TIMEOUT: Final = httpx.Timeout(10, read=1800)
"""A long answer is made anew before the reply begins."""


class UnverifiedError(click.ClickException):
    """Nothing can be verified, or no more; the status is the one for that."""

    exit_code = 2


class RefusedError(Exception):
    """askonce said no to one key, in a sentence."""

    def __init__(self, message: str, *, is_gone: bool) -> None:
        super().__init__(message)
        self.is_gone = is_gone
        """Whether there is no such answer, or not any more."""


class Gateway:
    """The askonce at `url`. Raises `UnverifiedError` when there is none."""

    def __init__(self, url: str, api_key: str) -> None:
        self._url = url.rstrip("/")
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        # Not through a proxy of the environment: it would look for 127.0.0.1 on its own machine.
        self._client = httpx.Client(headers=headers, timeout=_TIMEOUT, trust_env=False)

    def __enter__(self) -> "Gateway":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._client.close()

    def verify(self, key: str) -> dict[str, Any]:
        """The proof of one answer. Raises `RefusedError`."""
        said = self._said("POST", f"/v1/cache/{key}/verify")
        return said if said.get("object") == "cache.verification" else self._stranger()

    def keys(self, **query: str | int) -> list[dict[str, Any]]:
        """Some answers' keys. Raises `RefusedError`."""
        said = self._said("GET", "/v1/cache", query)
        return said["data"] if said.get("object") == "list" and isinstance(said.get("data"), list) else self._stranger()

    def _said(self, method: str, path: str, query: dict[str, str | int] | None = None) -> dict[str, Any]:
        try:
            response = self._client.request(method, self._url + path, params=query)
            said = response.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            message = f"No askonce answers at {self._url} ({error}). Start one, or name another with --url."
            raise UnverifiedError(message) from error
        match said:
            case {"error": {"message": str(message), "code": code}}:
                raise RefusedError(message, is_gone=code == "not_found")
            case {"object": str()} if response.status_code == HTTPStatus.OK:
                return said
            case _:
                return self._stranger()

    def _stranger(self) -> Any:
        message = f"What answers at {self._url} is no askonce, or another version of it. Name another with --url."
        raise UnverifiedError(message)
