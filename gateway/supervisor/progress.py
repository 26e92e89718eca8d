"""Start-up steps come in, one line each on stderr goes out, and a summary when all is ready."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from gateway.config import local_url
from gateway.supervisor.plan import ServePlan, Services


class Progress:
    """Prints to the terminal or the log; times count from its making."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._start_s = time.monotonic()
        self._last_tenth = -1

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start_s

    def step(self, name: str, said: str) -> None:
        """One start-up step is done."""
        self._print((f"{self.elapsed_s:7.2f} s  ", "dim"), (f"{name:10}", "bold"), said)

    def notice(self, sentence: str) -> None:
        """Something the user should know, now or later while serving."""
        self._print(("askonce: ", "bold yellow"), sentence)

    def downloading(self, done_bytes: int, total_bytes: int) -> None:
        """A line for every tenth of a download or a conversion."""
        tenth = 10 * done_bytes // max(1, total_bytes)
        if tenth > self._last_tenth:
            self._last_tenth = tenth
            self.step("model", f"{10 * tenth} % of {total_bytes / 2**20:.0f} MiB")

    def summary(self, plan: ServePlan, services: Services, *, port: int, folder: Path) -> None:
        """Where everything is, once it is ready."""
        url = local_url(plan.config.host, port)
        lines = {
            "API": f"{url}/v1",
            "Models": ", ".join(dict.fromkeys(one.served_name for one in services.wired(plan.config).backends))
            or "none",
            # Configured addresses may hold passwords; the embedded ones have none.
            "Postgres": "as configured" if plan.config.database_url else services.database_url,
            "Redis": "as configured" if plan.config.redis_url else services.redis_url,
            "Data": f"{folder} (logs in {folder / 'logs'})",
        }
        self._print((f"askonce is ready after {self.elapsed_s:.2f} s: {url}", "bold green"))
        for name, value in lines.items():
            self._print((f"  {name:10}", "bold"), value)

    def _print(self, *parts: str | tuple[str, str]) -> None:
        self._console.print(Text.assemble(*parts))
