"""The laws that every sampler must keep."""

from __future__ import annotations

from importlib.util import find_spec

import optuna
import own_samplers as own
import pytest
from letstune import Sampler
from letstune.testing import SamplerSuite

from letstune_optuna import CMAES, GP, NSGAII, QMC, TPE, OptunaSampler


class TestTPE(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return TPE(n_startup_trials=4)


class TestMultivariateTPE(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return TPE(n_startup_trials=4, multivariate=True, group=True)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
class TestGP(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return GP(n_startup_trials=4)

    @pytest.fixture
    def examples(self) -> int:
        return 3


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


class TestRandom(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return OptunaSampler(optuna.samplers.RandomSampler())


class TestPartlyFixed(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        base = optuna.samplers.TPESampler(n_startup_trials=4)
        return OptunaSampler(own.fixed(base, x=0.25))


class TestSequenceSeededByTheSystem(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return OptunaSampler(own.unseeded_qmc())


class TestOwnWithAHelper(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return OptunaSampler(own.HELPED["lazy"]())
