"""Tune a neural network of scikit-learn, epoch by epoch: poor params are dropped early.

Run it with `python examples/digits_mlp.py [JOURNAL]`.

Of 32 params, 8 train longer than 2 epochs, and 2 longer than 8.
"""

import sys

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import letstune
from letstune import Params, rand


class MLPParams(Params):
    model_cls = MLPClassifier

    hidden_layer_sizes: tuple[int, ...] = rand.oneof([(32,), (64,), (128,), (32, 32), (64, 64)])
    activation: str = rand.oneof(["relu", "tanh"])
    learning_rate_init: float = rand.uniform(1e-4, 1e-1, log=True)
    alpha: float = rand.uniform(1e-6, 1e0, log=True)
    batch_size: int = rand.ints(16, 128, log=True)


class DigitsMLPTrainer(letstune.EpochTrainer[MLPParams]):
    metric = "accuracy"

    def load_dataset(self, dataset: object) -> None:
        x, y = load_digits(return_X_y=True)
        self.x_train, self.x_valid, self.y_train, self.y_valid = train_test_split(
            x / 16, y, test_size=0.25, random_state=0
        )
        self.classes = list(range(10))

    def create_model(self, params: MLPParams) -> None:
        self.model = params.create_model(random_state=self.seed)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        # One pass over the data in minibatches, in an order of this epoch's own.
        self.model.set_params(random_state=self.seed)
        self.model.partial_fit(self.x_train, self.y_train, classes=self.classes)
        return {
            "accuracy": self.model.score(self.x_valid, self.y_valid),
            "train_loss": self.model.loss_,
        }

    # By default, checkpoints are pickles of self.model; those of an MLPClassifier hold the state
    # of its optimizer, too, as an exact resume needs.


if __name__ == "__main__":
    (journal,) = sys.argv[1:] or ["digits_mlp.db"]
    tuning = letstune.tune(DigitsMLPTrainer(), 32, journal=journal, rounds=[2, 6, 24], seed=1)

    winner = tuning.best
    epochs = sum(len(trial.epochs) for trial in tuning)
    print(f"The winner is trial {winner.trial_id}: {winner.params}")
    print(f"accuracy {winner.metric_value:.4f} in validation, after {len(winner.epochs)} epochs")
    print(f"All trials together took {epochs} epochs, rather than {32 * 32}.")
    print(f"See how it learned:  letstune show {journal} {winner.trial_id}")
    print(f"See all of them:     letstune trials {journal}")
