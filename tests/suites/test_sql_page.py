"""The examples in SQL of the documentation are statements that a tenant can run."""

import re
from pathlib import Path

import pytest

from storage import postgres
from storage.tenant_sql import preparing
from storage.tenant_sql.gate import Gate
from storage.tenant_sql.selftest import attacks
from storage.tenant_sql.statements import Limits
from tests.suites.gates import at

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "sql.md").read_text("utf-8")
PAGES = [page.read_text("utf-8") for page in sorted(DOCS.rglob("*.md"))]
EXAMPLES = [text for page in PAGES for text in re.findall(r"```sql\n(.*?)```", page, re.DOTALL)]
IN_JSON = re.findall(r'"sql": "(.*?)", "params": \["(.*?)"\]', PAGE)


async def test_every_example_runs(database_url: str) -> None:
    """With its parameters."""
    assert await preparing.prepare(database_url) == ""
    pool = await postgres.connect(database_url, 2)
    gate = Gate(pool, at(database_url), Limits())
    assert len(EXAMPLES) >= 8
    for text in EXAMPLES:
        assert (await gate.run("default", text)).columns
    for text, param in IN_JSON:
        assert [one.name for one in (await gate.run("default", text, [param])).columns] == ["model", "count"]
    await gate.aclose()
    pool.terminate()


@pytest.mark.parametrize("code", ["sql_syntax", "sql_params", "sql_failed", "sql_timeout", "sql_busy"])
def test_every_code_is_on_the_page(code: str) -> None:
    """And the number of attacks is not less than the page says."""
    assert f"`{code}`" in PAGE
    assert len(attacks()) > 500
