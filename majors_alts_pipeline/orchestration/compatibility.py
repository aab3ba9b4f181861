"""Which Dagster versions this folder's few uses of Dagster's internals were tested with."""

import dagster as dg

TESTED_VERSIONS = frozenset({"1.13.27"})


def is_tested_dagster() -> bool:
    """Whether internals may be used; under any other version the callers keep to stock behaviour."""
    return dg.__version__ in TESTED_VERSIONS
