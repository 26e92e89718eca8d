"""The bundled model's card: what it says of the figures is what was measured."""

import pytest

from gateway.bench import figures
from gateway.bench.figures import Figure, Maker
from gateway.models.training.evaluate import Result
from tests.bench import model_figures

MADE = Maker("make model-figures", "a machine", "2026-11-22T00:00:00+00:00")


def made(*, extraction: int, chat: int, same: int) -> list[Figure]:
    """Return figures of 100 prompts a suite; llama.cpp gets all extractions right."""
    results = [Result("extraction", 100, (100, extraction), same), Result("chat", 100, (chat, chat), 100)]
    return model_figures.figured([*results, Result("copying", 50, (20, 10), 0)], MADE)


def test_card_and_figures_agree() -> None:
    """Writing the published figures into the card again changes nothing: nobody has edited either alone."""
    card = model_figures.CARD.read_text("utf-8")
    assert model_figures.carded(card, figures.read(model_figures.FIGURES)) == card


def test_missed_targets_are_named_with_the_distance() -> None:
    """The card says which targets are missed and by how much, and how many pairs differ."""
    said = model_figures.section(made(extraction=90, chat=99, same=93))
    assert (
        "miss 2 of 5 targets:** extraction (100): vLLM by 5 points; agreement (200): same text by 1.5 points." in said
    )
    assert "| extraction (100) | 100 % | 90 % | 95 % |" in said
    assert "| copying (50) | 40 % | 20 % |  |" in said
    assert "different texts for 7 of 200 pairs" in said


def test_met_targets_are_said_to_be_met() -> None:
    """A value at its bar meets it."""
    assert "meet all 5 targets" in model_figures.section(made(extraction=95, chat=99, same=96))


def test_only_the_section_between_the_markers_changes() -> None:
    """The rest of the card stays as it is."""
    card = f"before\n{model_figures.BEGIN}\nold\n{model_figures.END}\nafter\n"
    written = model_figures.carded(card, made(extraction=95, chat=99, same=100))
    assert written.startswith(f"before\n{model_figures.BEGIN}\n")
    assert written.endswith(f"{model_figures.END}\nafter\n")
    assert "old" not in written


@pytest.mark.parametrize("card", ["", model_figures.BEGIN, model_figures.END + model_figures.BEGIN])
def test_a_card_without_markers_is_refused(card: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="lacks"):
        model_figures.carded(card, made(extraction=95, chat=99, same=100))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], "make model-figures"), (["--count", "5"], "make model-figures ARGS='--count 5'")],
)
def test_the_command_is_one_that_anyone_can_run(arguments: list[str], expected: str) -> None:
    """It is the make target, with what it was given."""
    assert model_figures.command(arguments) == expected
