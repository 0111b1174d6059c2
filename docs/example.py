"""A small run in which a bit of everything happens."""
# ruff: noqa: D101, D102 (an example is short)

import letstune
from letstune import EpochTrainer, Params, StopTraining, rand


class WalkParams(Params):
    stride: float = rand.uniform(0.25, 1, step=0.25)
    shoes: str = rand.oneof(["boots", "clogs"])


class WalkTrainer(EpochTrainer[WalkParams]):
    metric = "distance"

    def load_dataset(self, dataset):
        self.slope = dataset["slope"]

    def create_model(self, params):
        if params.shoes == "clogs" and params.stride == 1:
            raise ValueError("cannot run in clogs")
        self.model = {"stride": params.stride, "distance": 0.0}

    def train_epoch(self, epoch):
        model = self.model
        model["distance"] += round(model["stride"] * (1 - self.slope) + self.rng.random() / 10, 3)
        values = {"distance": model["distance"], "tired": epoch * model["stride"]}
        if model["stride"] < 0.5:
            raise StopTraining(values)
        return values


if __name__ == "__main__":
    letstune.tune(
        WalkTrainer(),
        8,
        dataset={"slope": 0.2},
        journal="walk.db",
        rounds=[1, 2],
        seed=3,
        keep_checkpoints=2,
        progress=False,
    )
