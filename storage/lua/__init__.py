"""What Redis does with entries in one step, one file each."""

from functools import cache
from importlib import resources


@cache
def text(name: str) -> str:
    """The text of `storage/lua/<name>.lua`."""
    return (resources.files(__name__) / f"{name}.lua").read_text("utf-8")
