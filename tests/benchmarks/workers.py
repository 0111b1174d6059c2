"""How many workers letstune can keep busy, and what its owner can carry.

Run it with ``python tests/benchmarks/workers.py``; ``--quick`` takes a few minutes, ``--tiny`` only
shows that it runs, ``--only`` runs one part. The utilisation is simulated on a virtual clock, so it
is the same on every machine; what the owner can carry is measured, on this machine's disk.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product, repeat
from pathlib import Path
from statistics import mean

import click
import owner
from simulation import Outcome, World, asha, letstune, make_plan
from speedup import speedups

from letstune import Rounds
from letstune.rounds.decisions import default_lag

QUICK, TINY = 10, 1_000
"""How much less is done then, about."""

ROUNDS = Rounds([3, 9, 36], keep=0.25)
KINDS = {
    "v": "ASHA",
    "i": "one cohort, synchronous rounds",
    "ii": "one cohort, certain-advance",
    "iii": "cohorts of 16, ignoring history",
    "iv": "cohorts of 16, learning, lag",
}


def simulate(kind: str, workers: int, world: World, lag: int = 0) -> Outcome:
    """Simulate one kind of run; ``lag`` is for kind iv."""
    if kind == "v":
        return asha(ROUNDS, workers, world)
    cohort = 16 if kind in ("iii", "iv") else None
    plan = make_plan(len(world.times), cohort, lag if kind == "iv" else None, ROUNDS)
    return letstune(plan, workers, world, synchronous=kind == "i")


def trials(scale: int) -> int:
    """Return how many trials are simulated."""
    return 64 if scale >= TINY else 2_048


def simulate_all(workers: int, seed: int, slow: str, n_trials: int) -> dict[str, Outcome]:
    """Simulate all kinds of runs in one world."""
    world = World.make(seed, n_trials, ROUNDS, slow)
    return {kind: simulate(kind, workers, world, default_lag(workers)) for kind in KINDS}


def utilisation(scale: int) -> None:
    """Print how busy workers are, and how long it takes, beside ASHA.

    All begin the same 2,048 trials. ASHA trains some 5% more epochs, of trials that are promoted
    before better ones are known. That is part of its way, so makespans are compared as they are;
    who would rather compare them for the same work compares the busy shares.

    With a worker for each trial, at the end, no order of tasks can make it any faster: what is
    slower than ASHA then is the price of an outcome that does not depend on timing.
    """
    seeds, n_trials = 10 if scale == 1 else 2, trials(scale)
    with ProcessPoolExecutor() as pool:
        for slow, workers in product(("trials", "epochs"), (2, 4, 8, 64, 512, n_trials)):
            if workers == 2:
                print(f"\n{n_trials:,} trials, {seeds} worlds; 2% of {slow} take ten times")
                print(f"{'workers':>7}  {'':38} {'busy':>5} {'makespan':>9} / ASHA  epochs")
            seen = pool.map(
                *(simulate_all, repeat(workers, seeds)),
                *(range(seeds), repeat(slow), repeat(n_trials)),
            )
            show(workers, n_trials, list(seen))


def show(workers: int, n_trials: int, found: Sequence[dict[str, Outcome]]) -> None:
    """Print a row for each kind of run, with its goal."""
    reference = mean(each["v"].makespan for each in found)
    for kind, name in KINDS.items():
        busy, makespan, epochs = (
            mean(column) for column in zip(*(each[kind] for each in found), strict=True)
        )
        goal = ""
        if kind in ("ii", "iii") and workers < n_trials:
            goal = "at most 1.05: " + ("met" if makespan <= 1.05 * reference else "MISSED")
        elif kind == "iv" and workers <= 8:
            goal = "busy at least 0.9: " + ("met" if busy >= 0.9 else "MISSED")
        what = f"{kind:4} {name}{f' {default_lag(workers)}' if kind == 'iv' else ''}"
        print(
            f"{workers:7,}  {what:38} {busy:5.3f} {makespan:9,.0f} {makespan / reference:6.3f} "
            f"{epochs:7,.0f}  {goal}",
            flush=True,
        )


def smallest_lag(workers: int, seeds: int, n_trials: int) -> tuple[int, float, float]:
    """Return the smallest lag that keeps workers busy enough, how busy, and how busy they can be.

    Enough is 0.9 of the time, or, where not even a sampler that ignores history gives that, 0.9
    of what that gives: of many workers, most have nothing to do while the last slow trial is
    trained.
    """
    worlds = [World.make(seed, n_trials, ROUNDS) for seed in range(seeds)]
    most = mean(simulate("iii", workers, world).busy for world in worlds)
    enough = 0.9 if most >= 0.9 else 0.9 * most

    @cache
    def busy(lag: int) -> float:
        return mean(simulate("iv", workers, world, lag).busy for world in worlds)

    low, high = -1, 1  # too little, and enough
    while busy(high) < enough:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if busy(middle) >= enough else (middle, high)
    return high, busy(high), most


def lags(scale: int) -> None:
    """Print the smallest lags that keep workers busy, and letstune's default."""
    counts = (2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 64) if scale == 1 else (2, 3, 4, 6, 8)
    seeds = 16 if scale == 1 else 2
    print(f"\nCohorts of 16, a sampler that learns, {seeds} worlds; 2% of trials take ten times")
    print(f"{'workers':>7} {'smallest lag':>12} {'busy':>6} {'at most':>8} {'default_lag':>11}")
    with ProcessPoolExecutor() as pool:
        for workers, (lag, busy, most) in zip(
            *(counts, pool.map(smallest_lag, counts, repeat(seeds), repeat(trials(scale)))),
            strict=True,
        ):
            print(
                f"{workers:7} {lag:12} {busy:6.3f} {most:8.3f} {default_lag(workers):11}",
                flush=True,
            )


def measured(*what: object) -> dict[str, float]:
    """Measure the owner in a process of its own, on the disk of the current directory."""
    with tempfile.TemporaryDirectory(prefix="letstune-workers-", dir=".") as folder:
        command = [sys.executable, __file__, "--measure", json.dumps([folder, *what])]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def owners(scale: int) -> None:
    """Print how many epochs a second the owner records, beside what SQLite can on this disk.

    A worker waits until its epoch is recorded, and then has the next one done at once: so there
    are as many epochs in a transaction as there are workers. Of few workers, the disk's syncs are
    the limit, for letstune as for bare sqlite3; ten of them would have to train more than 500
    epochs a second each to come near it. Memory grows with trials, by 600 bytes each, so the last
    run has few, long ones.
    """
    print(
        f"\n{'':7} {'':18} {'epochs per s':>21}  {'CPU µs per epoch':>16}  {'MB':>11}\n"
        f"{'workers':7} {'trials':>7} {'epochs':>10} {'letstune':>8} "
        f"{'bare sqlite3':>12}   1st, last tenth   1st, last"
    )
    short, long = list(ROUNDS.lengths), [30, 90, 360]
    for workers, epochs, lengths in (
        (10, 200_000, short),
        (100, 200_000, short),
        (1_000, 200_000, short),
        (1_000, 1_000_000, short),
        (100, 1_000_000, long),
    ):
        limit = measured("bare", workers, max(5, 100_000 // workers // scale) * workers)
        read = measured("measure", workers, epochs // scale, lengths)
        goal = "met" if read["per s"] >= 5_000 else "MISSED"
        print(
            f"{workers:7,} {read['trials']:7,} {read['epochs']:10,} "
            f"{read['per s']:8,.0f} {limit['per s']:12,.0f}  {read['first']:8.1f} "
            f"{read['last']:7.1f}  {read['MB first']:5.0f} {read['MB last']:5.0f}"
            f"  at least 5,000: {goal}",
            flush=True,
        )


PARTS = {"speedup": speedups, "utilisation": utilisation, "lag": lags, "owner": owners}


@click.command(help=__doc__)
@click.option("--quick", "scale", flag_value=QUICK, help="Less of everything.", type=int)
@click.option("--tiny", "scale", flag_value=TINY, help="Next to nothing.", type=int)
@click.option("--only", type=click.Choice(list(PARTS)), help="One part.")
@click.option("--measure", hidden=True)
def main(scale: int | None, only: str | None, measure: str | None) -> None:
    """Run all parts, or one."""
    if measure:
        folder, what, *rest = json.loads(measure)
        function = {"bare": owner.bare, "measure": owner.measure}[what]
        print(json.dumps(function(Path(folder), *rest)))
        return
    for name, part in PARTS.items():
        if only in (None, name):
            part(scale or 1)


if __name__ == "__main__":
    main()
