"""What is made for recipes -> what it is called in Postgres."""

import hashlib
from importlib import resources
from pathlib import Path
from typing import Final

from storage.rows import storable

_LONGEST: Final = 63
"""Bytes of a name in Postgres."""


def view_name(recipe: str, label: str) -> str:
    """The view in the schema `api` of a recipe's records of one class. Others may come to the same name."""
    return fitting(f"{recipe}_{label}".replace("-", "_"))


def own_views() -> frozenset[str]:
    """The views in the schema `api` that are there without any recipe."""
    files = (resources.files("migrations") / "views").iterdir()
    return frozenset(Path(file.name).stem for file in files if file.name.endswith(".sql"))


def fitting(wanted: str) -> str:
    """What Postgres takes as a name: one that is too long ends with a digest of the whole, so that it stays apart."""
    data = (storable(wanted) or "_").encode()
    if len(data) <= _LONGEST:
        return data.decode()
    ending = "_" + hashlib.sha256(data).hexdigest()[:8]
    return data[: _LONGEST - len(ending)].decode(errors="ignore") + ending
