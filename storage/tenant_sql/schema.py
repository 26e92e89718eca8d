"""What a tenant may read: the rows of `tenant_sql_schema.sql` -> views with their titles and columns."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final

from storage.recipe_views import MADE
from storage.tenant_sql.saved import title_of


def views(rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """Each view, with its columns as JSON."""
    return [
        {"object": "view", "name": view, "title": _title(view, comment), "columns": columns}
        for view, comment, columns in rows
    ]


def _title(view: str, comment: str) -> str:
    return _titles().get(view) or _MADE.sub(lambda made: made[1][:1].upper() + made[1][1:], comment)


@cache
def _titles() -> dict[str, str]:
    """Of the views that come with askonce."""
    files = (resources.files("migrations") / "views").iterdir()
    return {file.name.removesuffix(".sql"): title_of(file.read_text("utf-8")) for file in files}


_MADE: Final = re.compile(rf"^{re.escape(MADE)}(.*)\. [0-9a-f]{{16}}$")
"""The comment of a recipe's view, which ends with what tells whether it is as it should be."""
