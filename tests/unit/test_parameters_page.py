"""docs/parameters.md and the table in gateway/backends/parameters.py say the same.

`python -m tests.unit.test_parameters_page` writes the page's table anew.
"""

from pathlib import Path

from gateway.backends.parameters import PARAMETERS, PARTS, Can, Parameter

PAGE = Path(__file__).parents[2] / "docs" / "parameters.md"
BEGIN, END = "<!-- the table: made from gateway/backends/parameters.py -->\n", "<!-- the end of the table -->\n"
ENGINES = ("vllm", "llamacpp", "ollama", "openai")
HEAD = "| Parameter | vLLM | llama.cpp | Ollama | other |\n|---|---|---|---|---|\n"


def table() -> str:
    """The table as Markdown."""
    return HEAD + "".join(row(name, parameter) for name, parameter in PARAMETERS.items())


def row(name: str, parameter: Parameter) -> str:
    """One line of it."""
    shown = f"parts `{name}`" if name in PARTS else f"`{name}`"
    cells = " | ".join(cell(getattr(parameter, engine)) for engine in ENGINES)
    return f"| {shown} | {cells} |\n"


def cell(can: Can) -> str:
    """What an engine makes of a parameter, in words."""
    if not can.honours:
        return "refused"
    words = [f"as `{can.called}`" if can.called else "", f"at most {can.most}" if can.most else "", can.note]
    return "; ".join(filter(None, words)) or "yes"


def test_the_page_has_the_table() -> None:
    """A parameter that is added or changed fails here until the page is made anew."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    made, _, after = rest.partition(END)
    assert made == table()
    assert before
    assert after


if __name__ == "__main__":
    start, _, old = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(start + BEGIN + table() + END + old.partition(END)[2], "utf-8")
