"""A trainer whose trials make trouble of every kind."""

import ctypes
import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

from small_trainers import Hill, Point

from letstune import EpochTrainer, Params, rand

KINDS = [
    "fine",
    "segfault",
    "memory",
    "killed",
    "killed once",
    "exit",
    "hang",
    "sleep",
    "grandchildren",
    "raise",
]

LEAVE = ["sh", "-c", "sleep 1000 & sleep 1000 & echo $! $$"]
"""Leaves orphans behind, and ends. Not in Python, which takes a while to start."""


class Kind(Params):
    kind: str = rand.oneof(KINDS)


class Trouble(EpochTrainer[Kind]):
    """Trains for two epochs, and is in trouble in the second. ``dataset`` is a folder."""

    metric = "epochs"

    def load_dataset(self, dataset: Any) -> None:
        self.folder = Path(dataset)
        with (self.folder / "pids").open("a") as file:
            file.write(f"{os.getpid()} {os.getppid()}\n")

    def create_model(self, params: Kind) -> None:
        self.model = [params.kind]

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            getattr(self, self.model[0].replace(" ", "_"))()
        self.model.append(f"{epoch} {self.rng.normal()}")
        return {"epochs": len(self.model)}

    def fine(self) -> None:
        print("a line of a worker")

    def segfault(self) -> None:
        ctypes.string_at(0)

    def memory(self) -> None:
        before = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, before[1]))
        try:
            taken = []
            while True:
                taken.append(bytearray(2**22))
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)

    def killed(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def killed_once(self) -> None:
        once = self.folder / "killed once"
        if not once.exists():
            once.touch()
            self.killed()

    def exit(self) -> None:
        os._exit(3)

    def hang(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:  # PyDLL does not let go of the GIL
            ctypes.PyDLL(None).sleep(1000)

    def sleep(self) -> None:
        child = subprocess.Popen(["sleep", "1000"])
        (self.folder / "sleeping").write_text(str(child.pid))
        child.wait()

    def grandchildren(self) -> None:
        with (self.folder / "left").open("w") as file:
            for own in (False, True):
                subprocess.run(LEAVE, stdout=file, start_new_session=own, check=True)

    def raise_(self) -> None: ...


setattr(Trouble, "raise", lambda self: 1 / 0)


class Refusing(Trouble):
    """Cannot load its dataset."""

    def load_dataset(self, dataset: Any) -> None:
        super().load_dataset(dataset)
        if (self.folder / "die").exists():
            self.segfault()
        raise LookupError("no dataset here", dataset)


class Lying(Trouble):
    """Returns no metric values."""

    def train_epoch(self, epoch: int) -> Any:
        return None if epoch == 1 else super().train_epoch(epoch)


class LyingAtOnce(Lying):
    """Returns no metric values from the first epoch on."""

    def train_epoch(self, epoch: int) -> Any:
        return None


class Hopeless(Hill):
    def train(self, params: Point) -> Any:
        raise ValueError("never")


class Unlucky(Hill):
    def train(self, params: Point) -> Any:
        if params.x < 0:
            raise ValueError("below")
        return super().train(params)
