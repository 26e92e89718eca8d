"""Start-up steps come in, one line each on stderr goes out, and a summary when all is ready."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from gateway.config import local_url
from gateway.supervisor.plan import ServePlan, Services

_COLUMNS = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())


class Progress:
    """Prints to the terminal or the log; times count from its making."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._start_s = time.monotonic()
        self._shown: dict[str, tuple[str, int]] = {}
        self._bars = Bars(SpinnerColumn(), *_COLUMNS, console=self._console, transient=True)
        self._tasks: dict[str, TaskID] = {}

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start_s

    def step(self, name: str, said: str) -> None:
        """One start-up step is done."""
        self.settled(name)
        self._line(name, said)

    def _line(self, name: str, said: str) -> None:
        self._print((f"{self.elapsed_s:7.2f} s  ", "dim"), (f"{name:10}", "bold"), said)

    def notice(self, sentence: str) -> None:
        """Something the user should know, now or later while serving."""
        self._print(("askonce: ", "bold yellow"), sentence)

    def moving(self, name: str, said: str, share: float | None = None) -> None:
        """Something goes on: a bar on a terminal; else a line for all that is new, and for each tenth of it."""
        if self._console.is_terminal:
            self._move_bar(name, said, share)
            return
        tenth = -1 if share is None else int(10 * share)
        if self._shown.get(name) != (said, tenth):
            self._shown[name] = (said, tenth)
            self._line(name, said if share is None else f"{10 * tenth} % of {said}")

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

    def _move_bar(self, name: str, said: str, share: float | None) -> None:
        self._bars.start()
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=None)
        total = None if share is None else 1.0
        self._bars.update(self._tasks[name], description=f"{name:10} {said}", total=total, completed=share or 0)

    def settled(self, name: str) -> None:
        """What was moving has come to its end."""
        if (task := self._tasks.pop(name, None)) is not None:
            self._bars.remove_task(task)
            if not self._tasks:
                self._bars.stop()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._bars.stop()

    def _print(self, *parts: str | tuple[str, str]) -> None:
        self._console.print(Text.assemble(*parts))
