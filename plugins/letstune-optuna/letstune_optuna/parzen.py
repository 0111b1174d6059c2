"""What TPE makes of trials without a result, which it has no place for."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from optuna.samplers import TPESampler
from optuna.samplers._tpe.sampler import default_gamma
from optuna.study import Study
from optuna.trial import FrozenTrial

from letstune_optuna.told import is_lost

_CAUTION: Final = 2
"""The power of the chance of a result. In searches of which a third to nineteen twentieths fails,
2 had fewer failures than 1, or than a limit at one half, and better results."""


def keep_away(sampler: TPESampler, lost: int) -> None:
    """Make a sampler, which is used for one proposal, keep away from trials without a result.

    TPE takes the best tenth of all trials for good. It draws params like these, and proposes those
    that are least like the other nine tenths. That what has no result is the last of them is not
    enough:

    - While less than a tenth has a result, failures would be good. None is. With no good trial, TPE
      draws from the prior, and keeps away from the others.
    - Where the good ones are next to what fails, half of what is drawn is beyond, and gaps between
      failures look like nothing that was tried. So what it maximizes is multiplied by the chance
      that params have a result, by the densities of those that have one and those that do not, as
      in c-TPE (Watanabe and Hutter, 2023).

    Args:
        sampler: is changed.
        lost: how many trials have no result.
    """
    how_many, model = sampler._gamma or default_gamma, _Model(sampler)
    vars(sampler).update(
        _gamma=lambda n: min(how_many(n), n - lost),
        _build_parzen_estimator=model.build,
        _compute_acquisition_func=model.compare,
    )


class _Model:
    """Stands between a sampler and its estimators."""

    def __init__(self, sampler: TPESampler) -> None:
        self._build = sampler._build_parzen_estimator
        self._compare = sampler._compute_acquisition_func
        self._trials: list[FrozenTrial] = []

    def build(
        self, study: Study, space: dict[str, Any], trials: list[FrozenTrial], handle_below: bool
    ) -> Any:
        """Return the estimator of some trials: the good ones first, and then the others."""
        self._study, self._space = study, space
        self._trials = trials if handle_below else [*self._trials, *trials]
        return self._build(study, space, trials, handle_below)

    def compare(self, samples: dict[str, np.ndarray[Any, Any]], good: Any, others: Any) -> Any:
        """Return how promising samples are, as logarithms."""
        # By number, since an estimator makes less of what was long ago.
        there = sorted(
            (
                t
                for t in self._trials
                if t.state.is_finished() and self._space.keys() <= t.params.keys()
            ),
            key=lambda trial: trial.number,
        )
        with_result, without = (
            self._build(self._study, self._space, trials, False).log_pdf(samples)
            # Half a trial more, so that nothing is certain.
            + np.log(len(trials) + 0.5)
            for trials in ([t for t in there if not is_lost(t)], [t for t in there if is_lost(t)])
        )
        chance = with_result - np.logaddexp(with_result, without)
        return self._compare(samples, good, others) + _CAUTION * chance
