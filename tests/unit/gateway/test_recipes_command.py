"""`askonce recipes`: what is listed, shown, begun and tried, and with which status."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from extractors.framing import frame
from extractors.recipe import Example, from_data, from_toml, shipped
from gateway.cli import main
from gateway.recipes import trial

DRUGS = """
title = "Drugs"
description = "Extract drugs."
[classes.drug]
dose = { type = "string" }

[[examples]]
text = "Aspirin, and again Aspirin 100 mg."
records = [
  { class = "drug", text = "Aspirin", attributes = { dose = "" } },
  { class = "drug", text = "Aspirin", attributes = { dose = "100 mg" } },
]

[[examples]]
text = "Ibuprofen."
records = [{ class = "drug", text = "Ibuprofen", attributes = { dose = "" } }]
"""
WRONG = DRUGS.replace('"string"', '"number", multipleOf = 5')
ANSWERS = {example.text: list(trial.wanted(example)) for example in from_toml(DRUGS, "drugs").examples}


class Server(ThreadingHTTPServer):
    """Answers extractions, as askonce does, with what `says` makes of what would be right."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models = ["m"]
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.says: Callable[[dict[str, Any]], dict[str, Any]] = lambda reply: reply
        self.status = 200

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """A reply to one request, which must be one."""
        from_data(request["recipe"])
        self.asked.append(request)
        records = [
            {"class": one.name, "text": one.text, "attributes": one.attributes, "start": one.start, "end": one.end}
            for one in ANSWERS.get(request["text"], [])
        ]
        chunk = {"index": 0, "status": "ok", "calls": [{"pass": 0, "attempt": 0, "status": "ok", "problems": []}]}
        reply = {"object": "extraction", "status": "completed", "records": records, "chunks": [chunk]}
        return self.says(reply)


class Handler(BaseHTTPRequestHandler):
    """Its HTTP."""

    server: Server

    def do_GET(self) -> None:
        """Which models there are."""
        assert self.path == "/v1/models"
        self._reply({"object": "list", "data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        """What is extracted."""
        assert self.path == "/v1/extractions"
        self.server.keys.append(self.headers["authorization"])
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._reply(self.server.answer(request), self.server.status)

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _reply(self, said: Any, status: int = 200) -> None:
        content = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server() -> Iterator[Server]:
    """One of this test's own."""
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASKONCE_RECIPES_DIR", str(tmp_path / "book"))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Saves a recipe."""

    def save(text: str = DRUGS, name: str = "drugs") -> Path:
        path = tmp_path / "book" / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    return save


def run(*words: str) -> Result:
    """The command."""
    return CliRunner().invoke(main, ["recipes", *words])


def changed(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What says the same, but for the first record."""

    def says(reply: dict[str, Any]) -> dict[str, Any]:
        first, *others = reply["records"]
        return reply | {"records": [first | fields, *others]}

    return says


def test_recipes_are_listed(saved: Callable[..., Path]) -> None:
    """Those that ship and those in files, with what they find; a file that is not valid makes the status 1."""
    path = saved()
    done = run("list")
    assert done.exit_code == 0
    heads, *rows = [line.split() for line in done.output.splitlines()]
    assert heads == ["NAME", "EDITION", "CLASSES", "FROM", "TITLE"]
    assert [(row[0], *row[-3:]) for row in rows[2:3]] == [("drugs", "drug", str(path), "Drugs")]
    assert [row[0] for row in rows] == ["clinic-notes", "contracts", "drugs", "invoices"]
    saved(WRONG, "bad\x1b[2J")
    saved(WRONG, "worse")
    done = run("list")
    assert done.exit_code == 1
    assert "    worse.toml: 'multipleOf' is not something that every engine can hold" in done.output
    assert "It is in classes.drug.dose.\n" in done.output
    assert all(line.isprintable() for line in done.output.splitlines())


def test_recipes_are_listed_for_programs(saved: Callable[..., Path]) -> None:
    """As JSON."""
    path = saved(WRONG)
    done = run("list", "--json")
    assert done.exit_code == 1
    found = {one["name"]: one for one in json.loads(done.output)}
    assert found["invoices"] == {
        "name": "invoices",
        "from": "shipped",
        "edition": shipped()["invoices"].edition,
        "title": "Invoices: parties, items and totals",
        "classes": ["party", "reference", "item", "total"],
        "clashes": [],
        "error": None,
    }
    assert (found["drugs"]["from"], found["drugs"]["error"]["where"]) == (str(path), "classes.drug.dose")


def test_views_of_the_same_name_are_told(saved: Callable[..., Path], tmp_path: Path) -> None:
    """Of two recipes, of one, and one that is there without any; in the list and where a recipe is checked."""
    one = 'description = "Extract."\n[classes.{}]\n'
    files = {"a-b": ("c",), "a": ("b-c", "x-y", "x_y"), "extraction": ("runs", "other"), "fine": ("c",)}
    for name, classes in files.items():
        saved(one.format("]\n[classes.".join(classes)), name)
    whose = {
        "a_b_c": "'b-c' of the recipe 'a' and 'c' of the recipe 'a-b'",
        "a_x_y": "'x-y' of the recipe 'a' and 'x_y' of the recipe 'a'",
    }
    shared = {
        view: f"api.{view} would be the view of {classes}, and is only that of the one that is used first:"
        " rename a recipe or a class."
        for view, classes in whose.items()
    }
    ours = "api.extraction_runs is there already, so there is no view of 'runs' of the recipe 'extraction':"
    told = {
        "a": [shared["a_b_c"], shared["a_x_y"]],
        "a-b": [shared["a_b_c"]],
        "extraction": [f"{ours} rename the recipe or the class."],
    }
    done = run("list")
    assert done.exit_code == 0
    lines = done.output.splitlines()
    for name, said in told.items():
        [place] = [number for number, line in enumerate(lines) if line.split()[0] == name]
        assert lines[place + 1 : place + 1 + len(said)] == [f"    ! {line}" for line in said]
    assert len([line for line in lines if line.startswith("    !")]) == 4
    listed = {row["name"]: row["clashes"] for row in json.loads(run("list", "--json").output)}
    assert {name: said for name, said in listed.items() if said} == told
    for name in files:
        checked = run("test", name, "--offline")
        assert (checked.exit_code, checked.output.splitlines()[1:]) == (0, [f"! {line}" for line in told.get(name, [])])
    (tmp_path / "a.toml").write_text(one.format("b"))
    assert "!" not in run("test", "./a.toml", "--offline").output, "it would take the place of the one that is saved"


def test_a_recipe_is_shown(saved: Callable[..., Path]) -> None:
    """As a page that a pipe can take, as the schema of its answers, and as what a model is told."""
    saved(DRUGS.replace("Extract drugs.", "Extract\\u001b[2J drugs."))
    done = run("show", "drugs")
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[1] == "Drugs"
    assert "  Extract\\x1b[2J drugs." in lines
    assert "  Aspirin, and again Aspirin 100 mg." in lines
    assert "  drug   Aspirin   dose: 100 mg" in lines
    assert all(line.isprintable() and line == line.rstrip() for line in lines)
    assert json.loads(run("show", "invoices", "--json").output) == shipped()["invoices"].schema
    assert run("show", "invoices", "--prompt").output == frame(shipped()["invoices"]).prompt("…") + "\n"
    assert run("show", "invoices", "--prompt", "--json").exit_code == 2


def test_what_cannot_be_shown_is_told(saved: Callable[..., Path]) -> None:
    """A name that is none, with similar ones; a file that is not valid, with the place."""
    done = run("show", "invoice")
    assert (done.exit_code, "Did you mean invoices?" in done.output) == (2, True)
    saved(WRONG)
    done = run("show", "drugs")
    assert done.exit_code == 1
    assert done.output.endswith("It is in classes.drug.dose.\n")


def test_a_recipe_is_begun(tmp_path: Path) -> None:
    """It is valid as it is, and never written over; where one of this name ships, it begins as that."""
    done = run("new", "mine")
    path = tmp_path / "book" / "mine.toml"
    assert (done.exit_code, str(path) in done.output) == (0, True)
    assert run("test", "mine", "--offline").output.endswith("is valid: 2 classes, 2 examples.\n")
    path.write_text(DRUGS)
    again = run("new", "mine")
    assert (again.exit_code, "stays as it is" in again.output) == (1, True)
    assert path.read_text() == DRUGS
    assert run("new", "contracts").exit_code == 0
    assert run("new", "../mine").exit_code == 1
    listed = {one["name"]: one for one in json.loads(run("list", "--json").output)}
    assert listed["contracts"]["edition"] == shipped()["contracts"].edition
    assert listed["contracts"]["from"] == str(tmp_path / "book" / "contracts.toml")


def test_it_is_begun_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the settings name another."""
    monkeypatch.delenv("ASKONCE_RECIPES_DIR")
    assert run("new", "mine", "--data-dir", str(tmp_path / "data")).exit_code == 0
    assert (tmp_path / "data" / "recipes" / "mine.toml").exists()
    assert '"mine"' in run("list", "--json", "--data-dir", str(tmp_path / "data")).output


def test_each_example_is_asked_without_itself(saved: Callable[..., Path], server: Server) -> None:
    """With the others, of the only model there is; the status is 0 when everything is found."""
    saved()
    done = run("test", "drugs", "--url", server.url, "--api-key", "k" * 20)
    assert done.exit_code == 0, done.output
    assert [line.split() for line in done.output.splitlines()[3:]] == [
        ["EXAMPLE", "WANTED", "FOUND", "RIGHT"],
        ["1", "2", "2", "2"],
        ["2", "1", "1", "1"],
        [],
        ["PRECISION", "RECALL", "F1"],
        ["strict", "1.000", "1.000", "1.000"],
        ["overlap", "1.000", "1.000", "1.000"],
        ["attributes", "1.000", "1.000", "1.000"],
    ]
    texts = list(ANSWERS)
    assert [one["text"] for one in server.asked] == texts
    assert [[example["text"] for example in one["recipe"]["examples"]] for one in server.asked] == [
        [texts[1]],
        [texts[0]],
    ]
    assert {one["model"] for one in server.asked} == {"m"}
    assert not any("name" in one["recipe"] for one in server.asked)
    assert set(server.keys) == {f"Bearer {'k' * 20}"}


def test_a_lone_example_is_asked_with_itself(server: Server, tmp_path: Path) -> None:
    """And it is said. A file anywhere can be tried."""
    path = tmp_path / "drugs.toml"
    path.write_text(DRUGS.rpartition("[[examples]]")[0])
    done = run("test", str(path), "--url", server.url, "--model", "other")
    assert done.exit_code == 0
    assert "other is asked about its only example with itself as examples.\n" in done.output
    assert [len(one["recipe"]["examples"]) for one in server.asked] == [1]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"start": 19, "end": 26}, ["missed        drug 'Aspirin' at 0–7", "too much      drug 'Aspirin' at 19–26"]),
        ({"class": "dog"}, ["missed        drug 'Aspirin' at 0–7", "too much      dog 'Aspirin' at 0–7"]),
        ({"text": "aspirin"}, ["not verbatim  drug 'aspirin' at 0–7: there stands 'Aspirin'"]),
        (
            {"start": None, "end": None},
            [
                "missed        drug 'Aspirin' at 0–7",
                "too much      drug 'Aspirin', nowhere in the text",
                "not verbatim  drug 'Aspirin', nowhere in the text",
            ],
        ),
        ({"attributes": {"dose": "1\x1b"}}, ['attributes    drug \'Aspirin\': dose is "1\\u001b", not ""']),
        ({"attributes": None}, []),
    ],
)
def test_what_is_not_right_is_told(
    saved: Callable[..., Path], server: Server, fields: dict[str, Any], said: list[str]
) -> None:
    """What was missed, what is too much, what is not verbatim, and attributes that are others."""
    saved()
    server.says = changed(**fields)
    done = run("test", "drugs", "--url", server.url)
    lines = done.output.splitlines()
    assert [line[4:] for line in lines[5 : 5 + len(said)]] == said
    assert done.exit_code == (1 if "missed" in done.output else 0)
    assert all(line.isprintable() for line in lines)


def test_another_bar_can_be_set(saved: Callable[..., Path], server: Server) -> None:
    """One of three records is right: an F1 of a third."""
    saved()
    server.says = changed(start=1)
    for least, status in (("0.3", 0), ("0.34", 1), ("0", 0), ("1", 1)):
        assert run("test", "drugs", "--url", server.url, "--least", least).exit_code == status
    assert run("test", "drugs", "--url", server.url, "--least", "2").exit_code == 2


def test_what_answers_lacked_is_told(saved: Callable[..., Path], server: Server) -> None:
    """Also where it was forgiven. A text of which nothing could be read makes the status 1."""
    saved()
    problem = {"status": "ok", "problems": ["The list has no frame."]}

    def says(reply: dict[str, Any]) -> dict[str, Any]:
        failed = {"status": "failed", "chunks": [{"index": 0, "calls": [{"status": "failed"}]}], "records": []}
        chunks = [{"index": 0, "calls": [problem]}]
        return reply | (failed if len(reply["records"]) == 1 else {"chunks": chunks})

    server.says = says
    done = run("test", "drugs", "--url", server.url)
    assert done.exit_code == 1
    assert "    answers       part 1: ok: The list has no frame.\n" in done.output
    assert [line.split() for line in done.output.splitlines() if line.startswith("2 ")] == [["2", "1", "—", "—"]]
    assert "    answers       part 1: failed\n" in done.output


def failing(reply: dict[str, Any]) -> dict[str, Any]:
    """A run that failed."""
    return reply | {"status": "failed", "records": []}


@pytest.mark.parametrize(
    ("prepare", "words", "said"),
    [
        ({"models": ["a", "b\x1b"]}, [], "Say with --model who is asked: a, b\\x1b."),
        ({"models": []}, [], "There is no model to ask."),
        ({"says": lambda _: {"error": {"message": "No model '\x1b'."}}, "status": 404}, [], "No model '\\x1b'."),
        ({"says": lambda _: {}}, [], "is no askonce, or another version"),
        ({"says": lambda reply: reply | {"records": [5]}}, [], "The reply is not one of this version"),
        ({"says": failing}, [], "Nobody answered"),
        ({}, ["--url", "http://127.0.0.1:9"], "No askonce answers at http://127.0.0.1:9"),
        ({}, ["--api-key", "ü"], "no header can carry"),
    ],
)
def test_nobody_who_could_be_asked_is_a_status_of_its_own(
    saved: Callable[..., Path], server: Server, prepare: dict[str, Any], words: list[str], said: str
) -> None:
    """With a sentence that says why."""
    saved()
    for name, value in prepare.items():
        setattr(server, name, value)
    done = run("test", "drugs", "--url", server.url, *words)
    assert (done.exit_code, said in done.stderr) == (2, True), done.output


def test_a_recipe_is_checked_before_anybody_is_asked(saved: Callable[..., Path], server: Server) -> None:
    """What is wrong is the status 1; what can be misunderstood is said; without examples there is nothing to ask."""
    saved(WRONG)
    assert run("test", "drugs", "--url", server.url).exit_code == 1
    saved('description = "d"\n[classes.drug]\n')
    assert run("test", "drugs", "--url", server.url).exit_code == 2
    turned = 'records = [{ class = "a", text = "y" }, { class = "a", text = "x" }]'
    saved(f'description = "d"\n[classes.a]\n[classes.b]\n[[examples]]\ntext = "x y"\n{turned}\n')
    done = run("test", "drugs", "--offline")
    assert done.exit_code == 0
    assert done.output.splitlines()[1:] == [
        "! Example 1: 'x' stands before the record that is named before it.",
        "! No example has a record of the class 'b'.",
    ]
    assert server.asked == []


def test_records_of_an_example_have_places() -> None:
    """In order: what is named twice is at its second place, what overlaps where it begins, and none is lost."""

    def places(text: str, *words: str) -> list[Any]:
        records = [{"class": "a", "text": one, "attributes": {}} for one in words]
        made = from_data({"description": "d", "examples": [{"text": text, "records": records}]})
        return [one.place for one in trial.wanted(made.examples[0])]

    assert places("ab ab ab", "ab", "ab") == [(0, 2), (3, 5)]
    assert places("ab 5 mg", "ab 5 mg", "5 mg", "mg") == [(0, 7), (3, 7), (5, 7)]
    assert places("x y x", "y", "x") == [(2, 3), (4, 5)]
    assert places("x y", "y", "x") == [(2, 3), (0, 1)]
    assert places("x", "x", "x") == [(0, 1), (0, 1)]
    assert list(trial.wanted(Example("x"))) == []
