"""What clients were told, in a table: by what was killed meanwhile."""

from collections import Counter
from collections.abc import Iterable

from tests.kills.askers import Told
from tests.kills.deaths import Death, Deaths
from tests.kills.killers import PLAN


def unexplained(told: Told, deaths: Deaths) -> bool:
    """Whether a client was not answered although neither its gateway nor its model had died."""
    if told.outcome == "whole" or deaths.gateway_died(told.gateway, told.began, told.ended):
        return False
    model_died = deaths.model_died(told.model, told.began, told.ended)
    return not (model_died and told.outcome in {"error event", "status 502", "status 503"})


def summary(told: Iterable[Told], deaths: Deaths) -> str:
    """One line for each kind of victim."""
    told = list(told)
    lines = [f"{len(deaths.all)} kills; {len(told)} other clients: {_counted(told)}"]
    for kind in PLAN:
        of_kind = [death for death in deaths.all if death.kind == kind]
        streams = sum(death.streams for death in of_kind) / max(1, len(of_kind))
        concerned = {id(one): one for death in of_kind for one in told if _concerned(one, death)}
        words = f"{len(of_kind):4} x {kind:8} {streams:5.1f} streams under way; of those it concerned"
        lines.append(f"{words} {len(concerned)}: {_counted(concerned.values())}")
    return "\n".join(lines)


def _concerned(told: Told, death: Death) -> bool:
    """Whether a client was waiting for an answer when somebody died who had to do with it."""
    theirs = (told.gateway, told.model, f"{told.model} {told.number}", "redis", "postgres")
    return death.whom in theirs and told.began <= death.at <= told.ended


def _counted(told: Iterable[Told]) -> str:
    found = Counter(one.outcome for one in told)
    return ", ".join(f"{count} {outcome}" for outcome, count in found.most_common()) or "nobody"
