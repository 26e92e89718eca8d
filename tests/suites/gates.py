"""Where the statements of a test's gate run."""

from storage.tenant_sql.gate import Where


def at(url: str) -> Where:
    """Always there."""

    async def where() -> str:
        return url

    return where
