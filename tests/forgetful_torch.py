"""A trainer of PyTorch, as users write one, that forgets one thing when it saves, or nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

from letstune import EpochTrainer, Params, rand
from letstune.training.checkpoints import Checkpoint


class Rate(Params):
    lr: float = rand.uniform(0.01, 0.1)


class TorchTrainer(EpochTrainer[Rate]):
    metric = "-loss"
    forgotten = ""

    def load_dataset(self, dataset: Any) -> None:
        rows = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        self.data = TensorDataset(rows, rows @ torch.arange(4.0))

    def create_model(self, params: Rate) -> None:
        layers = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1)
        self.model = nn.Sequential(*layers)
        self.opt = torch.optim.Adam(self.model.parameters(), lr=params.lr)
        self.plateau = ReduceLROnPlateau(self.opt, patience=10)
        self.scaler = torch.amp.GradScaler("cpu")
        self.generator = torch.Generator().manual_seed(1)
        self.loader = DataLoader(self.data, 16, shuffle=True, generator=self.generator)
        self.rates: list[float] = []

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.model.train()
        total = 0.0
        for rows, target in self.loader:
            self.opt.zero_grad()
            loss = ((self.model(rows)[:, 0] - target) ** 2).mean()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.opt)
            self.scaler.update()
            total += loss.item()
        self.model.eval()
        self.plateau.step(total)
        self.rates.append(self.opt.param_groups[0]["lr"])
        return {"loss": total}

    def save(self, checkpoint: Checkpoint) -> None:
        names = {"model", "opt", "plateau", "scaler"} - {self.forgotten}
        states: dict[str, Any] = {name: getattr(self, name).state_dict() for name in names}
        if self.forgotten != "generator":
            states["generator"] = self.generator.get_state()
        torch.save(states, checkpoint.path / "states.pt")

    def load(self, checkpoint: Checkpoint, params: Rate) -> None:
        self.create_model(params)
        states = torch.load(checkpoint.path / "states.pt")
        if "generator" in states:
            self.generator.set_state(states.pop("generator"))
        for name, state in states.items():
            getattr(self, name).load_state_dict(state)
