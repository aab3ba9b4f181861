"""Long (date, asset) frames to dense (days x assets) arrays and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window, day_number


@dataclass(frozen=True)
class Dense:
    """Dense view of a long frame over every day of a window and a sorted list of assets.

    Attributes:
        window: days of the rows, none skipped.
        assets: column labels, sorted.
        rows: (n,) row index of each frame row.
        cols: (n,) column index of each frame row.
        frame: the long frame the view was made of.
    """

    window: Window
    assets: list[str]
    rows: np.ndarray
    cols: np.ndarray
    frame: pl.DataFrame

    @classmethod
    def of(cls, frame: pl.DataFrame, window: Window, assets: Sequence[str] | None = None) -> Dense:
        """Index `frame` (columns date, asset_id); rows outside `window` or `assets` are left out."""
        frame = window.keep(frame)
        labels = sorted(frame["asset_id"].unique().to_list()) if assets is None else list(assets)
        if assets is not None:
            frame = frame.filter(pl.col("asset_id").is_in(labels))
        index = pl.DataFrame(
            {"asset_id": labels, "col": np.arange(len(labels), dtype=np.int64)},
            schema={"asset_id": pl.String, "col": pl.Int64},
        )
        cols = frame.select("asset_id").join(index, on="asset_id", how="left", maintain_order="left")["col"].to_numpy()
        rows = frame["date"].to_physical().to_numpy().astype(np.int64) - day_number(window.start)
        return cls(window, labels, rows, cols, frame)

    @property
    def shape(self) -> tuple[int, int]:
        """(days, assets)."""
        return self.window.n_days, len(self.assets)

    def floats(self, column: str) -> np.ndarray:
        """(days, assets) float64 of `column`, NaN where there is no row or the value is null."""
        out = np.full(self.shape, np.nan)
        out[self.rows, self.cols] = self.frame[column].cast(pl.Float64).to_numpy()
        return out

    def bools(self, column: str) -> np.ndarray:
        """(days, assets) bool of `column`, False where there is no row or the value is null."""
        out = np.zeros(self.shape, dtype=bool)
        out[self.rows, self.cols] = self.frame[column].fill_null(False).to_numpy()
        return out


def long(mask: np.ndarray, window: Window, assets: Sequence[str], columns: dict[str, np.ndarray]) -> pl.DataFrame:
    """Rows of a long frame, sorted by date then asset, for the True cells of `mask`.

    Args:
        mask: (days, assets) bool.
        window: days of the mask's rows.
        assets: labels of the mask's columns.
        columns: name to (days, assets) array; NaN becomes null.
    """
    rows, cols = np.nonzero(mask)
    day = (rows + day_number(window.start)).astype(np.int32)
    labels = pl.Series("asset_id", list(assets), dtype=pl.String)
    frame = pl.DataFrame({"date": pl.Series(day).cast(pl.Date), "asset_id": labels.gather(cols)})
    return frame.with_columns(
        pl.Series(name, values[rows, cols]).fill_nan(None)
        if values.dtype.kind == "f"
        else pl.Series(name, values[rows, cols])
        for name, values in columns.items()
    )
