"""docs/traps.md names tests that exist, and a trap without one says why."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "traps.md").read_text("utf-8")
ROWS = re.findall(r"^\| (\d+) \| (.*) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
UNPROVED = ("not built yet: ", "to be filled in")


def functions(file: Path) -> set[str]:
    """Return the names of the tests in a file."""
    tree = ast.parse(file.read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_is_named_exists() -> None:
    """A test that is renamed or taken away must be named anew."""
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 40
    missing = [f"{file}::{name}" for file, name in named if not (TESTS / file).is_file()]
    missing += [f"{file}::{name}" for file, name in named if name not in functions(TESTS / file)]
    assert missing == []
    assert PAGE.count("::") == len(named) + 1  # the one that says how a test is written


def test_a_trap_without_a_test_says_why() -> None:
    """And every line of the tables is a trap with a number of its own."""
    numbers = [int(number) for number, *_ in ROWS]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == len(re.findall(r"^\| \d", PAGE, re.MULTILINE))
    for number, _, here, proofs in ROWS:
        assert "::" in proofs or (proofs == "–" and here.startswith(UNPROVED)), number
