"""The study registry: append-only, nothing lost, nothing overwritten, damage named, trials counted once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from polars.testing import assert_frame_equal

from majors_alts_pipeline.config import Settings, load_settings
from majors_alts_pipeline.evidence.registry import (
    CANDIDATE,
    LINEAGE_DAYS,
    REGISTRY,
    REPEAT_DAYS,
    RUN,
    Origin,
    Registry,
    RegistryError,
    Trial,
    count_trials,
    lineage_of,
    trial_id,
    trial_returns,
)
from majors_alts_pipeline.lake.reader import LakeSource, cut

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
FIRST = date(2024, 1, 1)


def origin(lineage: str = "lake-a", hours: int = 0, code: str = "code") -> Origin:
    return Origin(NOON + timedelta(hours=hours), "study", code, "fingerprint", lineage, True)


def trial(name: str, kind: str = RUN, n_days: int = 100, start: date = FIRST, seed: int = 0, error: str = "") -> Trial:
    return Trial(
        trial=name, kind=kind, label=name, settings={"basket.n_alts": 8}, seed=seed, first_day=start,
        last_day=start + timedelta(days=n_days - 1), n_days=n_days, metrics={"sharpe": 0.5, "cagr": float("nan")},
        error=error, returns_from=None if error else start,
        returns=None if error else np.random.default_rng(seed).normal(0.0, 0.01, n_days),
    )  # fmt: skip


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_an_empty_registry_has_no_trial(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "none")
    assert_frame_equal(registry.read(), REGISTRY.empty())
    assert count_trials(registry.read(), "lake-a") == 0
    assert registry.append([], origin()) is None
    assert not (tmp_path / "none").exists()


def test_what_is_registered_is_read_back_and_never_touched_again(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.append([trial("a", seed=1)], origin())
    before = hashes(tmp_path)
    registry.append([trial("a", seed=1), trial("b", error="lake: no BTC")], origin(hours=1))
    after = hashes(tmp_path)
    assert {name: after[name] for name in before} == before
    rows = registry.read()
    assert rows["trial"].to_list() == ["a", "a", "b"]
    assert rows["status"].to_list() == ["ok", "ok", "failed"]
    assert rows["error"].to_list() == ["", "", "lake: no BTC"]
    assert rows["time"].to_list() == [NOON, NOON + timedelta(hours=1), NOON + timedelta(hours=1)]
    assert rows["cagr"].null_count() == 3
    np.testing.assert_allclose(rows["returns"][0].to_numpy(), trial("a", seed=1).returns, rtol=1e-6)
    assert count_trials(rows, "lake-a") == 1, "a repeated run is one trial, a failed one shows no return to choose by"
    assert count_trials(rows, "lake-b") == 0


def _register(arguments: tuple[Path, int]) -> None:
    root, number = arguments
    Registry(root).append([trial(f"{number}", seed=number)], origin())


def test_runs_at_once_lose_nothing(tmp_path: Path) -> None:
    # Spawned: Polars' threads do not survive a fork.
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_register, [(tmp_path, number) for number in range(12)]))
    assert set(Registry(tmp_path).read()["trial"]) == {str(number) for number in range(12)}
    assert not list(tmp_path.glob(".*")), "temporary files are gone"


def test_the_same_batch_twice_is_one_file(tmp_path: Path) -> None:
    paths = {Registry(tmp_path).append([trial("a")], origin()) for _ in range(2)}
    assert len(paths) == 1
    assert Registry(tmp_path).read().height == 1


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "foreign"])
def test_a_damaged_file_is_named_and_stops_reading_and_writing(tmp_path: Path, damage: str) -> None:
    registry = Registry(tmp_path)
    path = registry.append([trial("a")], origin())
    assert path is not None
    data = bytearray(path.read_bytes())
    if damage == "bit":
        data[len(data) // 2] ^= 1
    if damage == "foreign":
        path = path.rename(tmp_path / "mine.parquet")
    path.write_bytes({"cut": data[:-20], "empty": b""}.get(damage, bytes(data)))
    for attempt in (registry.read, lambda: registry.append([trial("b")], origin(hours=1))):
        with pytest.raises(RegistryError, match=path.name):
            attempt()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="cannot write under"):
        Registry(tmp_path / "file" / "registry").append([trial("a")], origin())


def test_derived_trials_are_counted_once_until_the_window_has_grown(tmp_path: Path) -> None:
    registry = Registry(tmp_path)

    def registered(n_days: int, hours: int, code: str = "code", kind: str = CANDIDATE) -> bool:
        return registry.append([trial("a", kind, n_days)], origin(hours=hours, code=code)) is not None

    assert registered(100, 0)
    assert not registered(100 + REPEAT_DAYS - 1, 1)
    assert registered(100 + REPEAT_DAYS, 2)
    assert registered(100, 3, code="newer")
    assert registered(100, 4, kind=RUN)
    assert registered(100, 5, kind=RUN)
    assert count_trials(registry.read(), "lake-a") == 1
    assert registry.append([trial("a", CANDIDATE)], origin("lake-b", hours=6)) is not None


def test_returns_of_trials_are_aligned_on_shared_days(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    late = FIRST + timedelta(days=10)
    registry.append(
        [trial("long", n_days=100, seed=1), trial("late", n_days=90, start=late, seed=2),
         trial("short", n_days=20, seed=3), trial("failed", error="x")],
        origin(),
    )  # fmt: skip
    registry.append([trial("other lake", seed=4)], origin("lake-b"))
    held = trial_returns(registry.read(), "lake-a", "regime")
    assert held.columns == ["date", "late", "long"]
    assert (held["date"][0], held.height) == (late, 90)
    np.testing.assert_allclose(held["long"].to_numpy(), trial("long", seed=1).returns[10:], rtol=1e-6)  # type: ignore[index]
    np.testing.assert_allclose(held["late"].to_numpy(), trial("late", n_days=90, seed=2).returns, rtol=1e-6)
    assert trial_returns(registry.read(), "lake-a", "always_on").height == 0


def changed(settings: Settings, section: str, **values: object) -> Settings:
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


def test_a_trial_is_what_can_change_an_account() -> None:
    base = load_settings()
    same: Sequence[Settings] = [changed(base, "evaluation", seed=base.evaluation.seed + 1)]
    other = [
        changed(base, "basket", n_alts=base.basket.n_alts + 1),
        changed(base, "costs", taker_fee=2 * base.costs.taker_fee),
        changed(base, "regime", enter=base.regime.enter / 2),
    ]
    assert {trial_id(item) for item in [base, *same]} == {trial_id(base)}
    assert len({trial_id(item) for item in [base, *other]}) == 1 + len(other)
    longer = changed(base, "regime", grid=base.regime.grid.model_copy(update={"smoothing_days": (2,)}))
    assert trial_id(longer, "composite/1") == trial_id(base, "composite/1")
    assert trial_id(base, "composite/1") != trial_id(base, "composite/2")


def test_the_lineage_stays_while_the_lake_grows(small_lake: LakeSource) -> None:
    first = small_lake.first_day()
    lineages = [
        lineage_of(cut(small_lake, first + timedelta(days=days - 1))) for days in (LINEAGE_DAYS - 1, LINEAGE_DAYS, 200)
    ]
    assert lineages[1] == lineages[2] == lineage_of(small_lake)
    assert lineages[0] != lineages[1]
