"""Scripts: one that cannot be used is named, before a request finds out."""

from pathlib import Path

import pytest

from gateway.backends import scripted
from gateway.config import ConfigError


def test_a_script_is_read(tmp_path: Path) -> None:
    """Without one, the default answers."""
    path = tmp_path / "s.toml"
    path.write_text('version = "2"\n[[line]]\nreply = "a"\n')
    assert scripted.read(path).version == "2"
    assert scripted.read(None) == scripted.Script()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"[[line]", "cannot be used"),
        (b"[[line]]\nreplay = 1", "replay"),
        (b'[[line]]\nwhen = "("', "cannot be used"),
        (b"\xff", "cannot be used"),
    ],
)
def test_a_script_that_cannot_be_used_is_named(tmp_path: Path, text: bytes | None, words: str) -> None:
    """In one sentence with the setting and the file."""
    path = tmp_path / "s.toml"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(ConfigError, match=r"The `script` .*s\.toml") as caught:
        scripted.read(path)
    assert words in str(caught.value)
