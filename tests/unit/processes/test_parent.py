"""Decisions of the parent; tests/process runs it with its children."""

from __future__ import annotations

from tests.unit.processes.test_status import processes, snapshot
from worker.errors import AUPError, GaveUpError, SettingsError
from worker.processes.parent import Parent, _End

DIED = _End("was killed by SIGKILL")


def _decision(end: _End, deaths: int, *, is_other_ready: bool) -> AUPError | None:
    status, _ = processes()
    status.update(1, snapshot(not_ready=[] if is_other_ready else ["denied"]))
    return Parent(status, 2)._reason_to_give_up(2, end, deaths)


async def test_process_that_died_is_restarted_four_times_in_a_row() -> None:
    assert _decision(DIED, 4, is_other_ready=False) is None
    error = _decision(DIED, 5, is_other_ready=True)
    assert str(error) == "process 2 died 5 times in a row: it was killed by SIGKILL"


async def test_process_that_gave_up_ends_the_service_only_if_no_other_is_ready() -> None:
    failure = GaveUpError("denied")
    end = _End("exited with code 1", failure=failure)
    assert _decision(end, 1, is_other_ready=True) is None
    assert _decision(end, 1, is_other_ready=False) is failure


async def test_settings_that_do_not_fit_always_end_the_service() -> None:
    failure = SettingsError(["AUP_QUEUE: no"])
    assert _decision(_End("exited with code 1", failure=failure), 1, is_other_ready=True) is failure
