"""The laws that every sampler must keep."""

from __future__ import annotations

import pytest
from letstune import Sampler
from letstune.testing import SamplerSuite

from letstune_optuna import CMAES, NSGAII, QMC, TPE


class TestTPE(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return TPE(n_startup_trials=4)


class TestMultivariateTPE(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return TPE(n_startup_trials=4, multivariate=True, group=True)


class TestCMAES(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return CMAES()


class TestNSGAII(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return NSGAII(population_size=4)


class TestQMC(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return QMC()
