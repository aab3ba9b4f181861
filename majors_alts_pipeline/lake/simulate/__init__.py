"""The market simulator: a lake whose truth is known.

    lake = simulate(SimulationSpec(n_alts=60, n_days=1500, regime_effect=0.002))
    lake.tables["fact_price"], lake.truth.regimes

One spec, one lake: same spec, same bytes.
"""

from majors_alts_pipeline.lake.simulate.glitches import GlitchError
from majors_alts_pipeline.lake.simulate.lake import (
    MARKER,
    LakeExistsError,
    LakeTables,
    SimulatedLake,
    Truth,
    simulate,
    write_lake,
)
from majors_alts_pipeline.lake.simulate.spec import Glitches, SimulationSpec

__all__ = [
    "MARKER",
    "GlitchError",
    "Glitches",
    "LakeExistsError",
    "LakeTables",
    "SimulatedLake",
    "SimulationSpec",
    "Truth",
    "simulate",
    "write_lake",
]
