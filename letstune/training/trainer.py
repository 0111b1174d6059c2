"""The classes that users derive their trainers from; `letstune.trainer` tells of them."""

# No `from __future__ import annotations`: users' classes ask for the annotations of `Trainer`, and
# text would be looked up in the module of its public name.

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, Final, Generic, SupportsFloat, TypeVar, get_args, get_origin

from letstune._public import public
from letstune.errors import Interrupted, TrainerError
from letstune.rounds.metric import MOST, metric_name
from letstune.rounds.seeding import Purpose, derive, generator, seed_globals
from letstune.space.params import Params
from letstune.telling.lines import say
from letstune.training.direction import directed

if TYPE_CHECKING:
    import numpy as np

    from letstune.training.checkpoints import Checkpoint

P = TypeVar("P", bound=Params)

Stream = tuple[int, Purpose, int, int]
"""What random numbers are for: the run's seed, the purpose, the trial and the epoch."""

# Where a trainer's stream of random numbers is kept in it; names that no user has.
_STREAM: Final = "__letstune_stream__"
_RNG: Final = "__letstune_rng__"
HORIZON: Final = "__letstune_horizon__"
"""Where a trainer keeps how many epochs a trial has at most."""
LIMIT: Final = "__letstune_limit__"
"""Where it keeps how many epochs its trial has when the task ends; None if that depends on time."""
FOLDER: Final = "__letstune_folder__"
"""Where a trainer that runs commands keeps in which folder the run was begun."""
TRAINING: Final = "__letstune_training__"
"""Where a trainer keeps what is to be closed before another training begins, if anything is."""


class _Provided:
    """What letstune provides beside the seed. A trainer's own field of that name comes first."""

    def __init__(self, find: Callable[[Mapping[str, Any]], Any], when: str) -> None:
        self._find = find
        self._when = when

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, trainer: object, owner: type) -> Any:
        if trainer is None:
            return self
        if (found := self._find(trainer.__dict__)) is None:
            raise TrainerError(f"{owner.__name__}.{self._name} exists only {self._when}.")
        return found


def _trial(fields: Mapping[str, Any]) -> int | None:
    stream: Stream | None = fields.get(_STREAM)
    return None if stream is None or stream[1] is Purpose.LOAD_DATASET else stream[2]


def _horizon(fields: Mapping[str, Any]) -> int | None:
    horizon: int | None = fields.get(HORIZON)
    return horizon


@public("letstune.training")
class Trainer(ABC, Generic[P]):
    """What `SimpleTrainer` and `EpochTrainer` have in common.

    A trainer must be pickleable before `load_dataset`, but need not be afterwards. letstune trains
    with a clone of it, made by pickling.

    Attributes:
        params_cls: the `Params` class. It is taken from the generic parameter, as in
            ``SimpleTrainer[SGDParams]``, unless it is set.
        seed: set before each call of `load_dataset`, `create_model`, `load`, `train_epoch` and
            `train`: a number from 0 to 2**31 - 1 that depends only on the run's seed, the trial and
            the epoch.
        trial: the id of the trial that is in training.
        horizon: how many epochs a trial has at most, as the rounds were when the run began: for a
            schedule, such as a cosine or one cycle. It stays what it is when rounds grow: with
            another one, the epochs that are recorded would have been others.
    """

    params_cls: type[P]
    seed: int
    if TYPE_CHECKING:
        trial: int
        horizon: int
    else:
        trial = _Provided(_trial, "in the training of a trial")
        horizon = _Provided(_horizon, "during a run whose rounds are in epochs, and not in time")

    # Type checkers do not see it: to those that do, pyright takes no class attribute in the place
    # of a property, and mypy no property in the place of an attribute. A trainer may have either.
    if not TYPE_CHECKING:

        @property
        @abstractmethod
        def metric(self) -> str:
            """The metric value to be optimized. Usually a class attribute.

            Greater is better; with a leading minus, as ``"-valid_loss"``, less is better. The
            trainer returns ``valid_loss`` as it is in both cases.
            """

    def __letstune_check__(self) -> None:
        """Refuse a trainer of this kind that cannot be driven, before a run."""

    @abstractmethod
    def load_dataset(self, dataset: Any) -> None:
        """Load the dataset into fields of the trainer. Called at most once on a trainer.

        Args:
            dataset: what was given to `letstune.tune`, usually a path. It may be ignored.
        """

    @property
    def rng(self) -> "np.random.Generator":
        """A generator that depends only on the run's seed, the trial and the epoch, as `seed`."""
        rng: np.random.Generator | None = self.__dict__.get(_RNG)
        if rng is None:
            stream = self.__dict__.get(_STREAM)
            if stream is None:
                raise TrainerError(
                    f"{type(self).__name__}.rng exists only during a run: it is set before each "
                    "call of load_dataset, create_model, load, train_epoch and train."
                )
            rng = self.__dict__[_RNG] = generator(*stream)
        return rng

    @rng.setter
    def rng(self, value: object) -> None:
        raise TrainerError(
            f"{type(self).__name__} sets self.rng, which letstune provides: a generator that is "
            "seeded for each epoch. Use it, or give your own another name, such as self.noise."
        )


@public("letstune")
class SimpleTrainer(Trainer[P]):
    """Base class for experiments without early stopping.

    First, `load_dataset` is called with the dataset. Then `train` is called with various params.

    >>> from letstune import Params, SimpleTrainer, rand
    >>> class Parabola(Params):
    ...     x: float = rand.uniform(-1, 1)
    >>> class ParabolaTrainer(SimpleTrainer[Parabola]):
    ...     metric = "height"
    ...     def load_dataset(self, dataset):
    ...         pass
    ...     def train(self, params):
    ...         return params, {"height": -(params.x**2)}
    """

    @abstractmethod
    def train(self, params: P) -> tuple[Any, Mapping[str, SupportsFloat]]:
        """Train a model parametrized by ``params``; return it with its metric values."""

    def save(self, checkpoint: "Checkpoint", model: Any) -> None:
        """Save a model that `train` returned. The default pickles it."""
        checkpoint.save_pickle(model)


@public("letstune")
class EpochTrainer(Trainer[P]):
    """Base class for experiments with early stopping, for neural networks and gradient boosting.

    The trainer holds the model in training in a field, usually ``self.model``. After
    `load_dataset`, a training is `create_model` or `load`, but not both; then `train_epoch`, as
    often as the rounds want, with `save` after each.

    For exact resume, `save` must save all that the next epoch depends on, including the state of an
    optimizer; `letstune.rehearse` tests it. Before a training, the fields that the trainer was
    given since `load_dataset` are removed, so that no trial goes on with those of another.

    Attributes:
        model: the model in training.
        reload: whether to save and load before every epoch but the first, straight on as well, and
            not only where a trial goes on from its checkpoint. It is for frameworks in which a
            model is not the same after it was loaded, whatever is saved: then, all epochs begin
            with one that was loaded, and a trial comes out the same in pieces. It costs a load an
            epoch. Not by default, since it also hides what `save` has forgotten: all epochs are
            then trained without that.
    """

    model: Any
    reload: bool = False

    def create_model(self, params: P) -> None:
        """Create a model parametrized by ``params``. The default uses ``params.create_model()``."""
        self.model = params.create_model()

    @abstractmethod
    def train_epoch(self, epoch: int) -> Mapping[str, SupportsFloat]:
        """Train the model for one more epoch, ``epoch`` from 0 on; return its metric values."""

    def save(self, checkpoint: "Checkpoint") -> None:
        """Save the model in its current state. The default pickles ``self.model``."""
        checkpoint.save_pickle(self.model)

    def load(self, checkpoint: "Checkpoint", params: P) -> None:
        """Load the model that `save` saved, perhaps in another process.

        `create_model` was not called before. The default unpickles to ``self.model``.
        """
        self.model = checkpoint.load_pickle()


def params_class(trainer: object) -> type[Params]:
    """Return the `Params` class that a trainer is for.

    Raises:
        TrainerError: it is not a trainer, or does not say which `Params` class it is for.
    """
    name = type(trainer).__name__
    if isinstance(trainer, type) or not isinstance(trainer, SimpleTrainer | EpochTrainer):
        shown = f"the class {trainer.__name__}" if isinstance(trainer, type) else repr(trainer)
        raise TrainerError(
            f"Expected a trainer, an object of a class derived from letstune.SimpleTrainer or "
            f"letstune.EpochTrainer, but got {shown}."
        )
    found = getattr(trainer, "params_cls", None) or _generic_argument(type(trainer))
    if isinstance(found, type) and issubclass(found, Params) and found is not Params:
        return found
    raise TrainerError(
        f"{name}: which Params is it for? Found {found!r}; derive it from "
        f"letstune.{'Simple' if isinstance(trainer, SimpleTrainer) else 'Epoch'}"
        "Trainer[YourParams], or set params_cls."
    )


def _generic_argument(trainer_cls: type) -> object:
    for cls in trainer_cls.__mro__:
        for base in cls.__dict__.get("__orig_bases__", ()):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, Trainer):
                for argument in get_args(base):
                    if isinstance(argument, type) and issubclass(argument, Params):
                        return argument
    return None


def check_trainer(trainer: Trainer[Any]) -> str:
    """Return a trainer's metric, and refuse one that cannot be driven, before anything is written.

    Raises:
        TrainerError: its metric is not a name, or the trainer says elsewhere what is better, and
            something else than its metric.
    """
    metric: object = getattr(trainer, "metric", None)
    if not isinstance(metric, str) or metric in ("", "-"):
        raise TrainerError(
            f"{type(trainer).__name__}.metric is {metric!r}; expected the name of one of the "
            'metric values that it returns, for instance metric = "accuracy", or "-valid_loss" '
            "if less is better."
        )
    trainer.__letstune_check__()
    return directed(trainer, metric)


def check_names(trainer: Trainer[Any]) -> None:
    """Refuse a trainer with a field or a method that a run would replace.

    Raises:
        TrainerError: it has a ``seed`` or ``rng`` of its own, or its ``reload`` is not what it must
            be.
    """
    _check_reload(trainer)
    own = {*trainer.__dict__}
    for cls in type(trainer).__mro__[: type(trainer).__mro__.index(Trainer)]:
        own |= {*vars(cls)}
    for name in ("seed", "rng"):
        if name in own:
            raise TrainerError(
                f"{type(trainer).__name__} has a {name} of its own, but letstune sets self.{name} "
                "for each epoch, so that nothing depends on what was trained before. Use that, and "
                f"tune(seed=...) for the run's; or give yours another name, such as data_{name}."
            )


def _check_reload(trainer: Trainer[Any]) -> None:
    name, found = type(trainer).__name__, getattr(trainer, "reload", False)
    if isinstance(trainer, EpochTrainer) and not isinstance(found, bool):
        raise TrainerError(
            f"{name}.reload is {_shown(found, 100)}; expected True or False: whether to save and "
            "load before every epoch. Give what is your own another name."
        )
    if isinstance(trainer, SimpleTrainer) and found is True:
        raise TrainerError(
            f"{name}.reload is True, but a SimpleTrainer trains in one go, and nothing of it is "
            "loaded. Leave it out, or derive the trainer from letstune.EpochTrainer."
        )


def begin(trainer: Trainer[Any], run_seed: int, purpose: Purpose, trial: int, epoch: int) -> None:
    """Seed a trainer and the global generators for what comes next."""
    begin_again(trainer, (run_seed, purpose, trial, epoch))


def begin_again(trainer: Trainer[Any], stream: Stream) -> None:
    """Seed a trainer and the global generators as `begin` did for a stream of random numbers."""
    seed = derive(*stream)
    fields = trainer.__dict__  # this way, a frozen dataclass may be a trainer, too
    fields["seed"] = seed
    fields[_STREAM] = stream
    fields.pop(_RNG, None)
    seed_globals(seed)


def stream_of(trainer: Trainer[Any]) -> Stream:
    """Return the stream of random numbers that a trainer was last seeded for.

    Raises:
        TrainerError: it is not in a run.
    """
    stream: Stream | None = trainer.__dict__.get(_STREAM)
    if stream is None:
        raise TrainerError(
            f"A training of {type(trainer).__name__} can only go on in a run, which seeds it. For "
            "a model that it has saved, read the files in the folder checkpoint.path."
        )
    return stream


def forget(trainer: Trainer[Any], fields: Mapping[str, Any]) -> None:
    """End a training, and take back what fields the trainer was given in it.

    Args:
        trainer: the trainer.
        fields: those that it had after `load_dataset`.
    """
    training = trainer.__dict__.pop(TRAINING, None)
    try:
        if training is not None:
            training.close()
    except (KeyboardInterrupt, Interrupted):
        raise
    except BaseException as error:  # noqa: BLE001 (of whatever the user's code does)
        _tell_of_the_end(
            f"{type(trainer).__name__} raised {type(error).__name__}: {error} when a training was "
            "over, and nothing is lost by it. Mend its finally or with block."
        )
    finally:
        trainer.__dict__.clear()
        trainer.__dict__.update(fields)


def _tell_of_the_end(line: str) -> None:
    """Warn, though it is an error that nobody would take for that of a trial."""
    try:
        warnings.warn(line, stacklevel=3)
    except UserWarning:  # as the script wants it
        say(f"letstune: {line}")


def metric_values(returned: object, metric: str, where: str) -> dict[str, float]:
    """Return what a trainer returned as a dict of floats: plain values, whatever they were.

    NumPy's scalars, 0-d arrays and tensors count as the numbers that they hold.

    Args:
        returned: by the trainer.
        metric: its metric, for an example.
        where: what it was doing, for an error.

    Raises:
        TrainerError: it is not a dict of names to real numbers.
        BaseException: a value raised it when asked for its number.
    """
    if not isinstance(returned, Mapping):
        raise TrainerError(
            f"{where} returned {_shown(returned, 200)}; expected metric values, a dict of names to "
            f'numbers, such as {{"{metric_name(metric)}": 0.9}}.'
        )
    if len(returned) > MOST:
        raise TrainerError(
            f"{where} returned {len(returned)} metric values; expected at most {MOST}. Keep what "
            "is more in the checkpoint."
        )
    values = {}
    for name, value in returned.items():
        # Of a class derived from str, names could be told apart, or pickled, as that class wants.
        if type(name) is not str:
            raise TrainerError(
                f"{where} returned a metric value with the name {_shown(name, 200)}, of the class "
                f"{type(name).__name__}; expected a str, and of no other class. It returned "
                f"{_shown(returned, 300)}."
            )
        number = value if type(value) is float else _number(name, value, where)
        if number is None:
            raise TrainerError(
                f"{where} returned the metric value {name!r}: {_shown(value, 200)}; expected a "
                f"real number. It returned {_shown(returned, 300)}."
            )
        values[name] = number
    return values


def without_metric(values: Iterable[str], metric: str, where: str) -> str:
    """Return what to say of an epoch that lacks the metric.

    Args:
        values: the names of those that it has.
        metric: the plan's.
        where: what the trainer was doing.
    """
    return (
        f"{where} returned no {metric_name(metric)!r}, which is the trainer's metric, but "
        f"{sorted(values) or 'nothing'}."
    )


def _number(name: str, value: object, where: str) -> float | None:
    try:
        return _real(value)
    except BaseException as error:
        error.add_note(
            f"{where} returned the metric value {name!r}, of the class {type(value).__name__}, "
            "which raised this when it was asked for its number."
        )
        raise


def _shown(value: object, most: int) -> str:
    try:
        return f"{value!r:.{most}}"
    except Exception:  # noqa: BLE001 (of whatever its repr does)
        return f"a value of the class {type(value).__name__}, whose repr() raises an exception"


def _real(value: Any) -> float | None:
    if type(value).__name__ == "timedelta64":  # NumPy registers its time spans as integers
        return None
    if not isinstance(value, Real) and getattr(value, "shape", None) == ():
        value = value.item()
    try:
        return float(value) if isinstance(value, Real) else None
    except OverflowError:  # an int beyond every float
        return math.inf if value > 0 else -math.inf
