"""Where things are found and where they land: one set of paths for all commands, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Paths:
    """Locations of one study.

    Attributes:
        lake: the configured lake (directory, DuckDB file or URL), or None to use the simulated one.
        config: the user's YAML, or None for the defaults.
        artifacts: directory of the results; may be deleted at any time and rebuilt.
        cache: directory of ephemeral things; may be deleted at any time and rebuilt.
    """

    lake: str | None
    config: Path | None
    artifacts: Path
    cache: Path

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Paths:
        """Paths from ``MAJORS_ALTS_LAKE``, ``_CONFIG``, ``_OUT`` and ``_CACHE``.

        An empty value counts as unset. Relative paths are taken from the working directory and
        made absolute; defaults lie in the repository.
        """
        values = os.environ if environ is None else environ

        def path(name: str) -> Path | None:
            value = values.get(f"MAJORS_ALTS_{name}", "")
            return Path(value).expanduser().absolute() if value else None

        lake = values.get("MAJORS_ALTS_LAKE", "")
        return cls(
            lake=(lake if "://" in lake else str(Path(lake).expanduser().absolute())) if lake else None,
            config=path("CONFIG"),
            artifacts=path("OUT") or REPOSITORY / "artifacts",
            cache=path("CACHE") or REPOSITORY / "cache",
        )

    @property
    def simulated_lake(self) -> Path:
        """Where the simulated lake is written when no lake is configured."""
        return self.cache / "simulated_lake"

    @property
    def lake_location(self) -> str:
        """The lake in use: the configured one, else the simulated one."""
        return self.lake or str(self.simulated_lake)

    @property
    def signals(self) -> Path:
        """File of the live decision."""
        return self.artifacts / "signals.json"
