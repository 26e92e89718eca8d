"""Measurements in, figures out: as JSON, with what is needed to get them again."""

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One measured value, and what printed it."""

    name: str
    value: float
    unit: str
    command: str
    machine: str
    date: str
    note: str = ""
    """How to read it: what was asked, of whom."""
    bar: float | None = None
    """The most it may be, or the least with `at_least`."""
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it keeps its bar; true where it has none."""
        if self.bar is None:
            return True
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    @property
    def told(self) -> str:
        """It and its bar, which it must have, in a few words."""
        limit = "at least" if self.at_least else "at most"
        return f"{self.name} {self.value:g} {self.unit} ({limit} {self.bar:g}){'' if self.met else ' MISSED'}"


class Maker(msgspec.Struct, frozen=True):
    """What all figures of one run share."""

    command: str
    machine: str
    date: str

    def figure(
        self, name: str, value: float, unit: str, *, note: str = "", bar: float | None = None, at_least: bool = False
    ) -> Figure:
        """One figure of this run."""
        return Figure(name, _rounded(value), unit, self.command, self.machine, self.date, note, bar, at_least)


def maker(command: str) -> Maker:
    """For a run of `command`, now and here."""
    return Maker(command, machine(), datetime.now(UTC).isoformat(timespec="seconds"))


def machine() -> str:
    """This machine in one line: processor, cores, memory, system and Python."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return (
        f"{_processor()}, {cores} cores, {memory_bytes / 2**30:.0f} GiB, {system}, Python {platform.python_version()}"
    )


def write(figures: Sequence[Figure], path: Path) -> None:
    """Write `figures` to `path`, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(msgspec.json.encode(figure).decode() for figure in figures)
    path.write_text(f"[\n{lines}\n]\n", "utf-8")


def read(path: Path) -> list[Figure]:
    """The figures in `path`. Raises `msgspec.ValidationError` for anything else."""
    return msgspec.json.decode(path.read_bytes(), type=list[Figure])


def verdict(figures: Iterable[Figure]) -> str:
    """The bars in one line: which are met and which are missed, each with its figure."""
    barred = [figure for figure in figures if figure.bar is not None]
    missed = [figure for figure in barred if not figure.met]
    said = "; ".join(figure.told for figure in barred)
    return f"bars met: {len(barred) - len(missed)} of {len(barred)}. {said}"


def _rounded(value: float) -> float:
    """Four significant digits: more would only look exact."""
    return float(f"{value:.4g}")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
