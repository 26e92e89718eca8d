"""What a model is told is to the byte what LangExtract would tell it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langextract.prompting import ContextAwarePromptBuilder, PromptTemplateStructured, QAPromptGenerator

from extractors.framing import CompactFormat, description, examples, frame
from extractors.recipe import from_data, shipped

RECIPES = [*shipped().values(), from_data({"description": "Find names.", "classes": {"name": {}}})]
CHUNKS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def generator(recipe):
    """LangExtract's own, of the same recipe."""
    return QAPromptGenerator(PromptTemplateStructured(description(recipe), examples(recipe)), CompactFormat())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@given(chunk=CHUNKS)
def test_a_chunk_stands_where_langextract_puts_it(recipe, chunk):
    assert frame(recipe).prompt(chunk) == generator(recipe).render(chunk)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@given(chunk=CHUNKS, before=CHUNKS)
def test_the_text_before_it_stands_where_langextract_puts_it(recipe, chunk, before):
    builder = ContextAwarePromptBuilder(generator(recipe), context_window_chars=len(before))
    builder.build_prompt(before, "a")
    assert frame(recipe).prompt(chunk, before) == builder.build_prompt(chunk, "a")


def test_examples_are_shown_in_one_line():
    told = frame(shipped()["clinic-notes"]).prompt("Nothing.")
    assert '{"extractions":[{"condition":"Hypertension","condition_attributes":{' in told


def test_the_schema_is_told_too():
    told = frame(shipped()["clinic-notes"]).prompt("Nothing.")
    assert "Answer with JSON that matches this schema: {" in told
    assert "how it is taken" in told.lower()
