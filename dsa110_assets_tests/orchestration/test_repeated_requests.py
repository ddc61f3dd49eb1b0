"""A run that follows from finished tiles is requested again after a temporary failure, and only then."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import dagster as dg
import pytest
from sqlalchemy.exc import OperationalError

from dsa110_assets.errors import CalibrationQualityError, RegistryError
from dsa110_assets.orchestration.running import explained_failures
from dsa110_assets.orchestration.sensors import FIRST_PAUSE_S, LONGEST_PAUSE_S, WORK_TAG, temporary_failures, work_to_request
from dsa110_assets.stages.queue.work import FollowUp

WORK = "calibration/2026-03-12T05:10:04/7"
PERMANENT = CalibrationQualityError("0834+555", "half of the antennas are flagged", "look at the plots")
TEMPORARY = RegistryError("registry", "cannot be used (the server has restarted)", "the next attempt may succeed")
OF_DAGSTER = OperationalError("INSERT INTO event_logs", {}, Exception("server closed the connection unexpectedly"))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as one:
        yield one


def run_that_fails(instance: dg.DagsterInstance, error: Exception, work: str = WORK) -> None:
    @dg.op
    def solve() -> None:
        with explained_failures():
            raise error

    @dg.job(name="calibration")
    def calibration() -> None:
        solve()

    assert not calibration.execute_in_process(instance=instance, tags={WORK_TAG: work}, raise_on_error=False).success


def run_that_is_killed(instance: dg.DagsterInstance) -> None:
    @dg.job(name="calibration")
    def calibration() -> None:
        """Is killed before it reports anything."""

    instance.report_run_failed(instance.create_run_for_job(calibration, tags={WORK_TAG: WORK}, status=dg.DagsterRunStatus.STARTED))


def test_a_run_that_failed_permanently_is_not_requested_again(instance: dg.DagsterInstance) -> None:
    run_that_fails(instance, PERMANENT)
    assert temporary_failures(instance, WORK) == (0, 0.0), "the run key stays the same, and Dagster remembers it"


@pytest.mark.parametrize("error", [TEMPORARY, OF_DAGSTER, None])
def test_a_killed_run_or_a_temporary_failure_is_requested_again_after_a_pause(
    instance: dg.DagsterInstance, error: Exception | None
) -> None:
    for n in range(1, 12):
        if error is None:
            run_that_is_killed(instance)
        else:
            run_that_fails(instance, error)
        failed, pause_s = temporary_failures(instance, WORK)
        assert failed == n, "each request has a key of its own"
        longest = min(FIRST_PAUSE_S * 2 ** (n - 1), LONGEST_PAUSE_S)
        assert longest - 30 < pause_s <= longest
    run_that_fails(instance, PERMANENT)
    assert temporary_failures(instance, WORK)[0] == 11
    assert temporary_failures(instance, "calibration/another/8") == (0, 0.0)


def test_work_that_failed_for_good_does_not_hide_older_work(instance: dg.DagsterInstance) -> None:
    hours = [
        FollowUp("hour", f"hour/2026-03-12T{hour:02d}/1", "due", night="2026-03-12", hour=f"{hour:02d}") for hour in reversed(range(24))
    ]

    def three_newest(settled: Collection[str]) -> list[FollowUp]:
        return [work for work in hours if work.run_key not in settled][:3]

    for work in hours[:7]:
        run_that_fails(instance, PERMANENT, work.run_key)
    run_that_fails(instance, TEMPORARY, hours[7].run_key)
    assert work_to_request(instance, three_newest) == hours[7:10]
