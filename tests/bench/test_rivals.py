"""The peers of `askonce bench`: installed whole or not at all, told the right things, and measured for what they do."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from gateway.bench import comparing, counting, installed, processes, rivals, standing
from gateway.bench.processes import BenchError
from gateway.bench.rivals import Rival
from gateway.bench.served import Place

SMALL = {"is-number": "7.0.0"}


def test_an_environment_is_made_once(tmp_path: Path) -> None:
    """It has what is pinned, works where it is put, and is left alone while the pins stay."""
    told: list[str] = []
    folder = installed.from_pip(tmp_path / "peer", ["six==1.17.0"], told.append)
    ask = [folder / "bin" / "python", "-c", "import six; print(six.__version__)"]
    assert subprocess.run(ask, check=True, capture_output=True, text=True).stdout == "1.17.0\n"
    assert len(told) == 1
    assert installed.from_pip(tmp_path / "peer", ["six==1.17.0"], told.append) == folder
    assert len(told) == 1


def test_a_failed_installation_changes_nothing(tmp_path: Path) -> None:
    """What was there stays, nothing half made is left, and the error says what could not be had."""
    told: list[str] = []
    folder = installed.from_npm(tmp_path / "peer", SMALL, {}, told.append)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BenchError, match="is-number@not a version cannot be installed"):
        installed.from_npm(folder, {"is-number": "not a version"}, {}, told.append)
    assert sorted(tmp_path.iterdir()) == before
    assert installed.from_npm(folder, SMALL, {}, told.append) == folder
    assert len(told) == 2
    assert (folder / "node_modules" / "is-number" / "package.json").exists()


def test_an_interrupted_installation_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    """A folder without the stamp of these very pins is made anew, with nothing of what was in it."""
    folder = tmp_path / "peer"
    (folder / "node_modules" / "half").mkdir(parents=True)
    installed.from_npm(folder, SMALL, {}, lambda _: None)
    assert {path.name for path in (folder / "node_modules").iterdir() if not path.name.startswith(".")} == {"is-number"}


def test_a_peer_whose_programs_are_missing_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is named, for the table."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(installed.LeftOut, match="npm is not on this machine"):
        installed.portkey(tmp_path, lambda _: None)
    with pytest.raises(installed.LeftOut, match=r"no \.venv-none"):
        installed.vllm(tmp_path / ".venv-none" / "bin" / "python")
    assert list(tmp_path.iterdir()) == []


def test_litellm_is_told_whom_to_ask_and_to_keep_answers() -> None:
    """Both models lead to the backend; keys and cache are on, reports home are off."""
    found = yaml.safe_load(rivals.litellm_config("127.0.0.1:9", {"type": "local"}))
    assert [(model["model_name"], model["litellm_params"]["api_base"]) for model in found["model_list"]] == [
        ("instant", "http://127.0.0.1:9/v1"),
        ("slow", "http://127.0.0.1:9/v1"),
    ]
    settings = found["litellm_settings"]
    assert (settings["cache"], settings["cache_params"], settings["telemetry"]) == (True, {"type": "local"}, False)
    assert found["general_settings"]["master_key"]


def test_portkey_is_told_whom_to_ask_and_to_keep_answers() -> None:
    """Its settings come with every request."""
    found = msgspec.json.decode(rivals.portkey_headers("127.0.0.1:9")["x-portkey-config"])
    assert (found["custom_host"], found["cache"]) == ("http://127.0.0.1:9/v1", {"mode": "simple"})


def test_a_paused_program_ends(tmp_path: Path) -> None:
    """Nothing of it is left at the end of the block, not even what it started."""
    with (tmp_path / "log").open("wb") as log:
        words = ("sh", "-c", "sleep 600 & echo $!; wait")
        with processes.program(words, processes.sparse(tmp_path), cwd=tmp_path, log=log) as process:
            while not (said := (tmp_path / "log").read_text()).endswith("\n"):
                time.sleep(0.01)
            processes.pause(process.pid)
    assert process.returncode is not None
    while runs(int(said)):
        time.sleep(0.01)


def runs(pid: int) -> bool:
    """Tell whether a process has not ended; one that only waits for its parent to notice has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def place() -> Iterator[Place]:
    """A folder with a short path, and a counting backend."""
    cores = processes.cores()
    with tempfile.TemporaryDirectory(prefix="askonce-") as folder, counting.backend(cores.servers) as backend:
        yield Place(Path(folder), backend, cores)


@pytest.mark.bench
def test_what_a_peer_does_is_seen(place: Place) -> None:
    """askonce keeps and asks once. One that passes everything on is found out, by the backend's count alone."""
    backend, told = place.instant, list[str]()
    with processes.generator(place.cores.generator) as generator, comparing.askonce(place, backend) as ours:
        contest = comparing.Contest(generator=generator, seconds=0.1, rounds=1, kept_within_s=2.0, progress=told.append)
        passing = Rival(name="passes on", version="1", address=backend, backend=backend)
        found, other = comparing.measured(contest, [ours, passing])
    assert [cell.failed for peer in (found, other) for cell in peer.cells.values()] == [""] * 2 * len(standing.WAYS)
    for way in standing.WAYS:
        assert found.cells[way.said].reached == (1.0 if way.new else 0.0)
        assert other.cells[way.said].reached == 1.0
        assert 0 < found.cells[way.said].first_ms <= found.cells[way.said].p99_ms
    assert (found.identical, other.identical) == (1, standing.IDENTICAL)
    assert found.rss_mb > 1
    assert "never stored" not in found.lacks
    assert other.lacks == (
        "hit JSON: never stored; hit SSE: never stored; equal questions at the same time are not made one"
    )
    assert told
