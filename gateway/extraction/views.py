"""Saved recipes -> a typed view of the records of each, there as soon as the recipe is used."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import cachetools

from extractors.recipe import Recipe
from storage.errors import StorageError

_LOG = logging.getLogger("askonce")
_LONGEST_S: Final = 5.0
_MOST: Final = 1000
_AGAIN_S: Final = 60.0
"""How long nobody tries again to make views that could not be made."""


class Views:
    """Has them made. Each is made once by a process, and again when its recipe has changed."""

    def __init__(self, make: Callable[[str, Mapping[str, dict[str, Any]]], Awaitable[None]]) -> None:
        """`make` makes the views of the recipe with a name and classes, unless they are there."""
        self._make = make
        self._made: dict[str, str] = {}
        self._failed: cachetools.TTLCache[str, None] = cachetools.TTLCache(_MOST, _AGAIN_S)

    async def ensure(self, recipe: Recipe) -> None:
        """Have the views of `recipe` be there. That they cannot be made now is no reason to extract nothing."""
        if self._made.get(recipe.name) == recipe.digest or recipe.digest in self._failed:
            return
        try:
            async with asyncio.timeout(_LONGEST_S):
                await self._make(recipe.name, recipe.classes)
        except (StorageError, TimeoutError) as error:
            _LOG.warning("The views of the recipe '%s' are not as they should be (%s)", recipe.name, error)
            self._failed[recipe.digest] = None
            return
        self._made[recipe.name] = recipe.digest
