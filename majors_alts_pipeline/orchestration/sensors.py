"""What happens when a run fails: it is logged, and an alert hook is called if one is configured.

Belongs here: reactions to runs. Does not belong here: the hook itself; name yours in ``MAJORS_ALTS_ALERT`` as
``module:function``. It is called with one string.
https://docs.dagster.io/guides/automate/sensors/run-status-sensors
"""

import os
from collections.abc import Callable
from importlib import import_module

import dagster as dg

ALERT_VARIABLE = "MAJORS_ALTS_ALERT"


@dg.run_failure_sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=f"Logs failed runs and calls the hook named in {ALERT_VARIABLE} (module:function).",
)
def run_failure(context: dg.RunFailureSensorContext) -> None:
    """Say which run failed on which days, and why."""
    message = failure_message(context)
    context.log.error(message)
    hook = alert_hook(os.environ.get(ALERT_VARIABLE, ""))
    if hook is not None:
        hook(message)


def failure_message(context: dg.RunFailureSensorContext) -> str:
    """One line: job, days, run id and the first line of the error."""
    run = context.dagster_run
    first = run.tags.get("dagster/partition") or run.tags.get("dagster/asset_partition_range_start", "")
    last = run.tags.get("dagster/asset_partition_range_end", first)
    days = f" on {first}" if first == last else f" on {first} to {last}"
    error = context.failure_event.message or "no message"
    return f"run {run.run_id} of {run.job_name} failed{days if first else ''}: {error}"


def alert_hook(name: str) -> Callable[[str], object] | None:
    """Find the function named ``module:function``, or None for an empty name.

    Raises:
        ValueError: the name has another form, or there is no such function.
    """
    if not name:
        return None
    module, _, function = name.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{ALERT_VARIABLE}={name!r}: expected module:function of an importable module ({error})"
        ) from error
