"""What a model is told, to the byte as LangExtract renders it."""

import pytest
from langextract import prompting
from langextract.core import data, format_handler

from extractors.prompting import answer, prompt, task
from extractors.reading import read
from extractors.recipe import Recipe, from_data, shipped


@pytest.mark.parametrize("recipe", [*shipped().values(), from_data({"description": "d\n", "classes": {"b": {}}})])
def test_it_is_what_langextract_renders(recipe: Recipe) -> None:
    """With the description and the examples, without white space around them, and the question as it is."""
    examples = [
        data.ExampleData(
            one.text.strip(),
            [data.Extraction(found.name, found.text, attributes=found.attributes) for found in one.records],
        )
        for one in recipe.examples
    ]
    handler = format_handler.FormatHandler(use_fences=False)
    template = prompting.PromptTemplateStructured(task(recipe), examples)
    generator = prompting.QAPromptGenerator(template, format_handler=handler)
    said = prompt(recipe, "Größe: 1,80 m\n")
    theirs = generator.render("Größe: 1,80 m\n")
    for one, example in zip(recipe.examples, examples, strict=True):
        theirs = theirs.replace(handler.format_extraction_example(example.extractions), answer(one.records))
    assert said == theirs


@pytest.mark.parametrize("recipe", shipped().values(), ids=shipped())
def test_the_answers_of_examples_can_be_read(recipe: Recipe) -> None:
    """As what they were made of."""
    for example in recipe.examples:
        reading = read(answer(example.records), "stop")
        assert (reading.status, reading.problems) == ("ok", ())
        assert [(one.name, one.text, one.attributes) for one in reading.said] == [
            (one.name, one.text, one.attributes) for one in example.records
        ]
