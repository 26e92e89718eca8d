"""docs/settings.md and gateway/config.py say the same."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config import PREFIX, BackendConfig, Config, ModelConfig

PAGE = (Path(__file__).parents[2] / "docs" / "settings.md").read_text("utf-8")
SETTINGS, BACKEND, MODEL = re.split("## A backend|## A model", PAGE)
UNSET: tuple[Any, ...] = (None, "", (), msgspec.NODEFAULT)


def rows(text: str) -> dict[str, list[str]]:
    """Return the other cells of each table row that begins with a name."""
    found = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split(" | ")] for name, cells in found}


def shown(field: msgspec.structs.FieldInfo) -> str:
    """Return how the page writes a default."""
    return "—" if field.default in UNSET else f"`{field.default}`"


@pytest.mark.parametrize(("shape", "text"), [(Config, SETTINGS), (BackendConfig, BACKEND), (ModelConfig, MODEL)])
def test_every_setting_is_documented_with_its_default(shape: type[msgspec.Struct], text: str) -> None:
    """A new setting fails here until the page has it; so does one that is gone."""
    fields = msgspec.structs.fields(shape)
    assert sorted(rows(text)) == sorted(field.name for field in fields)
    assert {name: cells[-2] for name, cells in rows(text).items()} == {field.name: shown(field) for field in fields}


def test_variables_are_named_after_settings() -> None:
    """The variable of a setting is its name in capitals behind the prefix."""
    assert {name: cells[0] for name, cells in rows(SETTINGS).items()} == {
        name: f"`{PREFIX}{name.upper()}`" for name in Config.__struct_fields__
    }
