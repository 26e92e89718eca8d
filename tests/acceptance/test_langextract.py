"""LangExtract itself, pointed at askonce: its own calls are answered, and a second run asks nobody."""

from typing import Any

import langextract as lx
import pytest
from langextract.providers.openai import OpenAILanguageModel

from extractors import framing
from extractors.recipe import from_data
from tests.acceptance.extracting import NOTE, RECIPE, Asked, Make, answer_to
from tests.acceptance.in_thread import MODEL

pytestmark = pytest.mark.usefixtures("langextract_client")
SAID = from_data(RECIPE)


@pytest.fixture
def ask(gateway: Make) -> Asked:
    """A gateway of this test's own, and its model."""
    asked = Asked(gateway())
    asked.model.say = lambda request: answer_to(_question(request))
    return asked


def _question(request: Any) -> str:
    return request.prompt["messages"][-1]["content"].rpartition("\nQ: ")[2].removesuffix("\nA: ")


def extracted(ask: Asked) -> list[tuple[str, int]]:
    """What LangExtract finds, as its documentation has it ask."""
    model = OpenAILanguageModel(model_id=MODEL, base_url=f"{ask.gateway.url}/v1", api_key="unused", temperature=0)
    found = lx.extract(
        NOTE,
        prompt_description=SAID.description,
        examples=framing.examples(SAID),
        model=model,
        max_char_buffer=100,
        use_schema_constraints=False,
        fence_output=False,
        show_progress=False,
    )
    return [(one.extraction_text, one.char_interval.start_pos) for one in found.extractions]


def test_a_second_run_of_langextract_asks_nobody(ask: Asked) -> None:
    """Every chunk's prompt is a completion like any other."""
    first = extracted(ask)
    asked = len(ask.model.asked)
    assert [text for text, _ in first] == ["Zanprol", "Glyprol", "Glyprol"]
    assert asked >= 2
    assert extracted(ask) == first
    assert len(ask.model.asked) == asked
