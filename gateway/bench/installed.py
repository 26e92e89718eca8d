"""Pinned versions and a cache folder in, other gateways and a profiler out, each in an environment of its own.

Only what is named here is pinned, what that needs is whatever its own requirements allow on the day: that is what its
users get, and the figures say the version. Hashes would prove what a file is, not that it is harmless, and would have
to be kept for every platform; nothing of this is ever part of askonce or of its environment. What comes is wheels and
packages whose install scripts are not run.
"""

import fcntl
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import platformdirs

from gateway.bench import processes
from gateway.bench.processes import BenchError

Progress = Callable[[str], None]
Make = Callable[[Path], None]

LITELLM: Final = "1.106.2"
"""1.82.7 and 1.82.8 carried a credential stealer; 1.106.3 and later ask for packages that are not everywhere yet."""
PORTKEY: Final = "1.15.2"
PY_SPY: Final = "0.4.3"
_LITELLM_PINS: Final = (f"litellm[proxy]=={LITELLM}",)
_PORTKEY_PINS: Final = {"@portkey-ai/gateway": PORTKEY}
_PORTKEY_WITH: Final = {"@hono/node-server": "1.13.5"}
"""As in Portkey's own lock file. With 1.19, which its package allows, it answers every stream with 500."""
_STAMP: Final = "askonce.stamp"
_PIP: Final = ("-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--only-binary", ":all:")
_NPM: Final = ("install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
_WITHIN_S: Final = 1800.0
_TAIL: Final = 600


class LeftOut(BenchError):
    """A peer that cannot run on this machine, and why."""


def cache_folder() -> Path:
    """Where peers are kept from one run to the next: this user's cache."""
    return Path(platformdirs.user_cache_dir("askonce", appauthor=False)) / "bench"


def litellm(cache: Path, tell: Progress) -> Path:
    """The Python of an environment with LiteLLM's proxy. Raises `BenchError`."""
    return from_pip(cache / "litellm", _LITELLM_PINS, tell) / "bin" / "python"


def portkey(cache: Path, tell: Progress) -> Path:
    """The program of Portkey's gateway, for `node`. Raises `LeftOut` without Node.js, else `BenchError`."""
    folder = from_npm(cache / "portkey", _PORTKEY_PINS, _PORTKEY_WITH, tell)
    return folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"


def py_spy(cache: Path, tell: Progress) -> Path:
    """The program that draws where a process spends its time. Raises `BenchError`."""
    return from_pip(cache / "py-spy", (f"py-spy=={PY_SPY}",), tell) / "bin" / "py-spy"


def vllm(python: Path) -> Path:
    """`python`, which has vLLM: gigabytes that the bench does not install. Raises `LeftOut` when it is not there."""
    if not python.exists():
        message = f"vLLM is not installed: there is no {python.parent.parent.name} in this checkout"
        raise LeftOut(message)
    return python


def node() -> Path:
    """The program that runs JavaScript. Raises `LeftOut`."""
    return _found("node")


def from_pip(folder: Path, pins: Sequence[str], tell: Progress) -> Path:
    """`folder` as a virtual environment with `pins`. Raises `BenchError`."""
    return _kept(folder, (sys.version, *pins), partial(_environment, pins=pins), tell)


def from_npm(folder: Path, pins: Mapping[str, str], instead: Mapping[str, str], tell: Progress) -> Path:
    """`folder` with `pins` in `node_modules`; what they need has the versions of `instead`. Raises `BenchError`."""
    npm, wanted = _found("npm"), {"private": True, "dependencies": pins, "overrides": instead}

    def make(where: Path) -> None:
        (where / "package.json").write_bytes(msgspec.json.encode(wanted))
        _run((npm, *_NPM), where, [f"{name}@{version}" for name, version in pins.items()])

    return _kept(folder, (f"{name}@{version}" for name, version in (*pins.items(), *instead.items())), make, tell)


def _environment(where: Path, pins: Sequence[str]) -> None:
    _run((sys.executable, "-m", "venv", where), where, ["a virtual environment"])
    # By its Python and never by its scripts, which name the folder they were made in.
    _run((where / "bin" / "python", *_PIP, *pins), where, pins)


def _kept(folder: Path, recipe: Iterable[str], make: Make, tell: Progress) -> Path:
    """`folder`, made now unless its stamp says that it was made by `recipe`, and to its end."""
    said, stamp = "\n".join(recipe) + "\n", folder / _STAMP
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # Another run may be installing the same.
        if not stamp.exists() or stamp.read_text("utf-8") != said:
            tell(f"installing {folder.name} into {folder}: once, and it may take minutes")
            _made(folder, said, make)
    return folder


def _made(folder: Path, said: str, make: Make) -> None:
    """Make it beside `folder`, and put it there once it is whole."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as passing:
        new, old = Path(passing) / "new", Path(passing) / "old"
        new.mkdir()
        make(new)
        (new / _STAMP).write_text(said, "utf-8")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)


def _run(words: Sequence[str | Path], cwd: Path, what: Sequence[str]) -> None:
    """One step of an installation. Raises `BenchError` with the end of what it said."""
    try:
        done = subprocess.run(  # noqa: S603 -- this Python or npm, with pinned packages
            words,
            check=False,
            cwd=cwd,
            env=processes.inherited(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_WITHIN_S,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{', '.join(what)} was not installed within {_WITHIN_S:g} s."
        raise BenchError(message) from error
    if done.returncode:
        end = done.stdout.decode(errors="replace").strip()[-_TAIL:]
        message = f"{', '.join(what)} cannot be installed. Is the package registry within reach? {end}"
        raise BenchError(message)


def _found(program: str) -> Path:
    path = shutil.which(program)
    if path is None:
        message = f"{program} is not on this machine"
        raise LeftOut(message)
    return Path(path)
