"""What letstune costs per recorded epoch, beside the physical limit and beside Optuna.

Run it with ``python tests/benchmarks/overhead.py``; it needs Linux, a C compiler (to count
syncs) and Optuna, all optional: what is missing is left out, and said. ``--quick`` takes a minute.
``--sync-takes 500`` makes each sync take 500 µs longer, as on a disk with no memory of its own.

Every measurement is a process of its own. The contestants take turns, so that a noisy disk is
noisy for all of them, and medians are printed. CPU time is user and system time.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import re
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>
static long count = 0;
long synced(void) { return count; }
static void note(void) {
    static int longer = -1;
    if (longer < 0) longer = getenv("SYNC_TAKES") ? atoi(getenv("SYNC_TAKES")) : 0;
    if (longer) usleep(longer);
    __sync_fetch_and_add(&count, 1);
}
int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int)) dlsym(RTLD_NEXT, "fsync");
    note();
    return real(fd);
}
int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");
    note();
    return real(fd);
}
"""
KILOBYTE = os.urandom(1024)


def syncs() -> int:
    """Return how many fsync and fdatasync this process has done; 0 if nobody counts."""
    if "LD_PRELOAD" not in os.environ:
        return 0
    counter = ctypes.CDLL(os.environ["LD_PRELOAD"])
    counter.synced.restype = ctypes.c_long
    return int(counter.synced())


def cpu() -> float:
    """Return the CPU time of this process in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_memory() -> float:
    """Return the most memory that this process has had, in MB.

    Not getrusage's: a child begins with its parent's.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


class Meter:
    """Measures wall time, CPU time and syncs from its making to `read`."""

    def __init__(self) -> None:
        self.wall, self.cpu, self.syncs = time.perf_counter(), cpu(), syncs()

    def read(self, n: int) -> dict[str, float]:
        wall, used, synced = time.perf_counter() - self.wall, cpu() - self.cpu, syncs() - self.syncs
        return {"wall": wall / n * 1e6, "cpu": used / n * 1e6, "syncs": synced / n, "n": n}


def make_trainer(checkpoints: bool) -> Any:
    """Return a trainer that does nothing, with or without a checkpoint of 1 KB.

    It is cloned by pickling, code and all, so it leaves its marks in a module.
    """
    import letstune
    from letstune import Params, rand

    class NoParams(Params):
        x: float = rand.uniform(0, 1)

    class NoTrainer(letstune.EpochTrainer[NoParams]):
        metric = "x"

        def load_dataset(self, dataset: Any) -> None:
            pass

        def create_model(self, params: NoParams) -> None:
            self.model = {"x": params.x}

        def train_epoch(self, epoch: int) -> dict[str, float]:
            sys.modules["marks"].append(time.process_time())
            return self.model

        def save(self, checkpoint: Any) -> None:
            if checkpoints:
                (checkpoint.path / "model").write_bytes(KILOBYTE)

        def load(self, checkpoint: Any, params: NoParams) -> None:
            self.model = {"x": params.x}

    return NoTrainer()


def tune(folder: Path, n: int, *, checkpoints: bool) -> dict[str, float]:
    """Run letstune, cohort after cohort, so that the mix of work is the same from end to end."""
    import cloudpickle  # noqa: F401 (imports are not what is measured)
    import numpy.random  # noqa: F401
    import sqlite_utils  # noqa: F401

    import letstune
    import letstune.runs.tuning

    marks: Any = []
    sys.modules["marks"] = marks
    meter = Meter()
    tuning = letstune.tune(
        make_trainer(checkpoints),
        n,
        rounds=letstune.Rounds(cohort=16),
        journal=folder / "run.db",
        seed=1,
        progress=False,
    )
    read = meter.read(tuning._run.state.total_epochs)
    tenth = len(marks) // 10
    first, last = marks[tenth] - marks[0], marks[-1] - marks[-1 - tenth]
    return read | {"last tenth / first": last / first}


def bare(
    folder: Path, n: int, *, checkpoints: bool = False, seeds: bool = False
) -> dict[str, float]:
    """Do with sqlite3 and os what no program that records epochs durably can do without.

    With ``seeds``, also what one cannot do without whose epochs come out the same after a crash.

    With SQLite's own page size and length of the -wal file: letstune's are smaller, so that its
    commits may take less wall time than these.
    """
    db = sqlite3.connect(folder / "bare.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(
        "CREATE TABLE epochs (seq INTEGER PRIMARY KEY, trial INTEGER, epoch INTEGER, value REAL, "
        "metrics TEXT, started TEXT, seconds REAL, session INTEGER) STRICT"
    )
    if seeds:
        import numpy.random
    meter = Meter()
    for i in range(n):
        if seeds:
            random.seed(i)
            numpy.random.seed(i)
        if checkpoints:
            with open(folder / "new", "wb") as file:  # noqa: PTH123
                file.write(KILOBYTE)
                file.flush()
                os.fsync(file.fileno())
            os.rename(folder / "new", folder / f"model-{i}")  # noqa: PTH104
            handle = os.open(folder, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
        db.execute(
            "INSERT INTO epochs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (i, i // 3, i % 3, 0.5, '{"x": 0.5}', "2026-01-01T00:00:00.000000+00:00", 1e-6, 1),
        )
    read = meter.read(n)
    db.close()
    return read


def optuna(folder: Path, n: int, *, storage: str) -> dict[str, float]:
    """Let Optuna report epochs and ask whether to prune, three a trial."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    where: Any = f"sqlite:///{folder}/optuna.db"
    if storage == "journal":
        where = JournalStorage(JournalFileBackend(str(folder / "optuna.log")))
    study = optuna.create_study(storage=where, pruner=optuna.pruners.SuccessiveHalvingPruner())

    def objective(trial: Any) -> float:
        x: float = trial.suggest_float("x", 0, 1)
        for epoch in range(3):
            trial.report(x, epoch)
            trial.should_prune()
        return x

    meter = Meter()
    study.optimize(objective, n_trials=n // 3)
    return meter.read(n // 3 * 3)


def build(folder: Path, n_trials: int, lengths: list[int], keep: float) -> int:
    """Make the journal of a run that lacks its last epoch; return how many it has."""
    import letstune
    from letstune.journal.journal import Journal
    from letstune.rounds.decisions import next_proposal, next_tasks
    from letstune.rounds.events import EpochFinished, TrialProposed

    trainer = make_trainer(False)
    type(trainer).load_dataset = _stop_here
    with contextlib.suppress(NotImplementedError):
        letstune.tune(
            trainer,
            n_trials,
            rounds=letstune.Rounds(lengths, keep),
            seed=1,
            progress=False,
            journal=folder / "run.db",
        )
    journal = Journal(folder / "run.db", write=True)
    plan, state = journal.load()
    events: list[Any] = []
    while True:
        if next_proposal(plan, state):
            raise RuntimeError("all trials are proposed by now")
        tasks = next_tasks(plan, state, (), 1)
        if not tasks:
            break
        task = tasks[0]
        for epoch in range(task.epochs, int(task.limit)):
            value = (task.trial * 7919 % n_trials) / n_trials + epoch * 1e-6
            stamp = "2026-01-01T00:00:00.000000+00:00"
            events.append(EpochFinished(task.trial, epoch, value, {"x": value}, stamp, 1.0))
            state.apply(events[-1])
    events.pop()
    for i in range(0, len(events), 10_000):
        journal.append(events[i : i + 10_000])
    journal.end_session("built")
    journal.close()
    if any(isinstance(event, TrialProposed) for event in events):
        raise RuntimeError("only epochs were built")
    return len(events)


def _stop_here(self: Any, dataset: Any) -> None:
    """Take the place of load_dataset, which is called right before the first task."""
    raise NotImplementedError


def reopen(folder: Path, n: int) -> dict[str, float]:
    """Measure from `resume` to the first call of the trainer."""
    import cloudpickle  # noqa: F401 (imports are not what is measured)
    import numpy.random  # noqa: F401

    import letstune
    import letstune.runs.tuning

    meter = Meter()
    try:
        letstune.resume(folder / "run.db", progress=False)
    except NotImplementedError:
        read = meter.read(1)
        return read | {"MB": peak_memory()}
    raise RuntimeError("the run was finished")


CONTESTANTS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "letstune": lambda folder, n: tune(folder, n, checkpoints=False),
    "letstune, 1 KB checkpoint": lambda folder, n: tune(folder, n, checkpoints=True),
    "bare sqlite3": bare,
    "bare sqlite3, seeds": lambda folder, n: bare(folder, n, seeds=True),
    "bare sqlite3, 1 KB file": lambda folder, n: bare(folder, n, checkpoints=True),
    "Optuna, SQLite": lambda folder, n: optuna(folder, n, storage="sqlite"),
    "Optuna, journal": lambda folder, n: optuna(folder, n, storage="journal"),
    "reopen": reopen,
}


def measure(name: str, n: int, preload: str | None, folder: Path | None = None) -> dict[str, float]:
    """Measure a contestant in a process of its own."""
    where = folder or Path(tempfile.mkdtemp(prefix="letstune-overhead-", dir="."))
    # NumPy's BLAS starts threads at its import that keep the other cores busy for a while.
    env = {"OMP_NUM_THREADS": "1", **os.environ, **({"LD_PRELOAD": preload} if preload else {})}
    command = [sys.executable, __file__, "--contestant", name, "--n", str(n), "--in", str(where)]
    try:
        done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE)
    finally:
        if folder is None:
            shutil.rmtree(where)
    return dict(json.loads(done.stdout))


def counter(folder: Path) -> str | None:
    """Compile what counts syncs; None without a compiler."""
    source, library = folder / "count.c", folder / "count.so"
    source.write_text(COUNTER)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True
    )
    return str(library.resolve())


def start_up(repeats: int) -> Iterator[tuple[str, float]]:
    """Yield how long, in ms, a bare interpreter and letstune take to be there."""
    commands = {
        "bare interpreter": ["-c", "pass"],
        "import letstune": ["-c", "import letstune"],
        "letstune --help": ["-m", "letstune", "--help"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            times[name].append((time.perf_counter() - began) * 1e3)
    for name, measured in times.items():
        yield name, statistics.median(measured)


def main() -> None:
    """Measure all and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sync-takes", type=int, default=0, metavar="µs", help="longer")
    parser.add_argument("--only", choices=["epochs", "flat", "reopen", "start"])
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--n", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        print(json.dumps(CONTESTANTS[options.contestant](options.folder, options.n)))
        return
    scale = 10 if options.quick else 1
    os.environ["SYNC_TAKES"] = str(options.sync_takes)
    with tempfile.TemporaryDirectory(prefix="letstune-overhead-", dir=".") as name:
        preload = counter(Path(name))
        if preload is None:
            print("No C compiler, or not Linux: syncs are not counted.")
        if options.only in (None, "epochs"):
            epochs(options.repeats, scale, preload)
        if options.only in (None, "flat"):
            for who in ("letstune", "letstune, 1 KB checkpoint"):
                read = measure(who, 10_000 // scale, preload)
                print(
                    f"{who}: {10_000 // scale} trials, {read['n']:.0f} epochs; CPU of the last "
                    f"tenth / first tenth {read['last tenth / first']:.2f}"
                )
        if options.only in (None, "reopen"):
            reopening(options.repeats, scale)
        if options.only in (None, "start"):
            for what, median in start_up(2 * options.repeats):
                print(f"{what:20} {median:7.0f} ms")


def epochs(repeats: int, scale: int, preload: str | None) -> None:
    """Print what an epoch costs each contestant."""
    sizes = {name: 5_000 // scale for name in CONTESTANTS if name != "reopen"}
    sizes |= {name: 800 // scale for name in sizes if name.startswith("letstune")}  # trials
    sizes |= {"Optuna, SQLite": 300 // min(scale, 3), "Optuna, journal": 3_000 // scale}
    try:
        import optuna  # noqa: F401
    except ImportError:
        print("Optuna is not installed, and left out.")
        sizes = {name: n for name, n in sizes.items() if "Optuna" not in name}
    reads: dict[str, list[dict[str, float]]] = {name: [] for name in sizes}
    for _ in range(repeats):
        for name, n in sizes.items():
            reads[name].append(measure(name, n, preload))
    print(f"{'per epoch, median':28} {'wall µs':>9} {'CPU µs':>9} {'syncs':>6}  wall / limit")
    for name, read in reads.items():
        wall, used, synced = (
            statistics.median(r[key] for r in read) for key in ("wall", "cpu", "syncs")
        )
        limit = "bare sqlite3, 1 KB file" if "checkpoint" in name else "bare sqlite3"
        ratio = statistics.median(
            r["wall"] / b["wall"] for r, b in zip(read, reads[limit], strict=True)
        )
        print(f"{name:28} {wall:9.0f} {used:9.0f} {synced:6.2f}  {ratio:.2f}")


def reopening(repeats: int, scale: int) -> None:
    """Print what it takes to go on with runs of various sizes."""
    for n_trials, lengths, keep in (
        (1_000, [3, 9, 36], 0.25),
        (10_000 // scale, [3, 9, 36], 0.25),
        (20_000 // scale, [5, 10, 35], 1.0),
    ):
        with tempfile.TemporaryDirectory(prefix="letstune-overhead-", dir=".") as name:
            folder = Path(name)
            count = build(folder, n_trials, lengths, keep)
            reads = [measure("reopen", 0, None, folder) for _ in range(repeats)]
        used = statistics.median(r["cpu"] for r in reads) / 1e3
        memory = statistics.median(r["MB"] for r in reads)
        print(
            f"reopen {n_trials} trials, {count} epochs, to the next task: {used:.0f} ms CPU, "
            f"{memory:.0f} MB peak"
        )


if __name__ == "__main__":
    main()
