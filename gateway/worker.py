"""One worker of `askonce serve`: the listening socket and a line with the settings in, served requests out.

How it talks to its parent is said in `gateway/supervisor/__init__.py`.
"""

import gc
import logging
import socket
import sys

import click
import uvicorn
import uvloop

from gateway import config as settings
from gateway.app import create_app


class _Server(uvicorn.Server):
    """Tells the parent when it serves."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            # What is here now stays for as long as the worker does: the collector need not walk through it each time.
            gc.collect()
            gc.freeze()
            sys.stdout.write("ready\n")
            sys.stdout.flush()


@click.command()
@click.option("--fd", type=int, required=True)
def main(fd: int) -> None:
    """Serve on the socket `fd` once the parent has said with which settings."""
    line = sys.stdin.readline()
    if not line:
        return
    config = settings.decoded(line)
    logging.basicConfig(level=config.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it has a line for every request
    server = _Server(
        uvicorn.Config(
            create_app(config),
            loop="uvloop",
            http="httptools",
            lifespan="on",
            log_level=config.log_level if config.log_level != "info" else "warning",
            access_log=False,
            timeout_graceful_shutdown=int(config.drain_s),
            server_header=False,
        )
    )
    uvloop.run(server.serve(sockets=[socket.socket(fileno=fd)]))


if __name__ == "__main__":
    main()
