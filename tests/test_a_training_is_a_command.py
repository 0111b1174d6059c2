"""A training may be a command, such as a script; it resumes as exactly as what is written here."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_trainers import KINDS, UNCHANGED, ByEpoch, Helped, Streaming, trains
from journal_facts import facts, query
from live_processes import alive, gone, pids, wait_for
from processes import TESTS, environment, python
from small_trainers import tune

import letstune
from letstune import CommandTrainer, Params, rand
from letstune.errors import TrainerError
from letstune.runs.check import check_run
from letstune.training.stores import temporary

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no supervisors here")

kinds = pytest.mark.parametrize("kind", KINDS)


def written(path: Path, code: str) -> str:
    script = path.with_name("train it.py")
    script.write_text(code)
    return str(script)


def events(path: Path) -> dict[str, Any]:
    return {k: facts(path)[k] for k in ("trials", "epochs", "failures", "stops")}


def message(path: Path, trainer: type[CommandTrainer[Any]], **options: Any) -> str:
    """Return what is said of the first trial's failure."""
    return tune(trainer(), 1, path, **{"rounds": [2], **options}).errors[0].message


@kinds
def test_its_metric_values_are_those_of_the_script(kind: type[Any], path: Path) -> None:
    script = written(path, KINDS[kind])
    tuning = tune(kind(), 3, path, rounds=[2, 3], dataset=script, keep_checkpoints="all")
    assert not tuning.errors
    assert [len(trial.epochs) for trial in tuning] == [5, 2, 2]
    for trial in tuning:
        assert [e.metric_values["epoch"] for e in trial.epochs] == list(range(len(trial.epochs)))
    last = max(tuning, key=lambda trial: len(trial.epochs)).epochs[-1]
    state = json.loads((last.checkpoint.path / "state.json").read_text())
    assert state["at"] == last.metric_values["at"]


def test_only_a_folder_that_stays_as_it_is_is_saved(path: Path) -> None:
    every = {"rounds": [2, 3], "keep_checkpoints": "all"}
    for kind, saved in {
        Streaming: [1, 4],
        ByEpoch: [0, 1, 2, 3, 4],
        Helped: [0, 1, 2, 3, 4],
    }.items():
        journal = path.with_name(f"{kind.__name__}.db")
        tune(kind(), 1, journal, dataset=written(path, KINDS[kind]), **every)
        query_ = "SELECT epoch FROM epochs WHERE checkpoint IS NOT NULL ORDER BY epoch"
        assert [epoch for (epoch,) in query(journal, query_)] == saved, kind


@pytest.mark.slow
@kinds
def test_it_comes_out_in_pieces_as_straight_on(kind: type[Any], path: Path) -> None:
    script = written(path, KINDS[kind])
    assert letstune.rehearse(kind(), dataset=script, n_trials=2, epochs=4) == []


@pytest.mark.slow
@kinds
def test_any_number_of_workers_gives_the_same(kind: type[Any], path: Path) -> None:
    other, script = path.with_name("other.db"), written(path, KINDS[kind])
    tune(kind(), 6, other, rounds=[2, 4], dataset=script)
    tune(kind(), 6, path, rounds=[2, 4], dataset=script, workers=2)
    assert events(path) == events(other)


DYING = """
import os, random, signal, sys
import command_trainers
import letstune

dice = random.Random(int(sys.argv[2]))

class Dying(getattr(command_trainers, sys.argv[3])):
    def train_epoch(self, epoch):
        self.die()
        return super().train_epoch(epoch)

    def save(self, checkpoint):
        self.die()
        super().save(checkpoint)
        self.die()

    def die(self):
        if dice.random() < 0.2:
            os.kill(os.getpid(), signal.SIGKILL)

letstune.tune(
    Dying(), 4, journal=sys.argv[1], rounds=[2, 4], seed=1, progress=False, dataset=sys.argv[4]
)
"""


@pytest.mark.slow
@kinds
def test_killed_anywhere_it_comes_out_the_same(kind: type[Any], path: Path) -> None:
    other, script = path.with_name("other.db"), written(path, KINDS[kind])
    tune(kind(), 4, other, rounds=[2, 4], dataset=script)
    codes: list[int] = []
    while codes[-1:] != [0]:
        arguments = [str(path), str(len(codes)), kind.__name__, script]
        done = python("-c", DYING, *arguments, cwd=path.parent)
        codes.append(done.returncode)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
    assert len(codes) > 2
    assert events(path) == events(other)
    assert all(finding.mended for finding in check_run(path, fix=True))


@pytest.mark.slow
@kinds
def test_a_worker_that_dies_costs_nothing_but_time(kind: type[Any], path: Path) -> None:
    class Dying(kind):  # type: ignore[misc]
        def train_epoch(self, epoch: int) -> Any:
            values = super().train_epoch(epoch)
            once = Path(self.dataset).with_name(f"{self.trial} {epoch}")
            if epoch in (1, 3) and not once.exists():
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return values

    other, script = path.with_name("other.db"), written(path, KINDS[kind])
    tune(kind(), 4, other, rounds=[2, 3], dataset=script)
    tune(Dying(), 4, path, rounds=[2, 3], dataset=script, workers=2)
    assert len(query(path, "SELECT * FROM deaths")) >= 5
    assert events(path) == events(other)


def test_a_run_goes_on_from_any_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Here(Streaming):
        command = Streaming.command.replace("{dataset}", "'train it.py'")

    written(path, UNCHANGED)
    monkeypatch.chdir(path.parent)
    tune(Here(), 2, path, rounds=[1])
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert not letstune.resume(path, n_trials=4, progress=False).errors


# What goes into a command


class Odd(Params):
    text: str = rand.oneof(
        ["a b", "--x", "'\"", "; touch gone", "$(touch gone)", "two\nlines", "{x} {{", "", "*"]
    )
    number: float = rand.uniform(-1e-5, 1e-5)
    flag: bool
    nothing: str | None = rand.oneof([None, "-- something"])


ECHO = """
import json, os, sys
params = json.load(open(os.environ["LETSTUNE_PARAMS"]))
wanted = [f"--text={params['text']}", f"--number={json.dumps(params['number'])}"]
wanted += [f"--flag={json.dumps(params['flag'])}"]
wanted += [] if params["nothing"] is None else [f"--nothing={params['nothing']}"]
print(json.dumps({"same": wanted == sys.argv[1:-1], "last": sys.argv[-1] == "a {literal} word"}))
"""


class Echoing(CommandTrainer[Odd]):
    metric = "same"
    process = "epoch"
    command = (
        "{python} {dataset} --text={text} --number={number} --flag={flag} "
        "--nothing={nothing?} 'a {{literal}} word'"
    )


@pytest.mark.slow
def test_no_value_is_split_or_becomes_an_argument(path: Path) -> None:
    tuning = tune(Echoing(), 24, path, rounds=[1], dataset=written(path, ECHO))
    assert not tuning.errors
    assert len({trial.params.text for trial in tuning}) == 9
    for trial in tuning:
        assert trial.epochs[0].metric_values == {"same": 1.0, "last": 1.0}
    assert not list(path.parent.glob("**/gone"))


def test_a_value_that_would_be_an_option_is_refused(path: Path) -> None:
    class Bare(CommandTrainer[Odd]):
        metric = "at"
        process = "epoch"
        command = "sh -c 'echo \"$0\"' '{{\"at\": 1}}' {text}"

    errors = tune(Bare(), 30, path, rounds=[1]).errors
    assert errors
    for error in errors:
        assert "The value '--x' of {text} would be taken for an option" in error.message


def test_a_null_character_fails_its_trial(path: Path) -> None:
    class Null(Params):
        text: str = rand.oneof(["a\0b"])

    class Bare(CommandTrainer[Null]):
        metric = "at"
        command = "{python} -c 0 --text {text}"

    assert "cannot be started: embedded null byte" in message(path, Bare)


class Adam(Params):
    lr: float = rand.uniform(1e-5, 1, log=True)
    beta: float = 0.9


class SGD(Params):
    lr: float = rand.uniform(1e-5, 1, log=True)


class Nested(Params):
    seed: int = 3
    optimizer: Adam | SGD
    layers: tuple[int, ...] = (50, 50)
    momentum: float | None = rand.oneof([None, rand.uniform(0, 1)])


class Nesting(CommandTrainer[Nested]):
    metric = "at"
    command = "echo '{{\"at\": {optimizer.lr}}}' {optimizer.$type} {layers} --b={optimizer.beta?}"
    process = "epoch"


def test_nested_values_go_by_their_paths(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Telling(Nesting):
        command = 'sh -c \'echo "$@" >&2; echo "$0"\' ' + Nesting.command.removeprefix("echo ")

    tuning = tune(Telling(), 8, path, rounds=[1])
    printed = capfd.readouterr().err
    for trial in tuning:
        optimizer: Any = trial.params.optimizer
        assert trial.metric_value == optimizer.lr
    assert "Adam [50,50] --b=0.9\n" in printed
    assert "SGD [50,50]\n" in printed


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("{python} --lr={lr}", r"no \{lr\} for the command: Nested has \{seed\}, \{optimizer\}, "),
        ("x {optimizer.lr} {}", r"There is no \{\} for"),
        ("x {optimizer.beta}", r"have a value for \{optimizer.beta\}.* Write --beta=\{optimizer."),
        ("x {momentum}", r"Write --momentum=\{momentum\?\}: such a word is left out"),
        ("x {seed}", r"\{seed\} in the command is the trial's seed, but Nested has a field seed"),
        ("x {optimizer.lr:.3f}", "has a format"),
        ("x 'open", "cannot be split into words: No closing quotation"),
        ("x {open", "cannot be split into words: expected '}'"),
        ("", "command is empty"),
        (None, "command is None; expected a text"),
        ("x {epoch_seed}", "is for a process an epoch"),
    ],
)
def test_a_command_that_cannot_be_filled_is_an_error_before_the_run(
    command: Any, said: str, path: Path
) -> None:
    trainer = type("Wrong", (Nesting,), {"command": command, "process": "round"})
    with pytest.raises(TrainerError, match=said):
        tune(trainer(), 1, path)
    assert not path.exists()


# What comes of it


def test_a_script_that_fails_fails_its_trial_with_the_end_of_its_stderr(path: Path) -> None:
    said = message(path, trains("raise ValueError('no way on')"))
    assert said.startswith("letstune.errors.CommandError: The command ")
    assert "exited with 1. The end of its stderr:\nTraceback" in said
    assert said.endswith("ValueError: no way on")


def test_a_script_that_is_killed_says_so(path: Path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    assert "was ended by signal 11. It wrote nothing to stderr." in message(path, trains(code))


def test_a_program_that_is_not_there_says_so(path: Path) -> None:
    said = message(path, trains("", command="no-such-program --lr=3"))
    assert "cannot be started: there is no program 'no-such-program'" in said


@pytest.mark.parametrize(
    ("code", "fields", "said"),
    [
        ("print('hello')", {}, "ended well, but told no metric values. Expected a line of JSON"),
        ("print('{\"loss\": 1}')", {}, 'such as {"at": 0.9}'),
        ('print(\'{"at": "x"}\')', {"process": "epoch"}, "returned the metric value 'at': 'x'"),
        ("[print('{\"at\": 1}') for _ in range(5)]", {}, "of 3 more epochs than it was asked for"),
        (
            "import sys; open(sys.argv[1], 'w').write('at 1\\n')",
            {"command": "{python} -c {code} {metrics}"},
            "Line 1 of the command's {metrics} file is b'at 1', which is no JSON",
        ),
        (
            "import sys; open(sys.argv[1], 'w').write('7')",
            {"command": "{python} -c {code} {metrics}", "process": "epoch"},
            "told 7 as metric values; expected a line of JSON",
        ),
    ],
)
def test_what_are_no_metric_values_is_told(
    code: str, fields: dict[str, Any], said: str, path: Path
) -> None:
    try:
        found = message(path, trains(code, **fields))
    except TrainerError as error:  # in the first epoch, nothing is recorded
        found = str(error)
    assert said in found


def test_nan_is_a_metric_value(path: Path) -> None:
    trainer = trains('print(\'{"at": NaN, "n": Infinity}\')', process="epoch")
    (trial,) = tune(trainer(), 1, path, rounds=[1])
    assert str(trial.epochs[0].metric_values) == "{'at': nan, 'n': inf}"


def test_of_a_process_an_epoch_the_last_line_counts(path: Path) -> None:
    code = "[print('{\"at\": %d}' % n) for n in range(5)]"
    (trial,) = tune(trains(code, process="epoch")(), 1, path, rounds=[2])
    assert [epoch.metric_values["at"] for epoch in trial.epochs] == [4, 4]


def test_a_script_that_ends_early_ends_its_trial(path: Path) -> None:
    code = "[print('{\"at\": %d}' % n) for n in range(3)]"
    (trial,) = tune(trains(code)(), 1, path, rounds=[5])
    assert (trial.status, len(trial.epochs)) == ("stopped", 3)
    helped = """
import letstune
for epoch, report in letstune.epochs():
    if epoch == 3:
        break
    report(at=epoch)
"""
    (trial,) = tune(trains(helped)(), 1, path.with_name("helped.db"), rounds=[5])
    assert (trial.status, len(trial.epochs)) == ("stopped", 3)


def test_metric_values_come_as_epochs_end(path: Path) -> None:
    """The script waits in its second epoch until the first one is recorded."""
    code = f"""
import sqlite3, time
print('{{"at": 1}}')
while not sqlite3.connect({str(path)!r}).execute("SELECT count(*) FROM epochs").fetchone()[0]:
    time.sleep(0.01)
print('{{"at": 2}}')
"""
    (trial,) = tune(trains(code)(), 1, path, rounds=[2])
    assert [epoch.metric_values["at"] for epoch in trial.epochs] == [1, 2]


def test_rounds_in_time_need_a_process_an_epoch(path: Path) -> None:
    from datetime import timedelta

    trainer = trains("", command="{python} -c {code} {epochs}")
    with pytest.raises(TrainerError, match="rounds are in time"):
        tune(trainer(), 1, path, rounds=[timedelta(seconds=1)])


def test_a_script_that_prints_much_is_not_held_up(path: Path) -> None:
    code = "import sys; sys.stderr.write('x' * 10**6); print('y' * 10**6 + '\\n{\"at\": 1}')"
    (trial,) = tune(trains(code, process="epoch")(), 1, path, rounds=[1])
    assert trial.metric_value == 1


def test_nothing_is_left_in_folders(path: Path) -> None:
    before = set(temporary().iterdir())
    for kind in (Streaming, Helped):
        tune(
            kind(),
            2,
            path.with_name(f"{kind.__name__}.db"),
            rounds=[1],
            dataset=written(path, KINDS[kind]),
        )
    assert set(temporary().iterdir()) == before


# What is after the loop of a script


AFTER = """
import letstune, pathlib, sys
for epoch, report in letstune.epochs():
    report(at=epoch)
pathlib.Path(sys.argv[1]).open("a").write("after\\n")
sys.exit(int(sys.argv[2]))
"""


def test_what_is_after_the_loop_runs_and_fails_nothing(path: Path) -> None:
    log = path.with_name("log")
    trainer = trains(AFTER, command="{python} -c {code} {dataset} 0")
    assert not tune(trainer(), 2, path, rounds=[2], dataset=str(log)).errors
    assert log.read_text() == "after\n" * 2
    failing = trains(AFTER, command="{python} -c {code} {dataset} 3")
    with pytest.warns(UserWarning, match="exited with 3"):
        tuning = tune(failing(), 1, path.with_name("b.db"), rounds=[2], dataset=str(log))
    assert not tuning.errors


def test_an_epoch_without_metric_values_says_so(path: Path) -> None:
    code = "import letstune\nfor epoch, report in letstune.epochs(): pass"
    assert "TrainerError: Epoch 0 ended without metric values" in message(path, trains(code))


def test_by_hand_a_script_says_how_many_epochs_and_prints_its_values(path: Path) -> None:
    code = """
import letstune, random
for epoch, report in letstune.epochs(3, start=1, seed=7):
    report(loss=1 / (epoch + 1), seed=report.seed, drawn=random.random())
"""
    done = python("-c", code, cwd=path.parent)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["epoch"], line["loss"]) for line in lines] == [(1, 0.5), (2, 1 / 3)]
    assert len({line["seed"] for line in lines}) == len({line["drawn"] for line in lines}) == 2
    assert python("-c", code, cwd=path.parent).stdout == done.stdout
    without = python("-c", "import letstune; letstune.epochs()", cwd=path.parent)
    assert "Write letstune.epochs(10)." in without.stderr


# Processes


FORKING = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen(["sleep", "1000"])
other = subprocess.Popen(["sleep", "1000"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(f"{os.getpid()} {os.getppid()} {child.pid} {other.pid}")
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def left(file: Path) -> bool:
    """Whether any of the processes that a script has told of is there."""
    return any(alive(pid, "LETSTUNE_PARAMS=") or alive(pid, "LETSTUNE_") for pid in pids(file))


@linux
@pytest.mark.parametrize("more", ["print('{\"at\": 1}')", "raise ValueError"])
def test_nothing_that_a_script_starts_is_left(more: str, path: Path) -> None:
    witness = path.with_name("witness")
    trainer = trains(FORKING + more, command="{python} -c {code} {dataset}", process="epoch")
    tune(trainer(), 1, path, rounds=[1], dataset=str(witness))
    assert len(pids(witness)) == 4
    assert not left(witness)


@linux
def test_a_script_that_runs_on_is_ended_with_its_trial(path: Path) -> None:
    witness = path.with_name("witness")
    code = FORKING + 'print(\'{"at": "nothing"}\')\ntime.sleep(1000)'
    trainer = trains(code, command="{python} -c {code} {dataset}")
    with pytest.raises(TrainerError, match="the metric value 'at': 'nothing'"):
        tune(trainer(), 1, path, rounds=[2], dataset=str(witness))
    assert len(pids(witness)) == 4
    assert not left(witness)


@linux
@pytest.mark.slow
def test_a_timeout_ends_all_of_it(path: Path) -> None:
    witness = path.with_name("witness")
    trainer = trains(FORKING + "time.sleep(1000)", command="{python} -c {code} {dataset}")
    tuning = tune(
        trainer(), 1, path, rounds=[1], dataset=str(witness), workers=1, epoch_timeout=0.5
    )
    (error,) = tuning.errors
    assert error.kind == "timed out"
    assert not left(witness)


OWNING = """
import sys, letstune
from command_trainers import trains
from test_a_training_is_a_command import FORKING
trainer = trains(FORKING + "time.sleep(1000)", command="{python} -c {code} {dataset}")
workers = int(sys.argv[3]) or None
letstune.tune(trainer(), 1, journal=sys.argv[1], rounds=[1], dataset=sys.argv[2], workers=workers)
"""


@linux
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_nothing_survives_an_owner_that_is_killed(workers: int, path: Path) -> None:
    witness = path.with_name("witness")
    command = [sys.executable, "-c", OWNING, str(path), str(witness), str(workers)]
    with subprocess.Popen(
        command, env=environment(TESTS), stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        wait_for(lambda: witness.exists() and len(pids(witness)) == 4)
        assert left(witness)
        process.kill()
    wait_for(lambda: not left(witness))


@linux
def test_nothing_survives_a_supervisor_that_is_killed(path: Path) -> None:
    witness = path.with_name("witness")
    code = FORKING + "import signal; os.kill(os.getppid(), signal.SIGKILL); time.sleep(1000)"
    trainer = trains(code, command="{python} -c {code} {dataset}")
    assert "was ended by signal 9" in message(path, trainer, dataset=str(witness))
    script, supervisor, *_ = pids(witness)
    assert gone([script, supervisor])


ENDED = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
file = folder / "state"
at = int(file.read_text()) if file.exists() else 0
once = pathlib.Path(os.environ["ONCE"])
if at == 1 and not once.exists():
    once.touch()
    supervisor = os.getppid()
    stat = pathlib.Path(f"/proc/{supervisor}/stat").read_text()
    trains = int(stat.rpartition(")")[2].split()[1])
    for pid in dict.fromkeys([int(os.environ["OWNER"]), trains, supervisor, os.getpid()]):
        os.kill(pid, signal.SIGTERM)
    time.sleep(1000)
file.write_text(str(at + 1))
print(json.dumps({"at": at + 1}))
"""

OWNED = """
import os, sys
from command_trainers import trains
from small_trainers import tune
from test_a_training_is_a_command import ENDED
os.environ |= {"OWNER": str(os.getpid()), "ONCE": sys.argv[2]}
trainer = trains(ENDED, command="{python} -c {code} {checkpoint}", process="epoch")
tune(trainer(), 2, sys.argv[1], rounds=[3], workers=int(sys.argv[3]) or None)
"""


@linux
@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_job_that_is_ended_is_no_trials_failure(workers: int, path: Path) -> None:
    arguments = [str(path), str(path.with_name("once")), str(workers)]
    ended = python("-c", OWNED, *arguments, cwd=path.parent)
    assert ended.returncode == 75, ended.stderr
    assert not query(path, "SELECT * FROM failures")
    done = python("-c", OWNED, *arguments, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    assert len(query(path, "SELECT * FROM epochs")) == 6
    assert not query(path, "SELECT * FROM failures")


def test_signals_reach_a_script_as_they_reach_any(path: Path) -> None:
    code = """
import multiprocessing, os, signal
assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
signal.signal(signal.SIGUSR1, lambda *_: print('{"at": 1}'))
os.kill(os.getpid(), signal.SIGUSR1)
"""
    (trial,) = tune(trains(code, process="epoch")(), 1, path, rounds=[1])
    assert trial.metric_value == 1
