"""What a proposal of letstune-optuna costs, beside Optuna used directly.

Run it with ``python tests/benchmarks/samplers.py``; it needs letstune-optuna, cmaes and SciPy, and
for ``--gp`` also torch. ``--quick`` takes a minute.

Both are in one process, with the same settings of the same sampler, the same space, and the same
number of trials behind them; they take turns, proposal by proposal, and medians are printed.
"Optuna" is `Study.ask`, the suggestions and `Study.tell`, with a study in memory. "letstune" is
`Sampler.propose`, as in a run: each time there is one more observation. "cold" is a proposal with
no cache, as the first one after a resume: all of the history is told anew.

It exits with 1 if a ratio is above the goal, 1.2. A ratio that is gets a second chance, since a
machine may be busy with something else for a moment.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from letstune_optuna import CMAES, GP, NSGAII, QMC, TPE

from letstune import Observation, Params, Sampler, rand
from letstune.rounds.seeding import Purpose, generator

SIZES = (100, 1_000, 5_000)
GOAL = 1.2
"""How much of Optuna's time a proposal may take at most."""


class Net(Params):
    """A common kind of space."""

    rate: float = rand.uniform(1e-5, 1, log=True)
    momentum: float = rand.uniform(0, 1)
    layers: int = rand.ints(1, 8)
    width: int = rand.ints(8, 1024, log=True)
    activation: str = rand.oneof(["relu", "tanh", "gelu"])
    bias: bool


def value(rate: float, momentum: float, layers: int, width: int) -> float:
    """Return a metric of such params."""
    return -(
        (math.log10(rate) + 3) ** 2
        + (momentum - 0.9) ** 2
        + 0.1 * abs(layers - 4)
        + abs(math.log2(width) - 7)
    )


def suggest(trial: Any) -> float:
    """Suggest the same space, and return the metric."""
    rate = trial.suggest_float("rate", 1e-5, 1, log=True)
    momentum = trial.suggest_float("momentum", 0, 1)
    layers = trial.suggest_int("layers", 1, 8)
    width = trial.suggest_int("width", 8, 1024, log=True)
    trial.suggest_categorical("activation", (0, 1, 2))
    trial.suggest_categorical("bias", (False, True))
    return value(rate, momentum, layers, width)


@dataclass
class Contest:
    """One sampler, twice."""

    ours: Callable[[], Sampler]
    theirs: Callable[[], optuna.samplers.BaseSampler]
    stateful: bool = False
    sizes: tuple[int, ...] = SIZES


CONTESTS = {
    "tpe": Contest(TPE, lambda: optuna.samplers.TPESampler(multivariate=False, constant_liar=True)),
    "tpe multivariate": Contest(
        lambda: TPE(multivariate=True),
        lambda: optuna.samplers.TPESampler(multivariate=True, constant_liar=True),
    ),
    "tpe group": Contest(
        lambda: TPE(group=True),
        lambda: optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True),
    ),
    "cmaes": Contest(
        CMAES, lambda: optuna.samplers.CmaEsSampler(warn_independent_sampling=False), True
    ),
    "nsgaii": Contest(NSGAII, optuna.samplers.NSGAIISampler, True),
    "qmc": Contest(
        QMC,
        lambda: optuna.samplers.QMCSampler(scramble=True, seed=0, warn_independent_sampling=False),
        True,
    ),
}
GAUSSIAN = {
    "gp": Contest(
        GP, lambda: optuna.samplers.GPSampler(warn_independent_sampling=False), sizes=(100,)
    )
}


def history(n: int) -> list[Observation]:
    """Return a history of random params."""
    rng, space = np.random.default_rng(0), Net.space()
    return [observe(i, space.sample(rng)) for i in range(n)]


def observe(trial: int, params: Any) -> Observation:
    """Return a finished trial of these params."""
    reached = value(params.rate, params.momentum, params.layers, params.width)
    return Observation(trial, params, "trained", (reached,))


def filled(contest: Contest, n: int) -> optuna.Study:
    """Return a study of as many trials; made by the sampler, if that keeps its state there."""
    study = optuna.create_study(direction="maximize", sampler=contest.theirs())
    if contest.stateful:
        for _ in range(n):
            trial = study.ask()
            study.tell(trial, suggest(trial))
        return study
    drawn = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(n):
        trial = drawn.ask()
        drawn.tell(trial, suggest(trial))
    study.add_trials(drawn.trials)
    return study


def measure(contest: Contest, n: int, turns: int) -> dict[str, float]:
    """Return medians of seconds: ours, theirs, the ratio of each turn, and a cold proposal."""
    space, sampler, study = Net.space(), contest.ours(), filled(contest, n)
    seen = history(n)
    times: dict[str, list[float]] = {"ours": [], "theirs": []}

    def ours() -> None:
        params = sampler.propose(
            space,
            seen if sampler.adaptive else [],
            generator(0, Purpose.PROPOSE, len(seen), 0),
            len(seen),
        )
        seen.append(observe(len(seen), params))

    def theirs() -> None:
        trial = study.ask()
        study.tell(trial, suggest(trial))

    ours()  # the cache is warm from here on
    theirs()
    for _ in range(turns):
        order = [("ours", ours), ("theirs", theirs)]
        random.shuffle(order)
        for who, call in order:
            begun = time.perf_counter()
            call()
            times[who].append(time.perf_counter() - begun)
    cold = []
    for _ in range(3):
        sampler = contest.ours()
        begun = time.perf_counter()
        ours()
        cold.append(time.perf_counter() - begun)
    medians = {who: statistics.median(spent) for who, spent in times.items()}
    ratio = statistics.median(a / b for a, b in zip(times["ours"], times["theirs"], strict=True))
    return {**medians, "ratio": ratio, "cold": statistics.median(cold)}


def main() -> int:
    """Measure, and print a table; return 1 if a ratio is above the goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer turns, and up to 1,000 trials")
    parser.add_argument("--gp", action="store_true", help="the Gaussian process, too")
    parser.add_argument("--only", help="one sampler, by its name in the table")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    slow = []
    print(
        f"{'sampler':18}{'trials':>7}{'letstune':>11}{'Optuna':>11}{'ratio':>7}{'per s':>8}"
        f"{'cold':>10}"
    )
    for name, contest in {**CONTESTS, **(GAUSSIAN if options.gp else {})}.items():
        if options.only not in (None, name):
            continue
        for n in contest.sizes:
            if options.quick and n > 1_000:
                continue
            turns = 9 if options.quick or name == "gp" else 41
            read = measure(contest, n, turns)
            if read["ratio"] > GOAL:
                read = min(read, measure(contest, n, turns), key=lambda read: read["ratio"])
            print(
                f"{name:18}{n:7}{read['ours'] * 1e3:8.2f} ms{read['theirs'] * 1e3:8.2f} ms"
                f"{read['ratio']:7.2f}{1 / read['ours']:8.0f}{read['cold'] * 1e3:7.0f} ms",
                flush=True,
            )
            if read["ratio"] > GOAL:
                slow.append(f"{name} after {n} trials: {read['ratio']:.2f}")
    if slow:
        print(f"Above {GOAL} times Optuna's time: {'; '.join(slow)}")
    return bool(slow)


if __name__ == "__main__":
    sys.exit(main())
