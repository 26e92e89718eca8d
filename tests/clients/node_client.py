"""Runs the official Node client against a server: its address in, the outcome of each case out."""

import subprocess
from pathlib import Path
from typing import Any

import msgspec

from tests.clients.node_install import FOLDER, NODE

DEADLINE_S = 120.0


class Problem(msgspec.Struct):
    """What the client raised, with the fields of OpenAI's error envelope."""

    name: str
    status: int | None = None
    code: str | int | None = None
    param: str | None = None
    type: str | None = None
    message: str | None = None


class Outcome(msgspec.Struct):
    """One case: a value or a problem."""

    ok: bool
    value: dict[str, Any] | None = None
    error: Problem | None = None


def run_node(
    base_url: str, model: str, embedding_model: str | None = None, api_key: str = "unused"
) -> dict[str, Outcome]:
    """Drive the server at `base_url` (with its /v1) through every case of `drive.mjs`."""
    command: list[str | Path] = [NODE, FOLDER / "drive.mjs", base_url, model, embedding_model or model, api_key]
    done = subprocess.run(command, check=False, capture_output=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout, type=dict[str, Outcome])
