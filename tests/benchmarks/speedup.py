"""How much faster all cores are than one: letstune's workers beside a bare process pool."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import median

import letstune
from letstune import EpochTrainer, Params, rand
from letstune.workers.machine import usable_cores

LOOPS = 600_000  # about 30 ms of one core


def work(_: object = None) -> float:
    """Keep one core busy for what an epoch takes."""
    total = 0.0
    for i in range(LOOPS):
        total += i * 0.5
    return total


class Pace(Params):
    x: float = rand.uniform(0, 1)


class Busy(EpochTrainer[Pace]):
    metric = "x"

    def load_dataset(self, dataset: object) -> None: ...

    def create_model(self, params: Pace) -> None:
        self.model = params.x

    def train_epoch(self, epoch: int) -> dict[str, float]:
        work()
        return {"x": self.model}


def pooled(workers: int, epochs: int) -> float:
    """Return how long a bare pool takes for so many epochs, in seconds, its start included."""
    began = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for done in as_completed([pool.submit(work) for _ in range(epochs)]):
            done.result()
    return time.perf_counter() - began


def tuned(workers: int, epochs: int, folder: Path) -> float:
    """Return how long letstune takes for so many epochs, in seconds, all recorded durably."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        letstune.tune(
            Busy(), epochs // 4, journal=Path(name, "run.db"), rounds=[4], seed=1,
            workers=workers, keep_checkpoints=0, progress=False,
        )  # fmt: skip
    return time.perf_counter() - began


def speedups(scale: int) -> None:
    """Print the speed-up from one worker to one a core, of letstune and of a bare pool."""
    cores, epochs, repeats = usable_cores(), max(8, 800 // scale), 5 if scale == 1 else 3
    found: dict[str, list[float]] = {"letstune": [], "a bare pool": []}
    for _ in range(repeats):
        found["letstune"].append(tuned(1, epochs, Path()) / tuned(cores, epochs, Path()))
        found["a bare pool"].append(pooled(1, epochs) / pooled(cores, epochs))
    ours, theirs = median(found["letstune"]), median(found["a bare pool"])
    print(f"\n{epochs} epochs of about 30 ms, 1 and {cores} workers, medians of {repeats}")
    for name, ratios in found.items():
        shown = " ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{name:12} {median(ratios):5.2f} times as fast  ({shown})")
    verdict = "met" if ours >= 0.95 * theirs else "MISSED"
    print(f"letstune / pool {ours / theirs:.3f}; at least 0.95: {verdict}", flush=True)
