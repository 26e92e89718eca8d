"""A recipe in, the prompt around each chunk out: to the byte what LangExtract's own prompt generator renders.

Only a process that aligns imports this: LangExtract takes a second to import, and a hundred megabytes.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from langextract.core import data
from langextract.core.format_handler import FormatHandler
from langextract.prompting import ContextAwarePromptBuilder, PromptTemplateStructured, QAPromptGenerator

from extractors import answers
from extractors.passages import Frame
from extractors.recipe import Example, Recipe

_HERE: Final = "\x00"
"""Stands for a chunk: no text that is rendered has it, for recipes with it are refused by JSON and TOML."""
_BEFORE: Final = "\x01"
"""Stands for what comes before a chunk."""


class CompactFormat(FormatHandler):
    """LangExtract's JSON in one line. Some models fill an answer with white space once they have been shown any."""

    def __init__(self) -> None:
        super().__init__(use_fences=False)

    def format_extraction_example(self, extractions: list[data.Extraction]) -> str:
        """What an example's answer looks like in the prompt."""
        return json.dumps(json.loads(super().format_extraction_example(extractions)), **_COMPACT)


_COMPACT: Final[dict[str, Any]] = {"ensure_ascii": False, "separators": (",", ":")}


def description(recipe: Recipe) -> str:
    """What the model is told: in words, and as a JSON Schema."""
    schema = json.dumps(answers.brief(recipe.classes), **_COMPACT)
    return f"{recipe.description.strip()}\n\nAnswer with JSON that matches this schema: {schema}"


def examples(recipe: Recipe) -> list[data.ExampleData]:
    """The recipe's examples as LangExtract has them."""
    return [_example(example) for example in recipe.examples]


def frame(recipe: Recipe) -> Frame:
    """What stands around each chunk."""
    generator = QAPromptGenerator(
        template=PromptTemplateStructured(description(recipe), examples(recipe)), format_handler=CompactFormat()
    )
    builder = ContextAwarePromptBuilder(generator, context_window_chars=len(_BEFORE))
    builder.build_prompt(_BEFORE, "document")  # a second chunk of a document has one before it
    context, _, _ = builder.build_prompt(_HERE, "document").partition(_HERE)
    before, _, after = generator.render(_HERE).partition(_HERE)
    shown, _, rest = context.partition(_BEFORE)
    return Frame(before, after, (shown, rest))


def _example(example: Example) -> data.ExampleData:
    records: Sequence[data.Extraction] = [
        data.Extraction(extraction_class=one.name, extraction_text=one.text, attributes=dict(one.attributes))
        for one in example.records
    ]
    return data.ExampleData(text=example.text.strip(), extractions=list(records))
