"""How what is asked for differs from what is recorded, where it must not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from letstune.errors import PlanChangedError
from letstune.rounds.plan import Plan
from letstune.runs.backend import Backend
from letstune.runs.pickles import told_of_data
from letstune.runs.request import Request
from letstune.space.tree import Space

_FIXED: Final = (
    *("metric", "simple", "sampler", "store", "dataset", "keep_checkpoints", "seed", "lag"),
)
"""The facts of a plan that never change, in the order in which an error lists them."""


def differences(
    asked: Request, recorded: Plan, plan: Plan, met: Mapping[str, Backend]
) -> Iterator[str]:
    """Yield how a plan differs from the recorded one, other than by growing, a line each."""
    # Only by name: a script's trainer is in __main__, or in the file on the command line.
    if recorded.trainer.split(":")[1] != plan.trainer.split(":")[1]:
        yield f"trainer: was {recorded.trainer}, is {plan.trainer}"
    was = {
        kind: Backend.recorded(kind, fact, asked.journal)
        for kind in met
        if (fact := getattr(recorded, kind)) is not None
    }
    for kind in () if asked.accept_changes else was:
        yield from met[kind].another_supplier(was[kind])
    for name in _FIXED:
        if name in was:
            yield from met[name].differs(was[name])
        elif (before := _text(recorded, name)) != (after := _text(plan, name)):
            yield f"{name}: was {before}, is {after}"
    if plan.n_trials < recorded.n_trials:
        yield f"n_trials: was {recorded.n_trials}, is {plan.n_trials}; it can only grow"
    if plan.rounds != recorded.rounds and not recorded.rounds.grows_to(plan.rounds):
        yield (
            f"rounds: was {_text(recorded, 'rounds')}, is {_text(plan, 'rounds')}; "
            "only the last round can grow, or rounds be added"
        )
    if recorded.space != plan.space:
        space = Space.from_json(recorded.space).diff(Space.from_json(plan.space))
        yield from (f"search space, {line}" for line in space)


def _text(plan: Plan, name: str) -> str:
    """Return a fact of a plan as text, in which NaN equals NaN."""
    fact = getattr(plan, name)
    if name == "rounds":
        fact = plan.rounds.to_dict()
    if name == "dataset":  # whether it was kept is not what it is
        fact = {"type": fact["type"], "value": told_of_data(fact["value"])}
    return fact if isinstance(fact, str) else json.dumps(fact, sort_keys=True)


def plan_changed(path: Path, lines: Sequence[str], *, begun: bool) -> PlanChangedError:
    """Return the error that lists how a plan differs from the recorded one."""
    listed = "\n".join(f"  {line}" for line in lines)
    return PlanChangedError(
        f"{path} was started with another plan, and nothing was changed:\n{listed}\n"
        + (
            "Resume it with the plan that it has, or give another journal."
            if begun
            else "No epoch is recorded in it yet: delete it to begin anew."
        )
    )
