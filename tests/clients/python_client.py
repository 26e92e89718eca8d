"""Runs the Python libraries of `python/libraries.lock`, in an environment of their own, against a server."""

import os
import subprocess
from pathlib import Path

from tests.clients.client_case import Outcomes, decoded

FOLDER = Path(__file__).parent / "python"
PYTHON = Path(__file__).parents[2] / ".venv-clients" / "bin" / "python"
DEADLINE_S = 300.0


def run_libraries(url: str, model: str, *cases: str) -> Outcomes:
    """Drive the server at `url` through `cases` of `drive.py`; all of them when none is named."""
    assert PYTHON.exists(), "the libraries are not installed; 'make engines' does it"
    command: list[str | Path] = [PYTHON, FOLDER / "drive.py", url, model, *cases]
    # Nothing of this process's own: no settings, no proxy of the developer's, no site of this environment.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    done = subprocess.run(command, check=False, capture_output=True, timeout=DEADLINE_S, env=kept)
    assert done.returncode == 0, done.stderr.decode()
    return decoded(done.stdout)
