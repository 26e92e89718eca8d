"""A connection on which nothing is ever said: while it stands, the process at its other end is still the same."""

import asyncio
import contextlib
import socket
from typing import Final

_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    # A machine that is gone says no farewell: after ten seconds of silence it counts as gone.
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 4),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


class Tether:
    """One such connection at a time, to `host` and `port` or to a unix socket."""

    def __init__(self, place: tuple[str, int] | str) -> None:
        self._place = place
        self._socket: socket.socket | None = None

    def holds(self) -> bool:
        """Whether it stands. The end of a process on this machine shows at once, before another can take its port."""
        if self._socket is None:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        self.close()  # it has ended, or says something: a proxy that wants the connection back
        return False

    async def tie(self, timeout_s: float) -> None:
        """Connect, unless it stands. Where that fails it does not stand, which is no error."""
        if not self.holds():
            with contextlib.suppress(OSError):  # a TimeoutError is one
                async with asyncio.timeout(timeout_s):
                    self._socket = await self._connected()

    def close(self) -> None:
        """Let go."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _connected(self) -> socket.socket:
        if isinstance(self._place, str):
            return await _connected(socket.AF_UNIX, self._place)
        failed: OSError | None = None
        loop = asyncio.get_running_loop()
        for family, _, _, _, address in await loop.getaddrinfo(*self._place, type=socket.SOCK_STREAM):
            try:
                return await _connected(family, address)
            except OSError as error:
                failed = error
        raise failed or OSError("no address")


async def _connected(family: int, address: object) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)  # noqa: FBT003 -- the way sockets say it
        if family != socket.AF_UNIX:
            for option in _OPTIONS:
                made.setsockopt(*option)
        await asyncio.get_running_loop().sock_connect(made, address)  # type: ignore[arg-type]
    except BaseException:
        made.close()
        raise
    return made
