"""What views of recipes are called, and which names are taken."""

import re
from pathlib import Path

from storage.view_names import fitting, own_views, view_name

VIEWS = Path(__file__).parent.parent.parent.parent / "migrations" / "views"


def test_views_that_are_there_without_recipes_are_known() -> None:
    """Each is in a file that is called as it is."""
    made = {name for file in VIEWS.glob("*.sql") for name in re.findall(r"(?i)view api\.(\w+)", file.read_text())}
    assert own_views() == made


def test_a_view_is_called_as_its_recipe_and_class() -> None:
    """Of names that are too long none is another's."""
    assert view_name("clinic-notes", "side-effect") == "clinic_notes_side_effect"
    long = [view_name("a" * 40, "b" * 39 + last) for last in "cd"]
    assert len(set(long)) == 2
    assert [len(fitting("漢" * 30).encode()) <= 63, *(len(name) for name in long)] == [True, 63, 63]
