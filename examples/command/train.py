"""Trains a small network on digits, and knows nothing of letstune.

    python train.py --config config.yaml --lr 0.3 --epochs 5 --out model

Run again with more epochs, it goes on from the folder.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import yaml
from sklearn.datasets import load_digits


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("config.yaml"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", type=Path)
    parser.add_argument("--hidden", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--decay", type=float)
    args = parser.parse_args()
    for name, value in yaml.safe_load(args.config.read_text()).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def forward(weights, inputs):
    hidden = np.tanh(inputs @ weights[0])
    scores = hidden @ weights[1]
    exps = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, exps / exps.sum(axis=1, keepdims=True)


def train_epoch(weights, inputs, labels, args, rng):
    order = rng.permutation(len(inputs))
    for start in range(0, len(order), args.batch):
        rows = order[start : start + args.batch]
        hidden, share = forward(weights, inputs[rows])
        share[np.arange(len(rows)), labels[rows]] -= 1
        share /= len(rows)
        back = (share @ weights[1].T) * (1 - hidden**2)
        weights[1] -= args.lr * (hidden.T @ share + args.decay * weights[1])
        weights[0] -= args.lr * (inputs[rows].T @ back + args.decay * weights[0])


def main() -> None:
    args = parse()
    inputs, labels = load_digits(return_X_y=True)
    inputs = inputs / 16
    file = args.out / "weights.npz"
    if file.exists():  # goes on where it was
        saved = np.load(file)
        epoch, weights = int(saved["epoch"]), [saved["first"], saved["second"]]
    else:
        args.out.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(args.seed)
        shapes = [(inputs.shape[1], args.hidden), (args.hidden, 10)]
        epoch, weights = 0, [rng.normal(0, 0.3, shape) for shape in shapes]
    while epoch < args.epochs:
        rng = np.random.default_rng([args.seed, epoch])  # the same whether it goes on or not
        train_epoch(weights, inputs[:1200], labels[:1200], args, rng)
        epoch += 1
        np.savez(file, epoch=epoch, first=weights[0], second=weights[1])
        _, share = forward(weights, inputs[1200:])
        told = {"accuracy": float((share.argmax(axis=1) == labels[1200:]).mean())}
        print(f"epoch {epoch}: {told}")
        if args.metrics:
            with args.metrics.open("a") as metrics:
                metrics.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
