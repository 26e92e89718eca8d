"""`askonce keys` on a real database: what it says on the terminal."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main


@pytest.fixture(autouse=True)
def _configured(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This test's own database, and one model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASKONCE_DATABASE_URL", database_url)
    backends = [{"kind": "openai", "model": "parrot", "url": "http://127.0.0.1:9"}]
    monkeypatch.setenv("ASKONCE_BACKENDS", json.dumps(backends))


def keys(*words: str) -> Result:
    """One command."""
    return CliRunner().invoke(main, ["keys", *words])


def test_a_tenant_without_a_key_is_named() -> None:
    """Only where nobody has one may everybody ask."""
    assert "There is no key; everybody on this machine may ask." in keys("list").stdout
    assert keys("list", "--tenant", "rival").stdout == "The tenant 'rival' has no key.\n"
    assert keys("create", "--tenant", "acme").exit_code == 0
    assert keys("list", "--tenant", "rival").stdout == "The tenant 'rival' has no key.\n"
    assert keys("list", "--tenant", "acme").stdout.count("\n") == 2


def test_labels_and_models_leave_the_terminal_alone() -> None:
    """A row is one line, whatever it holds."""
    evil = "a\nb\x1b[31mred"
    assert keys("create", "--label", evil, "--model", evil).exit_code == 0
    said = keys("list").stdout
    assert said.count("\n") == 2
    assert r"a\nb\x1b[31mred; a\nb\x1b[31mred" in said
    assert all(line.isprintable() for line in said.split("\n"))


def test_models_that_are_not_served_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is made all the same; where a model is served that the settings do not name, nothing is said."""
    done = keys("create", "--model", "parrot", "--model", "other\x1b")
    assert done.exit_code == 0
    assert done.stdout.startswith("ak-")
    assert r"No model 'other\x1b' is configured here; these are: parrot." in done.stderr
    assert "No model 'parrot'" not in done.stderr
    monkeypatch.setenv("ASKONCE_MODEL", "bundled")
    assert "No model" not in keys("create", "--model", "other").stderr
    for empty in ("", " "):
        refused = keys("create", "--model", empty)
        assert (refused.exit_code, "name is empty" in refused.stderr) == (2, True)
    assert keys("list").stdout.count("\n") == 3
