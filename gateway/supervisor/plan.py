"""What the command line wants served, and what the workers are told about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

Prepare = Callable[[str], Awaitable[None]]
"""Given the database's URL, makes its schema fit."""


class ServePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `serve` needs to know.

    `database_url`, `redis_url`: when given, that embedded server is not started. `model`: a specification for
    `gateway.models.source.resolve`; None starts no llama.cpp, so that only configured backends are served.
    """

    data_dir: Path
    worker_argv: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8080  # 0: any free port, named in the summary
    workers: int = 1
    database_url: str | None = None
    database_connections: int = 8  # of each worker
    redis_url: str | None = None
    redis_max_bytes: int = 256 * 2**20
    model: str | None = "default"
    hub_endpoint: str | None = None
    hub_token: str | None = None
    llamacpp_slots: int = 4
    llamacpp_context_tokens: int | None = None  # per slot; None: what the model was trained for, at most 8192
    llamacpp_threads: int | None = None  # None: all cores but one
    drain_s: float = 30.0


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """Where the servers are: the JSON line that a worker reads on its stdin."""

    host: str
    """What the parent listens on, whatever the settings say."""
    database_url: str
    redis_url: str
    llamacpp_socket: str | None = None
    model_name: str | None = None
    model_digest: str | None = None
