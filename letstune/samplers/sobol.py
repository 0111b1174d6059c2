"""The scrambled Sobol' sequence, point by point: any of them is a function of its number.

SciPy has the direction numbers and the scrambling; this module only makes a point independent of
the points that were asked for before.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from letstune.errors import MissingPackageError, PlanError
from letstune.rounds.seeding import Purpose, generator

if TYPE_CHECKING:
    import numpy as np

BITS: Final = 32  # SciPy's fast_forward takes no more
_BLOCK_VALUES: Final = 2**16


def sobol_point(seed: int, dimensions: int, number: int) -> list[float]:
    """Return a point of the sequence, counted from 0: numbers from 0 to below 1.

    Args:
        seed: decides the scrambling.
        dimensions: how many numbers a point has.
        number: which point.

    Raises:
        MissingPackageError: SciPy is not installed.

    Owen, "Scrambling Sobol' and Niederreiter-Xing points", Journal of Complexity 14, 1998, as done
    by `scipy.stats.qmc.Sobol`: a linear matrix scramble and a digital shift.
    """
    if not dimensions:
        return []
    # The size is a power of two, which suits the sequence; SciPy warns of others.
    size = 1 << max(0, min(10, (_BLOCK_VALUES // dimensions).bit_length() - 1))
    block, row = divmod(number, size)
    values: list[float] = _block(seed, dimensions, block * size, size)[row].tolist()
    return values


@lru_cache(maxsize=8)
def _block(seed: int, dimensions: int, first: int, size: int) -> np.ndarray[Any, Any]:
    """Return some points in a row; cached, since beginning takes a hundred times as long."""
    rng = generator(seed, Purpose.SCRAMBLE, 0, 0)
    engine = _qmc().Sobol(dimensions, scramble=True, bits=BITS, rng=rng)
    if first:  # SciPy cannot go forward by none
        engine.fast_forward(first)
    points: np.ndarray[Any, Any] = engine.random(size)
    return points


def check_dimensions(dimensions: int, name: str) -> None:
    """Make sure that there is such a sequence.

    Args:
        dimensions: how many numbers a point is to have.
        name: of the search space, for an error.

    Raises:
        MissingPackageError: SciPy is not installed.
        PlanError: there are too many dimensions.
    """
    most = _qmc().Sobol.MAXDIM
    if dimensions > most:
        raise PlanError(
            f"No Sobol' points: {name} has {dimensions} parameters, expected at most {most}. "
            "Use sampler='random'."
        )


def _qmc() -> Any:
    try:
        from scipy.stats import qmc  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise MissingPackageError(
            "Samplers 'sobol' and 'bayes' need SciPy, which is not installed:  pip install scipy"
        ) from error
    return qmc
