"""The variants of a sweep as a surface over two parameters: whether the best one is on a plateau or on a peak."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

_KEPT = 0.5
"""Share of the best cell's lead over the median cell that its neighbours keep on a plateau."""


@dataclass(frozen=True)
class Surface:
    """Mean net Sharpe ratio over two parameters of a sweep, all others averaged out.

    Attributes:
        x: dotted key of the more influential parameter.
        y: dotted key of the other.
        cells: (x, y, sharpe, n_variants, x_rank, y_rank): values as text, in the order of their numbers.
        configured: values of variant 0, as text.
        of_study: variant 0 is the study itself, not another method with the study's settings.
        plateau: the neighbours of the best cell, one step along keys whose values are numbers, keep at least half of
            its lead over the median cell; None when it has no neighbour or no lead.
    """

    x: str
    y: str
    cells: pl.DataFrame
    configured: tuple[str, str]
    of_study: bool
    plateau: bool | None


def parameter_values(sweep: pl.DataFrame, settings: Mapping[str, Any]) -> pl.DataFrame:
    """Value of every parameter the sweep varies: (variant, sharpe, one text column of JSON per dotted key)."""
    overrides = [json.loads(text) for text in sweep["overrides"]]
    keys = sorted({key for one in overrides for key in one})
    base = {key: json.dumps(_configured(sweep, settings, key)) for key in keys}
    columns = {key: [json.dumps(one[key]) if key in one else base[key] for one in overrides] for key in keys}
    return sweep.select("variant", "sharpe").with_columns(pl.Series(key, values) for key, values in columns.items())


def influence(values: pl.DataFrame) -> pl.DataFrame:
    """Range of the mean Sharpe ratio over each parameter's values: (parameter, n_values, spread), largest first."""
    rows = []
    for key in values.columns[2:]:
        means = values.drop_nulls("sharpe").group_by(key).agg(pl.col("sharpe").mean())["sharpe"]
        if len(means) > 1:
            rows.append((key, len(means), _as_float(means.max()) - _as_float(means.min())))
    schema = {"parameter": pl.String, "n_values": pl.Int64, "spread": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("spread", "parameter", descending=[True, False])


def surface(sweep: pl.DataFrame, settings: Mapping[str, Any]) -> Surface | None:
    """Return the surface over the two most influential parameters; None when fewer than two vary."""
    values = parameter_values(sweep, settings)
    order = influence(values)["parameter"].head(2).to_list()
    if len(order) < 2:
        return None
    x, y = order
    means = (
        values.drop_nulls("sharpe")
        .group_by(x=pl.col(x), y=pl.col(y))
        .agg(sharpe=pl.col("sharpe").sort_by("variant").mean(), n_variants=pl.len())
    )
    ranked = means.with_columns(
        pl.col(name).replace_strict(_ranks(means[name]), return_dtype=pl.Int32).alias(f"{name}_rank")
        for name in ("x", "y")
    )
    cells = ranked.sort("x_rank", "y_rank")
    own_x, own_y = (json.dumps(_configured(sweep, settings, key)) for key in order)
    return Surface(x, y, cells, (own_x, own_y), is_of_study(sweep), _plateau(cells))


def is_of_study(sweep: pl.DataFrame) -> bool:
    """Whether variant 0 is the study itself; it is not when the study's method is not the one that is swept."""
    return not _own_overrides(sweep)


def relative(sweep: pl.DataFrame) -> pl.DataFrame:
    """The sweep with `overrides` less what every variant shares with variant 0."""
    own = _own_overrides(sweep)
    shown = [{k: v for k, v in json.loads(text).items() if k not in own or own[k] != v} for text in sweep["overrides"]]
    return sweep.with_columns(overrides=pl.Series([json.dumps(one) for one in shown], dtype=pl.String))


def _own_overrides(sweep: pl.DataFrame) -> dict[str, Any]:
    """What variant 0 differs from the study in."""
    own = sweep.filter(variant=0)["overrides"]
    found: dict[str, Any] = json.loads(own[0]) if len(own) else {}
    return found


def _configured(sweep: pl.DataFrame, settings: Mapping[str, Any], key: str) -> Any:
    """Value of a key in variant 0."""
    own = _own_overrides(sweep)
    return own[key] if key in own else _at(settings, key)


def _plateau(cells: pl.DataFrame) -> bool | None:
    """Judge the best cell by its neighbours: one step along each key whose values are numbers, none along names."""
    best = cells.sort("sharpe", "x_rank", "y_rank", descending=[True, False, False]).row(0, named=True)
    reach = {name: int(all(_is_number(json.loads(text)) for text in cells[name].unique())) for name in ("x", "y")}
    near = cells.filter(
        (pl.col("x_rank") - best["x_rank"]).abs() <= reach["x"],
        (pl.col("y_rank") - best["y_rank"]).abs() <= reach["y"],
        (pl.col("x_rank") != best["x_rank"]) | (pl.col("y_rank") != best["y_rank"]),
    )
    lead = best["sharpe"] - _as_float(cells["sharpe"].median())
    if not near.height or lead <= 0:
        return None
    return best["sharpe"] - _as_float(near["sharpe"].mean()) <= (1 - _KEPT) * lead


def _ranks(values: pl.Series) -> dict[str, int]:
    """Order of the distinct values: numbers by size, then everything else as text."""

    def key(text: str) -> tuple[bool, float, str]:
        value = json.loads(text)
        return not _is_number(value), value if _is_number(value) else 0.0, text

    return {text: rank for rank, text in enumerate(sorted(values.unique(), key=key))}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _at(settings: Mapping[str, Any], dotted: str) -> Any:
    value: Any = settings
    for part in dotted.split("."):
        value = value[part]
    return value


def _as_float(value: Any) -> float:
    return float(value)
