"""`save_states` and `load_states` bring back all of a PyTorch training, or say what they lack."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from letstune.torch import load_states, save_states

pytestmark = pytest.mark.slow  # PyTorch takes seconds to import
torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")


class Training:
    """A model with everything around it that has a state."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))
        self.opt = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.sched = torch.optim.lr_scheduler.OneCycleLR(self.opt, 0.5, total_steps=50)
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(self.opt, patience=0)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=64, growth_interval=2)
        self.ema = torch.optim.swa_utils.AveragedModel(self.model)
        data = torch.utils.data.TensorDataset(torch.randn(12, 4))
        own = torch.Generator().manual_seed(2)
        self.loader = torch.utils.data.DataLoader(data, 4, shuffle=True, generator=own)
        self.bare = torch.utils.data.DataLoader(data, 4, shuffle=True)
        self.numpy = np.random.default_rng(3)
        self.legacy = np.random.Generator(np.random.MT19937(3))
        self.python = random.Random(4)

    def epoch(self) -> list[float]:
        torch.manual_seed(9)
        seen = [self.numpy.random(), self.legacy.random(), self.python.random()]
        seen.append(self.python.gauss(0, 1))
        for (batch,) in [*self.loader, *self.bare]:
            self.opt.zero_grad()
            loss = self.model(batch).square().mean() + self.numpy.random()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.opt)
            self.scaler.update()
            self.sched.step()
            self.ema.update_parameters(self.model)
            seen += [loss.item(), self.scaler.get_scale(), self.opt.param_groups[0]["lr"]]
        self.plateau.step(seen[-3])
        return [*seen, self.plateau.best, *(p.sum().item() for p in self.ema.parameters())]


def test_a_training_goes_on_to_the_last_bit(tmp_path: Path) -> None:
    straight, first = Training(), Training()
    assert [straight.epoch() for _ in range(2)] == [first.epoch() for _ in range(2)]
    save_states(tmp_path, **vars(first))
    assert [file.name for file in tmp_path.iterdir()] == ["states.pt"]
    again = Training()
    load_states(tmp_path, **vars(again))
    assert [again.epoch() for _ in range(3)] == [straight.epoch() for _ in range(3)]


@pytest.mark.parametrize("forgotten", sorted(set(vars(Training())) - {"bare", "plateau"}))
def test_what_is_forgotten_comes_out_different(forgotten: str, tmp_path: Path) -> None:
    straight = Training()
    straight.epoch()
    kept = {name: part for name, part in vars(straight).items() if name != forgotten}
    save_states(tmp_path, **kept)
    again = Training()
    load_states(tmp_path, **{name: vars(again)[name] for name in kept})
    assert again.epoch() != straight.epoch()


def test_things_without_names_are_told_apart_by_their_order(tmp_path: Path) -> None:
    straight, again = Training(), Training()
    straight.epoch()
    save_states(tmp_path / "s.pt", *vars(straight).values())
    load_states(tmp_path / "s.pt", *vars(again).values())
    assert again.epoch() == straight.epoch()


def test_what_was_not_saved_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    straight, again = Training(), Training()
    untouched = Training()
    straight.epoch()
    save_states(tmp_path, straight.model, opt=straight.opt)
    with pytest.raises(ValueError, match=r"has the states of argument 1, opt, but those of argum"):
        load_states(tmp_path, again.model, opt=again.opt, scaler=again.scaler)
    assert again.epoch() == untouched.epoch()


def test_what_has_no_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^best is a float; expected a model, an optimizer, a"):
        save_states(tmp_path, best=0.5)
    with pytest.raises(TypeError, match=r"^argument 2 is a function; expected"):
        save_states(tmp_path, Training().model, lambda: None)
    assert not list(tmp_path.iterdir())
