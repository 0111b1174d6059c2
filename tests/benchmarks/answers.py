"""What samplers find: how far from the best known value they are after so many trials.

Run it with ``python tests/benchmarks/answers.py``; ``--seeds 1`` takes a few minutes. Optuna's TPE,
with ``multivariate=True, group=True``, is asked directly, in the same process, where Optuna is
installed; without it, only letstune's own samplers are.

Each trial is trained in one go. For each function, the geometric mean over the seeds is printed of
the distance from the best value that there is, and at last the CPU time that a proposal took.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from letstune import Observation, Params, rand
from letstune.samplers import BayesSampler, RandomSampler, Sampler, SobolSampler
from letstune.samplers.proposer import Proposer
from letstune.space.params import Space

AFTER = (16, 32, 64)


class Bowl(Params):
    """Four kinds of axes, with one best point."""

    x: float = rand.uniform(-1, 1)
    y: float = rand.uniform(1e-3, 1e3, log=True)
    n: int = rand.ints(1, 30)
    k: str = rand.oneof(["a", "b", "c"])

    def value(self) -> float:
        """Return the negated distance from the best value."""
        off = (self.x - 0.3) ** 2 + (math.log10(self.y) - 1) ** 2 + abs(self.n - 7) / 30
        return -off - 0.1 * (self.k != "b")


class Valley(Params):
    """Rosenbrock's function of three axes; "An automatic method for finding the greatest or least
    value of a function", 1960."""

    x: float = rand.uniform(-2, 2)
    y: float = rand.uniform(-2, 2)
    z: float = rand.uniform(-2, 2)

    def value(self) -> float:
        """Return the negated distance from the best value."""
        first = 100 * (self.y - self.x**2) ** 2 + (1 - self.x) ** 2
        return -first - 100 * (self.z - self.y**2) ** 2 - (1 - self.y) ** 2


class Whole(Params):
    """Whole numbers and a category: 9,000 points."""

    depth: int = rand.ints(1, 30)
    leaf: int = rand.ints(1, 100)
    kind: str = rand.oneof(["a", "b", "c"])

    def value(self) -> float:
        """Return the negated distance from the best value."""
        off = abs(self.depth - 7) / 30 + abs(self.leaf - 40) / 100
        return -off - 0.1 * (self.kind != "b")


class Tree(Params):
    """The best branch."""

    depth: int = rand.ints(1, 12)
    rate: float = rand.uniform(1e-3, 1, log=True)


class Line(Params):
    """The worst branch."""

    alpha: float = rand.uniform(1e-5, 10, log=True)
    l1: float = rand.uniform(0, 1)


class Net(Params):
    """A branch that is nearly as good as the best one, on far fewer of its points."""

    lr: float = rand.uniform(1e-5, 1, log=True)
    width: int = rand.ints(8, 512, log=True)
    drop: float = rand.uniform(0, 0.7)


class Choice(Params):
    """A choice of models, each with params of its own."""

    model: Tree | Line | Net
    scale: bool

    def value(self) -> float:
        """Return the negated distance from the best value."""
        match self.model:
            case Tree(depth=depth, rate=rate):
                off = 0.02 * abs(depth - 6) + 0.1 * (math.log10(rate) + 1.2) ** 2
            case Line(alpha=alpha, l1=l1):
                off = 0.15 + 0.02 * (math.log10(alpha) + 2) ** 2 + 0.1 * (l1 - 0.5) ** 2
            case Net(lr=lr, width=width, drop=drop):
                off = 0.01 + 0.15 * (math.log10(lr) + 3) ** 2 + 0.3 * (drop - 0.2) ** 2
                off += 0.03 * (math.log2(width) - 7) ** 2
        return -off - 0.05 * (not self.scale)


SPACES: Sequence[Any] = (Bowl, Valley, Whole, Choice)
OURS: dict[str, Callable[[], Sampler]] = {
    "random": RandomSampler,
    "sobol": SobolSampler,
    "bayes": BayesSampler,
}


def ours(sampler: Sampler, space: Space, seed: int) -> Iterator[float]:
    """Yield the values of trials that a sampler of letstune proposes."""
    proposer, seen = Proposer(sampler, space, seed, attempts=3), list[Observation]()
    for trial in range(AFTER[-1]):
        params: Any = proposer.propose(seen, trial)
        yield params.value()
        seen.append(Observation(trial, params, "trained", (params.value(),)))


def theirs(space: Space, seed: int) -> Iterator[float]:
    """Yield the values of trials that Optuna's TPE proposes."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def suggest(trial: Any, path: str, distribution: Any) -> Any:
        match type(distribution).__name__:
            case "Uniform":
                low, high, log = distribution.low, distribution.high, distribution.log
                return trial.suggest_float(path, low, high, log=log)
            case "Ints":
                low, high, log = distribution.low, distribution.high, distribution.log
                return trial.suggest_int(path, low, high, log=log)
            case "Bools":
                return trial.suggest_categorical(path, [False, True])
        return trial.suggest_categorical(path, list(range(len(distribution.candidates))))

    for _ in range(AFTER[-1]):
        trial = study.ask()
        params: Any = space.build(lambda path, node, trial=trial: suggest(trial, path, node))
        yield params.value()
        study.tell(trial, params.value())


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    contests: dict[str, Callable[[Space, int], Iterator[float]]] = {
        name: (lambda space, seed, make=make: ours(make(), space, seed))
        for name, make in OURS.items()
    }
    if importlib.util.find_spec("optuna"):
        contests["TPE of Optuna"] = theirs
    print(f"{'':16}" + "".join(f"{cls.__name__:^27}" for cls in SPACES) + "CPU a proposal")
    print(f"{'':16}" + "".join(f"{after:9}" for _ in SPACES for after in AFTER))
    for name, values in contests.items():
        began, line = time.process_time(), ""
        for cls in SPACES:
            runs = [np.maximum.accumulate(list(values(cls.space(), seed))) for seed in seeds]
            off = [[-float(best[after - 1]) for after in AFTER] for best in runs]
            line += "".join(f"{o:9.1g}" for o in np.exp(np.mean(np.log(np.add(off, 1e-9)), 0)))
        spent = (time.process_time() - began) / (len(seeds) * len(SPACES) * AFTER[-1])
        print(f"{name:16}{line}{spent * 1e3:11.1f} ms", flush=True)


if __name__ == "__main__":
    main()
