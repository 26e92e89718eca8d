"""Runs the official Node client against a server: its address in, the outcome of each case out."""

import subprocess
from pathlib import Path

from tests.clients.client_case import Outcomes, decoded
from tests.clients.node_install import FOLDER, NODE

DEADLINE_S = 120.0


def run_node(base_url: str, model: str, embedding_model: str | None = None, api_key: str = "unused") -> Outcomes:
    """Drive the server at `base_url` (with its /v1) through every case of `drive.mjs`."""
    command: list[str | Path] = [NODE, FOLDER / "drive.mjs", base_url, model, embedding_model or model, api_key]
    done = subprocess.run(command, check=False, capture_output=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr.decode()
    return decoded(done.stdout)
