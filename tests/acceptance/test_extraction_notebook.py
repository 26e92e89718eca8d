"""The notebook of the documentation, run from its first cell to its last against a gateway with the bundled model."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.acceptance.serving import Served

pytestmark = pytest.mark.usefixtures("langextract_client")
NOTEBOOK = json.loads((Path(__file__).parents[2] / "docs" / "extraction.ipynb").read_text("utf-8"))
CELLS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


class _Displayed(ModuleType):
    """What a notebook has and a test has not: a place to show pages."""

    def __init__(self, shown: list[Any]) -> None:
        super().__init__("IPython.display")
        self.HTML = str
        self.display = shown.append


def test_every_cell_does_what_it_says(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The records are those of the page; a second time nobody is asked; the page and the file are there."""
    shown: list[Any] = []
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", _Displayed(shown))
    made: dict[str, Any] = {"__name__": "notebook"}
    said: list[str] = []
    for cell in CELLS:
        exec(compile(cell.replace("http://127.0.0.1:8080", served.url), "cell", "exec"), made)
        said.append(capsys.readouterr().out)
    made["client"].close()
    made.clear()
    assert "medication metformin {'dosage': '500 mg', 'frequency': 'twice daily'} metformin\n" in said[2]
    assert "condition asthma {} asthma\n" in said[2]
    assert "'hits': 1" in said[3].splitlines()[0]
    assert "'model': 'gemma-3-askonce'" in said[4]
    assert "metformin" in said[5]
    assert "metformin" in said[6]
    assert "medication metformin" in said[7]
    assert said[8].startswith("completed {")
    assert "<mark" in shown[0]
    assert said[9].startswith('{"extractions":[')


def test_what_a_record_was_read_from_can_be_proved(served: Served) -> None:
    """The model is asked the same again, in the same pass and attempt, and says the same."""
    recipe = {
        "description": "Extract medications with dosage and frequency, and conditions.",
        "examples": [{"text": "Has asthma.", "records": [{"class": "condition", "text": "asthma"}]}],
    }
    body = {
        "model": "gemma-3-askonce",
        "text": "History of gastritis.",
        "recipe": recipe,
        "max_tokens": 200,
        "passes": 2,
    }
    run = httpx.post(f"{served.url}/v1/extractions", json=body, timeout=60).json()
    keys = {call["key"] for chunk in run["chunks"] for call in chunk["calls"]}
    assert len(keys) >= 2
    for key in keys:
        proof = httpx.post(f"{served.url}/v1/cache/{key}/verify", timeout=60).json()
        assert proof["outcome"] == "identical", proof
