"""What is committed is clean: no host of a registry, no path of one machine, nothing overgrown, nothing unused."""

import ast
import functools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MADE_FOLDERS = {
    ".git",
    "node_modules",
    "__pycache__",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
    "data",
    "build",
    "dist",
}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "base"}
# Put together here, so that this file does not hold what it looks for.
REGISTRY_HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("download", "pytorch", "org"),
        ("deb", "debian", "org"),
    )
)
MACHINE_PATHS = re.compile("|".join(f"(?<![\\w.$}}])/{folder}/" for folder in ("root", "work", "home")))


def tracked(*patterns: str) -> list[Path]:
    """List the files that match, by the end of their names or as a whole."""
    return [path for path in every_file() if not patterns or any(path.match(pattern) for pattern in patterns)]


@functools.cache
def every_file() -> list[Path]:
    """List the files under version control or about to be; without git, those that could be."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return list(walked(ROOT))
    list_files = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(list_files, cwd=ROOT, capture_output=True, check=True)
    return [path for name in done.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def walked(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, but not those that commands make."""
    for path in folder.iterdir():
        if path.is_file():
            yield path
        elif path.is_dir() and path.name not in MADE_FOLDERS and not path.name.startswith(".venv"):
            yield from walked(path)


def texts(*patterns: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each tracked file that is text."""
    for path in tracked(*patterns):
        content = path.read_bytes()
        if b"\0" not in content:
            yield str(path.relative_to(ROOT)), content.decode(errors="replace")


@pytest.mark.parametrize("host", REGISTRY_HOSTS)
def test_no_registry_is_named(host: str) -> None:
    """Where packages come from is the installing machine's affair."""
    assert [name for name, text in texts() if host in text] == []


def test_npm_locks_do_not_say_where_from() -> None:
    """A lock pins what, by its hash."""
    for path in tracked("*package-lock.json"):
        packages = json.loads(path.read_text())["packages"]
        assert [name for name, entry in packages.items() if "resolved" in entry] == []
        assert [name for name, entry in packages.items() if name and "integrity" not in entry] == []


def test_python_locks_pin_by_hash_and_nothing_else() -> None:
    """No option lines; each package has a version and a hash."""
    for path in tracked("*.lock"):
        entries = path.read_text().replace("\\\n", "").splitlines()
        assert [
            entry for entry in entries if not re.match(r"[\w.\[\],-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry)
        ] == []


def test_the_locks_agree() -> None:
    """What the tests run on includes exactly what users install."""
    runtime, development = (pins(ROOT / name) for name in ("requirements.lock", "requirements-dev.lock"))
    assert runtime <= development


def pins(lock: Path) -> set[str]:
    """Return the pinned versions of a lock, with their conditions."""
    return {line.rstrip(" \\") for line in lock.read_text().splitlines() if line and not line.startswith(" ")}


def test_no_path_of_one_machine() -> None:
    """Nothing names a folder of the machine that it was written on."""
    found = {name: MACHINE_PATHS.findall(text) for name, text in texts()}
    assert {name: paths for name, paths in found.items() if paths} == {}


def test_files_stay_short() -> None:
    """A file of Python fits a reader's head."""
    lengths = {name: text.count("\n") for name, text in texts("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_functions_stay_short() -> None:
    """So does a function."""
    long: dict[str, int] = {}
    for name, text in texts("*.py"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                lines = node.end_lineno - node.lineno + 1
                long |= {f"{name}: {node.name}": lines} if lines > MAX_FUNCTION_LINES else {}
    assert long == {}


def test_names_say_something() -> None:
    """No file or folder is a junk drawer."""
    paths = [path.relative_to(ROOT) for path in tracked("*.py")]
    assert [str(path) for path in paths if VAGUE_NAMES & {*path.parts[:-1], path.stem}] == []


def test_every_query_is_used() -> None:
    """An SQL file is named somewhere in Python, or lies in a folder that is applied as a whole."""
    code = "\n".join(text for _, text in texts("*.py"))
    queries = [path.relative_to(ROOT) for path in tracked("*.sql") if path.relative_to(ROOT).parts[0] != "migrations"]
    assert [str(query) for query in queries if query.stem not in code] == []
