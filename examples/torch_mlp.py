"""Tune a neural network of PyTorch, and its optimizer: which one, with which params of its own.

Run it with `python examples/torch_mlp.py [JOURNAL]`.
"""

import sys

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import letstune
from letstune import Checkpoint, Params, rand


class AdamParams(Params):
    model_cls = torch.optim.Adam

    lr: float = rand.uniform(1e-4, 1e-1, log=True)


class SGDParams(Params):
    model_cls = torch.optim.SGD

    lr: float = rand.uniform(1e-3, 1e0, log=True)
    momentum: float = rand.uniform(0, 0.99)


class MLPParams(Params):
    width: int = rand.ints(16, 256, log=True)
    batch_size: int = rand.oneof([16, 32, 64])
    optimizer: AdamParams | SGDParams


class TorchTrainer(letstune.EpochTrainer[MLPParams]):
    metric = "accuracy"

    def load_dataset(self, dataset: object) -> None:
        x, y = load_digits(return_X_y=True)
        parts = train_test_split((x / 16).astype("float32"), y, test_size=0.25, random_state=0)
        self.x_train, self.x_valid, self.y_train, self.y_valid = map(torch.from_numpy, parts)

    def create_model(self, params: MLPParams) -> None:
        self.batch_size = params.batch_size
        layers = nn.Linear(64, params.width), nn.ReLU(), nn.Linear(params.width, 10)
        self.model = nn.Sequential(*layers)
        self.optimizer = params.optimizer.create_model(params=self.model.parameters())

    def train_epoch(self, epoch: int) -> dict[str, float]:
        # letstune has just seeded PyTorch with what is this trial's and epoch's own.
        loss = torch.zeros(())
        for batch in torch.randperm(len(self.x_train)).split(self.batch_size):
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.model(self.x_train[batch]), self.y_train[batch])
            loss.backward()
            self.optimizer.step()
        with torch.inference_mode():
            right = self.model(self.x_valid).argmax(1) == self.y_valid
        return {"accuracy": right.double().mean().item(), "train_loss": loss.item()}

    def save(self, checkpoint: Checkpoint) -> None:
        states = self.model.state_dict(), self.optimizer.state_dict()  # both, to resume exactly
        torch.save(states, checkpoint.path / "state.pt")

    def load(self, checkpoint: Checkpoint, params: MLPParams) -> None:
        self.create_model(params)
        model, optimizer = torch.load(checkpoint.path / "state.pt")
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)


if __name__ == "__main__":
    (journal,) = sys.argv[1:] or ["torch_mlp.db"]
    tuning = letstune.tune(TorchTrainer(), 16, journal=journal, rounds=[2, 6, 16], seed=1)

    winner = tuning.best
    print(f"The winner is trial {winner.trial_id}: {winner.params}")
    print(f"accuracy {winner.metric_value:.4f} in validation, after {len(winner.epochs)} epochs")
    print(f"See all of them:  letstune trials {journal}")
