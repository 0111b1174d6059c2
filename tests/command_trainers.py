"""Scripts that train, as users have them, and trainers that run them.

Each walks at random from x, and has its state, with that of its generator, in a file.
"""

from typing import Any

import letstune
from letstune import CommandTrainer, Params, rand

UNCHANGED = """
import argparse, json, os, pathlib, random, sys
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float)
parser.add_argument("--epochs", type=int)
parser.add_argument("--seed", type=int)
parser.add_argument("--out", type=pathlib.Path)
parser.add_argument("--metrics")
args = parser.parse_args()
file = args.out / "state.json"
state = json.loads(file.read_text()) if file.exists() else {"at": args.x, "epoch": 0}
for epoch in range(state["epoch"], args.epochs):
    dice = random.Random(args.seed + epoch)
    state = {"at": state["at"] + dice.gauss(0, 1), "epoch": epoch + 1}
    file.write_text(json.dumps(state))
    if args.metrics:
        with open(args.metrics, "a") as metrics:
            print(json.dumps({"at": state["at"], "epoch": epoch}), file=metrics)
    else:
        print("epoch", epoch, "is over")
        print(json.dumps({"at": state["at"], "epoch": epoch}))
    if os.environ.get("WITNESS"):
        with open(os.environ["WITNESS"], "a") as witness:
            print(epoch, file=witness)
    print("at", state["at"], file=sys.stderr)
"""

HELPED = """
import json, os, pathlib, random, sys
import letstune
params = json.loads(pathlib.Path(os.environ["LETSTUNE_PARAMS"]).read_text())
file = pathlib.Path(sys.argv[1]) / "state.json"
state = json.loads(file.read_text()) if file.exists() else {"at": params["x"], "epochs": []}
for epoch, report in letstune.epochs():
    state["epochs"].append(epoch)
    state["at"] += random.gauss(0, 1) + random.Random(report.seed).gauss(0, 1)
    assert state["epochs"] == list(range(epoch + 1)), state
    report(at=state["at"])
    report({"epoch": epoch})
    file.write_text(json.dumps(state))
"""


class Start(Params):
    x: float = rand.uniform(0, 1)


class Base(CommandTrainer[Start]):
    """``dataset`` is the path of the script."""

    metric = "at"


class Streaming(Base):
    """Tells metric values in a file."""

    command = (
        "{python} {dataset} --x={x} --epochs={epochs} --seed {seed} --out {checkpoint} "
        "--metrics {metrics}"
    )


class Printing(Base):
    """Prints them."""

    command = "{python} {dataset} --x={x} --epochs={epochs} --seed {seed} --out {checkpoint}"


class ByEpoch(Streaming):
    process = "epoch"


class Helped(Base):
    command = "{python} {dataset} {checkpoint}"


class HelpedByEpoch(Helped):
    process = "epoch"


KINDS: dict[type[Base], str] = {
    Streaming: UNCHANGED,
    Printing: UNCHANGED,
    ByEpoch: UNCHANGED,
    Helped: HELPED,
    HelpedByEpoch: HELPED,
}


def trains(code: str, **fields: Any) -> type[CommandTrainer[Start]]:
    """Return the class of a trainer that runs Python code, with what else it has."""
    command = fields.pop("command", "{python} -c {code}")
    quoted = command.replace("{code}", quote(code))
    return type("Running", (Base,), {"metric": "at", "command": quoted, **fields})


def quote(code: str) -> str:
    import shlex

    return shlex.quote(code.replace("{", "{{").replace("}", "}}"))


__all__ = ["KINDS", "Helped", "Start", "Streaming", "letstune", "trains"]
