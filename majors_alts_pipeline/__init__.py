"""Point-in-time research pipeline: when does long BTC/ETH against a short alt basket pay after costs and funding.

import majors_alts_pipeline as ma
betas = ma.read("betas", "2025-01-01", "2025-06-30").collect()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from majors_alts_pipeline.access import read, table_columns

__all__ = ["__version__", "read", "table_columns"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Lazily, so that `import majors_alts_pipeline` stays free of Polars for Dagster's start-up.
    if name in {"read", "table_columns"}:
        from majors_alts_pipeline import access

        return getattr(access, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
