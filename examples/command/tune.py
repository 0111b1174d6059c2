"""Tune a script that knows nothing of letstune: `python tune.py`, killed or not, until it is done.

It needs `pip install letstune[examples]`.
"""

import sys
from pathlib import Path

import letstune
from letstune import CommandTrainer, Params, rand


class ScriptParams(Params):
    lr: float = rand.uniform(0.01, 1, log=True)
    hidden: int = rand.ints(8, 32)
    decay: float | None = rand.oneof([None, rand.uniform(1e-5, 1e-2, log=True)])


class Script(CommandTrainer[ScriptParams]):
    metric = "accuracy"
    folder = str(Path(__file__).parent)
    command = (
        "{python} train.py --config config.yaml --lr {lr} --hidden {hidden} --decay={decay?} "
        "--epochs {epochs} --seed {seed} --out {checkpoint} --metrics {metrics}"
    )


if __name__ == "__main__":
    (journal,) = sys.argv[1:] or ["tune.db"]
    tuning = letstune.tune(Script(), 8, journal=journal, rounds=[2, 4], seed=1, workers=2)

    winner = tuning.best
    print(f"The winner is trial {winner.trial_id}: {winner.params}")
    print(f"accuracy {winner.metric_value:.4f} in validation, after {len(winner.epochs)} epochs")
