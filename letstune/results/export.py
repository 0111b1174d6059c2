"""A run in a format that other programs read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from letstune.telling.formats import to_csv, to_json, to_parquet

if TYPE_CHECKING:
    from letstune.results.results import TuningResults

FORMATS: Final = ("csv", "json", "parquet")
"""What letstune writes without a plugin."""


def exported(
    results: TuningResults[Any], form: str, *, epochs: bool = False, raw: bool = False
) -> bytes:
    """Return all trials of a run, best first, as the content of a file.

    Args:
        results: those of the run.
        form: one of `FORMATS`.
        epochs: return all epochs instead.
        raw: of CSV, leave text as it is; see `to_csv`.

    Raises:
        MissingPackageError: it is parquet, and pandas or pyarrow is not installed.
    """
    if form == "parquet":
        return to_parquet(results.epochs_df() if epochs else results.to_df())
    rows = list(results.epoch_rows() if epochs else results.rows())
    return (to_csv(rows, raw=raw) if form == "csv" else to_json(rows) + "\n").encode()
