"""One worker of `askonce serve`: the listening socket and a line with the servers' addresses in, served requests out.

How it talks to its parent is said in `gateway/supervisor/__init__.py`.
"""

import logging
import socket
import sys
from importlib import metadata
from pathlib import Path

import click
import msgspec
import uvicorn
import uvloop

from gateway import config as settings
from gateway.app import create_app
from gateway.config import BackendConfig, Config
from gateway.supervisor import Services


class _Server(uvicorn.Server):
    """Tells the parent when it serves."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            sys.stdout.write("ready\n")
            sys.stdout.flush()


def wired(config: Config, services: Services) -> Config:
    """`config` as it was started: the address, the tiers' addresses, and the embedded model as a further backend."""
    backends = config.backends
    if services.llamacpp_socket and services.model_name:
        embedded = BackendConfig(
            kind="llamacpp",
            model=services.model_name,
            url=f"unix:{services.llamacpp_socket}",
            engine_version=metadata.version("xllamacpp"),
            model_version=services.model_digest or "",
        )
        backends = (embedded, *backends)
    return msgspec.structs.replace(
        config,
        host=services.host,
        backends=backends,
        database_url=services.database_url,
        redis_url=services.redis_url,
    )


@click.command()
@click.option("--fd", type=int, required=True)
@click.option("--config", "file", type=click.Path(path_type=Path))
def main(fd: int, file: Path | None) -> None:
    """Serve on the socket `fd` once the parent has said where the servers are."""
    config = settings.load(file)
    line = sys.stdin.readline()
    if not line:
        return
    config = wired(config, msgspec.json.decode(line, type=Services))
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
