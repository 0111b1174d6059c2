"""Every exception that a user can meet.

Each derives from `LetstuneError`, and from the builtin that one would catch anyway. A message
says where, what was found, what was expected and what to do next.
"""

from letstune._visible import visible


class LetstuneError(Exception):
    """The root of letstune's errors: the command line shows one as a line, without a traceback."""

    def __str__(self) -> str:
        # Messages tell what was found, and Python prints them on terminals by itself.
        return visible(super().__str__())


class SpaceError(LetstuneError, ValueError):
    """A search space, a distribution or the value of a parameter is not what it must be."""


class TrainerError(LetstuneError, TypeError):
    """A trainer is not what letstune can drive, or returned what is not metric values."""


class CommandError(LetstuneError, RuntimeError):
    """The command of a `letstune.CommandTrainer` could not be run, or failed: the trial's error."""


class PlanError(LetstuneError, ValueError):
    """An argument of `tune` or `resume` is not what it must be."""


class PlanChangedError(PlanError):
    """An existing journal was started with another plan; nothing was changed."""


class PickleError(LetstuneError, ValueError):
    """A trainer or dataset cannot be kept in the journal, or cannot be brought back from it."""


class JournalError(LetstuneError, OSError):
    """A journal cannot be opened, read or written."""


class JournalNotFoundError(JournalError, FileNotFoundError):
    """There is no journal at that path."""


class JournalLockedError(JournalError, BlockingIOError):
    """Another process is working on the journal."""


class IllegalEventError(JournalError):
    """An event does not follow from what the journal holds: the journal was tampered with."""


class CheckpointError(LetstuneError, OSError):
    """A checkpoint is missing or is not what the journal says that it is."""


class StoreError(CheckpointError):
    """A store cannot be reached, or refuses what is asked of it; its checkpoints may be well."""


class CheckpointNotKeptError(CheckpointError, FileNotFoundError):
    """A checkpoint was let go, as the plan says, or was never made."""


class TrustError(LetstuneError, PermissionError):
    """A journal is not signed with a key of the user's, nor trusted; or such a key is not safe."""


class TrialNotFoundError(LetstuneError, LookupError):
    """The run has no such trial."""


class TrialEndedError(LetstuneError, ValueError):
    """A trial is not going to be trained any more."""


class WorkerError(LetstuneError, ChildProcessError):
    """A worker process cannot be started, or dies before it has anything to do."""


class MissingPackageError(LetstuneError, ImportError):
    """An optional package that this call needs is not installed."""


class PluginError(LetstuneError, ImportError):
    """A plugin is missing, cannot be imported, or does not keep to letstune's hooks."""


class StopTraining(Exception):
    """Raised by a trainer to end its trial early, as finished and not as failed.

    Args:
        metric_values: the metrics of the epoch in flight, which is then recorded like any other.
            Without them, the epoch in flight is not recorded.

    >>> raise StopTraining({"accuracy": 0.99})
    Traceback (most recent call last):
    ...
    letstune.errors.StopTraining: {'accuracy': 0.99}
    """

    def __init__(self, metric_values: object = None) -> None:
        super().__init__(*([] if metric_values is None else [metric_values]))
        self.metric_values = metric_values


class Interrupted(SystemExit):
    """The run was asked to stop; all that was recorded can be resumed.

    It is a `SystemExit` with code 75 ("try again later"), so that a script ends with that code,
    and no `except Exception` around `tune` takes an interruption for a failed experiment and goes
    on to the next.
    """

    def __init__(self, journal: str) -> None:
        super().__init__(75)
        self.journal = journal
