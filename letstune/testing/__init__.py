"""The kit with which a plugin is proved: a suite of laws for each kind, and what runs it.

Subclass a suite in a test file of the plugin, and override the one fixture that makes the thing::

    class TestMySampler(SamplerSuite):
        @pytest.fixture
        def sampler(self):
            return MySampler()

Every law is a test. Override none of them: where plugins differ for a good reason, there is a
fixture that says so. Importing this needs pytest and Hypothesis: ``pip install letstune[testing]``.
"""

from letstune.errors import MissingPackageError

try:
    import hypothesis  # noqa: F401 (to see that it is there)
    import pytest
except ImportError as error:
    raise MissingPackageError(
        f"letstune.testing needs {error.name}, which is not installed:  "
        "pip install 'letstune[testing]'"
    ) from error

# So that a law that is broken shows the values, as in a test file.
pytest.register_assert_rewrite(
    "letstune.testing.executors", "letstune.testing.samplers", "letstune.testing.stores"
)

from letstune.testing.children import CAN_KILL, Child  # noqa: E402 (after the rewriting)
from letstune.testing.executors import ExecutorSuite  # noqa: E402
from letstune.testing.preemptions import Preemption, Victim, by_signals  # noqa: E402
from letstune.testing.runs import Job, facts  # noqa: E402
from letstune.testing.samplers import SamplerSuite  # noqa: E402
from letstune.testing.spaces import finite_spaces, spaces  # noqa: E402
from letstune.testing.stores import StoreSuite  # noqa: E402
from letstune.testing.verdicts import Verdict, check  # noqa: E402

__all__ = [
    "CAN_KILL",
    "Child",
    "ExecutorSuite",
    "Job",
    "Preemption",
    "SamplerSuite",
    "StoreSuite",
    "Verdict",
    "Victim",
    "by_signals",
    "check",
    "facts",
    "finite_spaces",
    "spaces",
]
