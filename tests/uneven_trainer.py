"""A trainer whose epochs take very different time, and plans for it."""

import random
import time
from typing import Any

from stateful_trainer import NearBest, WalkTrainer

import letstune


class Uneven(WalkTrainer):
    """Epochs of very different length, up to 40 ms."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        begun = time.perf_counter()
        values = super().train_epoch(epoch)
        until = begun + random.Random(f"{self.params} {epoch}").random() ** 6 * 0.04
        while time.perf_counter() < until:
            pass
        return values


UNEVEN: dict[str, dict[str, Any]] = {
    "random": {"rounds": [1, 2, 4], "seed": 4},
    "learning": {
        "rounds": letstune.Rounds([1, 2, 3], keep=0.4, cohort=[5, 3]),
        "sampler": NearBest(),
        "lag": 2,
        "seed": 5,
        "keep_checkpoints": 2,
    },
}
