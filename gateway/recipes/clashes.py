"""Saved recipes -> which of their views would have the same name, so that there is only one of them."""

from collections.abc import Mapping, Sequence

from extractors.recipe import Recipe
from storage.view_names import own_views, view_name


def clashes(recipes: Mapping[str, Recipe]) -> dict[str, list[str]]:
    """What is to be said of each recipe that has such a view: a sentence for each, which says how to mend it."""
    owners: dict[str, list[tuple[str, str]]] = {}
    for name, recipe in recipes.items():
        for label in recipe.classes:
            owners.setdefault(view_name(name, label), []).append((name, label))
    own = own_views()
    told: dict[str, list[str]] = {}
    for view, whose in owners.items():
        if len(whose) > 1 or view in own:
            for name in dict.fromkeys(name for name, _ in whose):
                told.setdefault(name, []).append(_sentence(view, whose, is_own=view in own))
    return told


def _sentence(view: str, whose: Sequence[tuple[str, str]], *, is_own: bool) -> str:
    classes = " and ".join(f"'{label}' of the recipe '{name}'" for name, label in whose)
    if is_own:
        return f"api.{view} is there already, so there is no view of {classes}: rename the recipe or the class."
    return (
        f"api.{view} would be the view of {classes}, and is only that of the one that is used first: rename a recipe or"
        " a class."
    )
