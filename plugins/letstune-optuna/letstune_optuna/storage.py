"""An Optuna storage for one question: what would come next, after these trials?"""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from typing import Any, Final, NoReturn

from optuna.distributions import BaseDistribution
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

_NAME: Final = "letstune"
_STUDY: Final = 0
_NOP: Final = NopPruner()


class HistoryStorage(BaseStorage):
    """The trials of a history, and the one that is being proposed.

    Optuna's own `InMemoryStorage` cannot forget a trial, nor change one that is finished; but
    what a proposal leaves behind must not be there for the next one.

    Args:
        trials: those told, in order. The storage keeps the list, and never changes it.
        asked: the one to be proposed.
        attrs: the study's system attributes, to which a sampler adds.
    """

    def __init__(
        self, trials: list[FrozenTrial], asked: FrozenTrial, attrs: dict[str, Any]
    ) -> None:
        self._trials = [*trials, asked]
        self._asked = asked
        self._attrs = attrs

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials that are in one of these states."""
        trials = self._trials
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return the trial of that id."""
        if trial_id == self._asked._trial_id:
            return self._asked
        for trial in self._trials:
            if trial._trial_id == trial_id:
                return trial
        raise KeyError(f"There is no trial {trial_id}.")

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of a trial."""
        self.get_trial(trial_id).system_attrs[key] = value

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Set a parameter of a trial."""
        trial = self.get_trial(trial_id)
        trial.distributions[param_name] = distribution
        trial.params[param_name] = distribution.to_external_repr(param_value_internal)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the study's attributes."""
        return self._attrs

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set one of them."""
        self._attrs[key] = value

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return that the more, the better."""
        return [StudyDirection.MAXIMIZE]

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return the only study."""
        return _STUDY

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return its name."""
        return _NAME

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return that there are none."""
        return {}

    def _refuse(self) -> NoReturn:
        raise NotImplementedError("A sampler of letstune can only propose, not change its study.")

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """Refuse."""
        self._refuse()

    def delete_study(self, study_id: int) -> None:
        """Refuse."""
        self._refuse()

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Refuse."""
        self._refuse()

    def get_all_studies(self) -> list[Any]:
        """Refuse."""
        self._refuse()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Refuse."""
        self._refuse()

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Refuse."""
        self._refuse()

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Refuse."""
        self._refuse()

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Refuse."""
        self._refuse()


def make_study(
    trials: list[FrozenTrial],
    asked: FrozenTrial,
    sampler: BaseSampler,
    attrs: dict[str, Any] | None = None,
) -> Study:
    """Return a study of these trials, for one proposal.

    It is a new one each time: a study keeps a list of its trials, and nobody could say when that is
    stale.
    """
    storage = HistoryStorage(trials, asked, {} if attrs is None else attrs)
    return Study(_NAME, storage, sampler=sampler, pruner=_NOP)


def running(number: int) -> FrozenTrial:
    """Return a trial of that number that has no params yet."""
    return make_trial(number, TrialState.RUNNING)


def make_trial(
    number: int,
    state: TrialState,
    value: float | None = None,
    params: dict[str, Any] | None = None,
    distributions: dict[str, BaseDistribution] | None = None,
    intermediate: dict[int, float] | None = None,
) -> FrozenTrial:
    """Return a trial, without the checks of `optuna.trial.create_trial`, which cost more."""
    return FrozenTrial(
        number=number,
        state=state,
        value=value,
        datetime_start=None,
        datetime_complete=None,
        params={} if params is None else params,
        distributions={} if distributions is None else distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values={} if intermediate is None else intermediate,
        trial_id=number,
    )
