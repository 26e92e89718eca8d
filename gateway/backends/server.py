"""One HTTP server that backends ask: requests out, bytes in as they come, every fault a `BackendError`."""

import ssl
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from gateway.backends import upstream
from gateway.backends.connections import quick
from gateway.backends.tether import Tether
from gateway.errors import BackendError, BackendGone, BackendTimeout, BackendUnavailable, BackendUnreachable

MAX_CONNECTIONS: Final = 1024
IDLE_S: Final = 4.0
"""Shorter than the 5 seconds after which uvicorn, and so vLLM, closes an idle connection."""
_TIE_S: Final = 1.0
_HERE: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_NO_STREAMS: Final = frozenset({"application/json", "text/html"})
_SHOWN: Final = 4096
_JSON: Final = {"content-type": "application/json"}
_JSON_AND_CLOSE: Final = {**_JSON, "connection": "close"}


class Server:
    """The server at `url`, which is `http://…`, `https://…` or `unix:` and a socket's path; called `name` in errors.

    Connections are made when first needed. How long a reply may take is for those who wait for it to say.
    """

    def __init__(self, name: str, url: str, *, api_key: str = "", connect_timeout_s: float) -> None:
        self._name = name
        self._uds = url.removeprefix("unix:") if url.startswith("unix:") else None
        self._base = "http://localhost" if self._uds else url.rstrip("/")
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self._opened: aiohttp.ClientSession | None = None
        self._tether = _tether(self._uds, self._base)
        self._tied = False
        self._signs = 0

    @property
    def here(self) -> bool:
        """Whether the server is on this machine."""
        return self._uds is not None or urlsplit(self._base).hostname in _HERE

    async def tie(self) -> None:
        """Hold on to the process that answers now; where that cannot be done, to none."""
        if self._tether is not None and not self.tied():
            await self._tether.tie(_TIE_S)
            self._tied = self._tether.holds()

    def tied(self) -> bool:
        """Whether it is certainly still that process."""
        if self._tied and not (self._tether and self._tether.holds()):
            self._tied = False
            self._signs += 1
        return self._tied

    def signs(self) -> int:
        """How often the server has given a sign of being another one than before: connections refused or broken."""
        self.tied()
        return self._signs

    def asked(self, path: str, content: bytes, *, keep_connection: bool = True) -> "_Reply":
        """Post JSON; the reply's body, as it comes. Leaving before its end cuts the connection.

        Raises `BackendError` for a reply that is no success, and for a connection that fails, also midway.
        """
        return _Reply(self, path, content, _JSON if keep_connection else _JSON_AND_CLOSE)

    async def begun(self, path: str, content: bytes, headers: dict[str, str]) -> aiohttp.ClientResponse:
        """The reply to JSON, once its head is here, which is that of a stream. Raises `BackendError`."""
        with self.watched():
            response = await self._replied("POST", path, content, headers)
            try:
                if response.status != HTTPStatus.OK:
                    _refuse(self._name, response, await response.read())
                if response.content_type in _NO_STREAMS:
                    raise await _not_a_stream(self._name, response)
            except BaseException:
                response.close()
                raise
            return response

    async def read(self, path: str, content: bytes | None = None, *, sign: bool = True) -> bytes:
        """Post JSON, or get; the whole body of the reply. Raises `BackendError`.

        Without `sign`, a connection that breaks says nothing of who answers: some servers cut what they do not know.
        """
        with self.watched(sign=sign):
            method = "GET" if content is None else "POST"
            async with await self._replied(method, path, content, _JSON) as response:
                body = await response.read()
                if response.status != HTTPStatus.OK:
                    _refuse(self._name, response, body)
                return body

    async def headers(self, path: str) -> Mapping[str, str]:
        """Get; the head of a successful reply, names in lower case. Raises `BackendError`, and that is no sign."""
        with self.watched(sign=False):
            async with await self._replied("GET", path, None, _JSON) as response:
                if response.status != HTTPStatus.OK:
                    upstream.refuse(self._name, response.status, await response.read())
                return {name.lower(): value for name, value in response.headers.items()}

    async def aclose(self) -> None:
        """Close the connections."""
        if self._tether is not None:
            self._tether.close()
        if self._opened is not None:
            await self._opened.close()

    async def _replied(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        """The reply, once its head is here."""
        session = self._opened = self._opened or self._session()
        url = self._base + path
        try:
            return await session.request(method, url, data=content, headers=headers, allow_redirects=False)
        except ValueError as error:  # an address or a key that no request can be made with
            message = f"Backend '{self._name}' cannot be asked with the address and key in the settings."
            raise BackendUnavailable(message) from error
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # Most likely an idle connection that the server was about to close. No byte of a reply has come, and a
            # completion changes nothing on the server, so it is asked once more. It may be another one by now.
            self._signs += 1
            return await session.request(method, url, data=content, headers=headers, allow_redirects=False)

    @contextmanager
    def watched(self, *, sign: bool = True) -> Generator[None]:
        """Raise aiohttp's errors as `BackendError`s, and count the connections that fail: one only slow is no sign."""
        try:
            yield
        except (aiohttp.ClientError, OSError) as error:
            raise self.failed(error, sign=sign) from error

    def failed(self, error: aiohttp.ClientError | OSError, *, sign: bool = True) -> BackendError:
        """What `error` means, counted as a sign unless it is only slowness."""
        self._signs += sign and not isinstance(error, TimeoutError)
        return meant(self._name, error)

    def _session(self) -> aiohttp.ClientSession:
        if self._uds:
            connector: aiohttp.BaseConnector = aiohttp.UnixConnector(
                self._uds, limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_S
            )
        else:
            context = ssl.create_default_context() if self._base.startswith("https:") else True
            connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_S, ssl=context)
        return aiohttp.ClientSession(
            connector=quick(connector),
            headers=self._headers,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
        )


def _tether(uds: str | None, base: str) -> Tether | None:
    """None for a server that is reached over TLS: what is at the other end is a proxy, or far away."""
    if uds:
        return Tether(uds)
    parts = urlsplit(base)
    if parts.scheme != "http" or not parts.hostname:
        return None
    return Tether((parts.hostname, parts.port or 80))


def _refuse(name: str, response: aiohttp.ClientResponse, content: bytes) -> None:
    upstream.refuse(name, response.status, content, response.headers.get("retry-after"))


async def _not_a_stream(name: str, response: aiohttp.ClientResponse) -> BackendError:
    """What was said instead, so that whoever looks for the reason finds it."""
    content = await response.content.read(_SHOWN)
    try:
        said = upstream.reason(msgspec.json.decode(content))
    except msgspec.DecodeError:
        said = " ".join(content.decode(errors="replace").split())
    return BackendError(f"Backend '{name}' answered {response.content_type} instead of a stream: {said[:200]}")


class _Reply:
    """A reply while it is read, for `async with`."""

    def __init__(self, server: Server, path: str, content: bytes, headers: dict[str, str]) -> None:
        self._server = server
        self._question = path, content, headers
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> AsyncIterator[bytes]:
        response = self._response = await self._server.begun(*self._question)
        return response.content.iter_any()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._response is not None:
            await self._response.__aexit__(kind, error, traceback)
        if isinstance(error, (aiohttp.ClientError, OSError)):
            raise self._server.failed(error) from error


def meant(name: str, error: aiohttp.ClientError | OSError) -> BackendError:
    """`error` as one that names the backend."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return BackendTimeout(f"Backend '{name}' took too long to connect to.", code="connect_timeout")
    if isinstance(error, TimeoutError):  # aiohttp's are such errors too, and some of them connection errors as well
        return BackendTimeout(f"Backend '{name}' did not answer in time.")
    if isinstance(error, aiohttp.ClientConnectorError):
        return BackendUnreachable(f"Backend '{name}' cannot be reached. Is it running?")
    return BackendGone(f"Backend '{name}' broke the connection.")
