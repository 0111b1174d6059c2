"""Tune a neural network of PyTorch, and its optimizer: which one, with which params of its own.

With a schedule, and in mixed precision.

Run it with `python examples/torch_mlp.py [JOURNAL]`.
"""

import sys
from collections.abc import Iterator

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import letstune
from letstune import Params, rand
from letstune.torch import load_states, save_states


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


class TorchTrainer(letstune.GeneratorTrainer[MLPParams]):
    metric = "accuracy"

    def load_dataset(self, dataset: object) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        x, y = load_digits(return_X_y=True)
        parts = train_test_split((x / 16).astype("float32"), y, test_size=0.25, random_state=0)
        self.x_train, self.x_valid, self.y_train, self.y_valid = (
            torch.from_numpy(part).to(self.device) for part in parts
        )

    def train(self, params: MLPParams, run: letstune.TrialRun) -> Iterator[dict[str, float]]:
        layers = nn.Linear(64, params.width), nn.ReLU(), nn.Linear(params.width, 10)
        model = nn.Sequential(*layers).to(self.device)
        optimizer = params.optimizer.create_model(params=model.parameters())
        # The schedule is that of the longest training there is, which a resume does not change.
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.horizon or 24)
        scaler = torch.amp.GradScaler(self.device)
        parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "scaler": scaler}
        if run.saved:
            load_states(run.saved, **parts)

        for _ in run.epochs():
            # letstune has just seeded PyTorch with what is this trial's and epoch's own.
            loss = torch.zeros(())
            for batch in torch.randperm(len(self.x_train)).split(params.batch_size):
                optimizer.zero_grad()
                with torch.autocast(self.device, dtype=torch.bfloat16):
                    output = model(self.x_train[batch])
                    loss = nn.functional.cross_entropy(output, self.y_train[batch])
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
            schedule.step()
            with torch.inference_mode():
                right = model(self.x_valid).argmax(1) == self.y_valid
            save_states(run.path, **parts)  # all that the next epoch depends on
            yield {"accuracy": right.double().mean().item(), "train_loss": loss.item()}


if __name__ == "__main__":
    (journal,) = sys.argv[1:] or ["torch_mlp.db"]
    tuning = letstune.tune(TorchTrainer(), 16, journal=journal, rounds=[2, 6, 16], seed=1)

    winner = tuning.best
    print(f"The winner is trial {winner.trial_id}: {winner.params}")
    print(f"accuracy {winner.metric_value:.4f} in validation, after {len(winner.epochs)} epochs")
    print(f"See all of them:  letstune trials {journal}")
