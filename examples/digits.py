"""Tune a linear classifier of handwritten digits: 64 params, each trained in one go.

Run it with `python examples/digits.py [JOURNAL]`.

Stop it when you like, and run it again: it goes on where it stopped. The same trainer from the
command line:

    letstune tune examples/digits.py:DigitsTrainer -n 64 --journal by-command.db
"""

import sys
from typing import Any

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

import letstune
from letstune import Params, rand


class SGDParams(Params):
    model_cls = SGDClassifier

    average: bool
    l1_ratio: float = rand.uniform(0, 1)
    alpha: float = rand.uniform(1e-5, 1e0, log=True)


def split() -> tuple[list[Any], list[Any]]:
    """Return what to tune with, and what only the winner is going to see: each x and y."""
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x / 16, y, test_size=0.2, random_state=0)
    return [x, y], [x_test, y_test]


class DigitsTrainer(letstune.SimpleTrainer[SGDParams]):
    metric = "accuracy"

    def load_dataset(self, dataset: object) -> None:
        data, _ = split()
        self.x_train, self.x_valid, self.y_train, self.y_valid = train_test_split(
            *data, test_size=0.25, random_state=0
        )

    def train(self, params: SGDParams) -> tuple[SGDClassifier, dict[str, float]]:
        model = params.create_model(loss="hinge", penalty="elasticnet", random_state=self.seed)
        model.fit(self.x_train, self.y_train)
        return model, {
            "accuracy": model.score(self.x_valid, self.y_valid),
            "train_accuracy": model.score(self.x_train, self.y_train),
        }


if __name__ == "__main__":
    (journal,) = sys.argv[1:] or ["digits.db"]
    tuning = letstune.tune(DigitsTrainer(), 64, journal=journal, seed=1)

    winner = tuning.best
    model = winner.checkpoint.load_pickle()
    _, test = split()
    print(f"The winner is trial {winner.trial_id}: {winner.params}")
    print(f"accuracy {winner.metric_value:.4f} in validation, {model.score(*test):.4f} in test")
    print(f"See all of them:  letstune trials {journal}")
