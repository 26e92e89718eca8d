"""docs/extraction.md and its notebook: what they tell readers to send and to write is what askonce takes."""

import ast
import json
import re
from pathlib import Path
from typing import Any

from extractors.book import Book
from extractors.recipe import from_data, from_toml

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "extraction.md").read_text("utf-8")
NOTEBOOK: dict[str, Any] = json.loads((DOCS / "extraction.ipynb").read_text("utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def blocks(language: str) -> list[str]:
    """The page's blocks in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_recipes_of_the_page_are_recipes() -> None:
    """The one in a request, the one in a file, and the one that is named."""
    (sent,) = (json.loads(body) for body in re.findall(r"-d '(\{.*?\n\})'", PAGE, re.DOTALL))
    assert [*from_data(sent["recipe"]).classes] == ["medication", "condition"]
    (file,) = blocks("toml")
    assert len(from_toml(file, "drugs").examples) == 2
    for name in re.findall(r'"recipe": "([^"]+)"', PAGE):
        assert Book(None).get(name)


def test_python_is_python() -> None:
    """On the page and in the notebook."""
    assert len(blocks("python")) > 4
    for code in (*blocks("python"), *CODE):
        ast.parse(code)


def test_the_notebook_is_one() -> None:
    """Of version 4.5, with cells that can be told apart, and nothing of the machine that it was written on."""
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in NOTEBOOK["cells"]:
        assert cell["cell_type"] in {"markdown", "code"}
        assert cell["metadata"] == {}
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def test_the_notebook_asks_what_the_page_asks() -> None:
    """The same recipe, by every way that the page knows."""
    made: dict[str, Any] = {}
    exec(CODE[1], made)
    assert from_data(made["recipe"]).edition == from_data(json.loads(_request())["recipe"]).edition
    for way in ("/extractions", '"extract":', "lx.extract(", "background=True", "/view", "/jsonl"):
        assert any(way in code for code in CODE), way


def _request() -> str:
    return re.findall(r"-d '(\{.*?\n\})'", PAGE, re.DOTALL)[0]
