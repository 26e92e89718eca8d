"""What one worker of `askonce serve` does: the listening socket and a line with the settings in, served requests out.

How it talks to its parent is said in `gateway/supervisor/__init__.py`.
"""

import gc
import logging
import socket
import sys
from collections.abc import Callable

import uvicorn
import uvloop

from gateway import config as settings
from gateway.app import Application
from gateway.config import Config
from gateway.parent import Parent
from gateway.protocol import FastProtocol


class _Server(uvicorn.Server):
    """Tells the parent when it serves, and heeds what that says."""

    def __init__(self, config: uvicorn.Config, parent: Parent, use: Callable[[Config], None]) -> None:
        super().__init__(config)
        self._parent = parent
        self._use = use

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._parent.heed(self._use)
            # What is here now stays for as long as the worker does: the collector need not walk through it each time.
            gc.collect()
            gc.freeze()
            sys.stdout.write("ready\n")
            sys.stdout.flush()


def run(fd: int) -> None:
    """Serve on the socket `fd` once the parent has said with which settings."""
    parent = Parent()
    if not (line := parent.first()):
        return
    config = settings.decoded(line)
    logging.basicConfig(level=config.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it has a line for every request
    app = Application(config, parent.reload, parent.standby)
    server = _Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=FastProtocol,
            lifespan="on",
            log_level=config.log_level if config.log_level != "info" else "warning",
            access_log=False,
            timeout_graceful_shutdown=int(config.drain_s),
            server_header=False,
            proxy_headers=False,  # nobody here looks at where a request comes from
        ),
        parent,
        lambda config: app.parts.use(config),
    )
    uvloop.run(server.serve(sockets=[socket.socket(fileno=fd)]))
