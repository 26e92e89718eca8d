"""A recipe and a part of a text in; what a model is told of it out, to the byte as LangExtract lays it out."""

import json
from collections.abc import Sequence
from typing import Any

from extractors import shapes
from extractors.reading import FRAME, SUFFIX
from extractors.recipe import Recipe, Record


def prompt(recipe: Recipe, question: str) -> str:
    """What is asked about `question`, a part of a text."""
    lines = [f"{task(recipe)}\n"]
    if recipe.examples:
        lines.append("Examples")
        lines += [f"Q: {example.text.strip()}\nA: {answer(example.records)}\n" for example in recipe.examples]
    return "\n".join((*lines, f"Q: {question}", "A: "))


def task(recipe: Recipe) -> str:
    """What stands before the examples: the description, and the form of the answer."""
    form = _compact(shapes.brief(recipe.classes))
    return f"{recipe.description.strip()}\n\nAnswer with JSON that matches this schema: {form}"


def answer(records: Sequence[Record]) -> str:
    """What a model should say that found these."""
    return _compact({FRAME: [{one.name: one.text, one.name + SUFFIX: one.attributes} for one in records]})


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
