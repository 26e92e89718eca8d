"""Errors in a settings file name the line they are about."""

from pathlib import Path

import pytest

from gateway import config
from gateway.config import ConfigError

VLLM = '[[backends]]\nkind = "vllm"\nmodel = "m"\nurl = "http://x"\n'
CASES = [
    ("port = 1\n\n" + VLLM + "\n" + VLLM.replace("//x", "//y") + "weight = -1\n", 12, "weight"),
    ('port = "x"\n', 1, "port"),
    ("\n# a comment\nfoo = 1\n", 3, "foo"),
    (VLLM.replace("http://x", "nowhere"), 4, "url"),
    ('[[backends]]\nkind = "vllm"\nmodel = "m"\n', 1, "url"),
    (VLLM + "bar = 1\n", 5, "bar"),
    (VLLM + VLLM, 5, "serve 'm'"),
    ('\n[[models]]\nname = "x"\n\n' + VLLM, 2, "names 'x'"),
    (VLLM + '[[models]]\nname = "m"\nfallback = ["zz"]\n', 5, "names 'zz'"),
    ('\n[[backends]]\nurl = "http://x"\n', 2, "kind"),
    ('backends = [{kind = "vllm", model = "m", url = "http://x", weight = 0}]\n', 1, "weight"),
    ("port = \n", 1, "Invalid value"),
    (VLLM + "[[models\n", 5, "]"),
]


@pytest.mark.parametrize(("text", "line", "said"), CASES)
def test_the_line_is_named(text: str, line: int, said: str, tmp_path: Path) -> None:
    """For syntax by the parser, for everything else by where the name stands."""
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"line {line}[:,]") as refused:
        config.load(file, environ={})
    assert said in str(refused.value)
