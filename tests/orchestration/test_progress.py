"""What a person reads when a step fails: the step's own words, and plain ones when it was interrupted."""

from __future__ import annotations

import logging

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from majors_alts_pipeline.lake.reader import LakeError
from majors_alts_pipeline.main_job import _Progress


def failure(error: BaseException) -> str:
    @dg.op
    def evidence() -> None:
        raise error

    progress = _Progress(lambda _: None, 1)

    @dg.logger
    def lines(_: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("progress", logging.DEBUG)
        logger.addHandler(progress)
        return logger

    @dg.job(logger_defs={"lines": lines})
    def job() -> None:
        evidence()

    with dg.DagsterInstance.ephemeral() as instance:
        job.execute_in_process({"loggers": {"lines": {}}}, instance=instance, raise_on_error=False)
    return progress.failure


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LakeError("no BTC"), "evidence: no BTC"),
        (
            DagsterExecutionInterruptedError(),
            "interrupted during evidence; finished stages are stored, run the same command again",
        ),
    ],
)
def test_the_failure_in_words(error: BaseException, words: str) -> None:
    assert failure(error) == words
