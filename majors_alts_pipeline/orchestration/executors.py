"""Where steps run: the one function that knows.

Belongs here: the choice of executor. Does not belong here: where runs are launched (``dagster.yaml``).
https://docs.dagster.io/guides/operate/run-executors
"""

import os
from importlib import import_module

import dagster as dg

EXECUTOR_VARIABLE = "MAJORS_ALTS_EXECUTOR"
_KNOWN = {"in_process": dg.in_process_executor, "multiprocess": dg.multiprocess_executor}


def executor(name: str | None = None) -> dg.ExecutorDefinition:
    """Find the executor named by `name` or ``MAJORS_ALTS_EXECUTOR``.

    One of in_process (default), multiprocess, or module:attribute of any other.

    The chain has nothing to run side by side and every step of another process imports everything again, so
    one process is fastest on one machine; Polars and NumPy use its cores.

    Raises:
        ValueError: no such executor.
    """
    wanted = name or os.environ.get(EXECUTOR_VARIABLE) or "in_process"
    if wanted in _KNOWN:
        return _KNOWN[wanted]
    module, _, attribute = wanted.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{EXECUTOR_VARIABLE}={wanted!r}: expected {', '.join(_KNOWN)} or module:attribute ({error})"
        ) from error
    if not isinstance(found, dg.ExecutorDefinition):
        raise ValueError(f"{EXECUTOR_VARIABLE}={wanted!r} is a {type(found).__name__}, not an executor")
    return found
