"""What Redis does in one step, one file each."""

from functools import cache
from importlib import resources

from storage.exchange import Command


@cache
def _text(name: str) -> str:
    return (resources.files(__name__) / f"{name}.lua").read_text("utf-8")


def script(name: str, keys: tuple[bytes, ...], *values: bytes | int) -> Command:
    """The command that runs `<name>.lua` on `keys` with `values`."""
    return ("EVAL", _text(name), len(keys), *keys, *values)
