"""Tune gradient boosting with XGBoost, tree by tree: poor params are dropped early.

Run it with `python examples/boosting.py [JOURNAL]`.

An epoch is one more tree, and a checkpoint is a file of XGBoost's own format.
"""

import sys
from typing import Any

import xgboost as xgb
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split

import letstune
from letstune import Checkpoint, Params, rand

FILE = "booster.ubj"


class BoostingParams(Params):
    eta: float = rand.uniform(0.01, 0.5, log=True)
    max_depth: int = rand.ints(1, 8)
    min_child_weight: float = rand.uniform(0.1, 10, log=True)
    reg_lambda: float = rand.uniform(1e-3, 1e1, log=True)
    subsample: float = rand.uniform(0.5, 1)
    colsample_bytree: float = rand.uniform(0.2, 1)


class BoostingTrainer(letstune.EpochTrainer[BoostingParams]):
    metric = "neg_log_loss"  # greater is better

    def load_dataset(self, dataset: object) -> None:
        x, y = load_breast_cancer(return_X_y=True)
        x_train, x_valid, y_train, self.y_valid = train_test_split(
            x, y, test_size=0.3, random_state=0, stratify=y
        )
        self.train = xgb.DMatrix(x_train, y_train)
        self.valid = xgb.DMatrix(x_valid)

    def create_model(self, params: BoostingParams) -> None:
        self.params = params
        self.model: xgb.Booster | None = None

    def train_epoch(self, epoch: int) -> dict[str, float]:
        # One more tree for a model that is in memory or was loaded: xgb.train() makes a new booster
        # of it, so both come out the same. Booster.update() does not: with "hist", it goes on from
        # the sums of the trees before, which no file holds.
        fixed = {"objective": "binary:logistic", "tree_method": "hist", "nthread": 1}
        options: dict[str, Any] = fixed | {"seed": self.seed} | self.params.to_dict()
        self.model = xgb.train(options, self.train, num_boost_round=1, xgb_model=self.model)
        predicted = self.model.predict(self.valid)
        return {
            "neg_log_loss": -log_loss(self.y_valid, predicted),
            "accuracy": accuracy_score(self.y_valid, predicted > 0.5),
        }

    def save(self, checkpoint: Checkpoint) -> None:
        if self.model is not None:  # and it never is None after an epoch
            self.model.save_model(checkpoint.path / FILE)

    def load(self, checkpoint: Checkpoint, params: BoostingParams) -> None:
        self.params = params
        self.model = xgb.Booster(model_file=checkpoint.path / FILE)


if __name__ == "__main__":
    (journal,) = sys.argv[1:] or ["boosting.db"]
    tuning = letstune.tune(BoostingTrainer(), 32, journal=journal, rounds=[5, 15, 60], seed=1)

    winner = tuning.best
    booster = xgb.Booster(model_file=winner.checkpoint.path / FILE)
    print(f"The winner is trial {winner.trial_id}: {winner.params}")
    print(
        f"log loss {-winner.metric_value:.4f} and accuracy {winner.metric_values['accuracy']:.4f} "
        f"in validation, with {booster.num_boosted_rounds()} trees"
    )
    print(f"See all of them:  letstune trials {journal}")
