"""Share of each child in the limits of the service."""

from __future__ import annotations

from tests.unit.fakes import settings
from worker.processes.environment import child_environment


def test_limits_of_the_service_are_divided() -> None:
    chosen = settings(
        held_mib=64, slots=700, poll_concurrency=9,
        aws=settings().aws.model_copy(update={"write_concurrency": 16}),
    )  # fmt: skip
    found = child_environment(chosen, 4, {"AUP_SLOTS": "700", "aup_held_mib": "64", "PATH": "/bin"})
    assert found == {
        "AUP_SLOTS": "700",
        "PATH": "/bin",
        "AUP_HELD_MIB": "16",
        "AUP_WRITE_CONCURRENCY": "4",
        "AUP_POLL_CONCURRENCY": "2",
    }


def test_share_is_at_least_1() -> None:
    found = child_environment(settings(held_mib=2), 8, {})
    assert found["AUP_HELD_MIB"] == "1"


def test_what_the_parent_does_is_off_in_children() -> None:
    names = (
        "AUP_PROCESSES", "AUP_HEALTH_PORT", "AUP_EMF", "AUP_ECS_PROTECTION", "NOTIFY_SOCKET",
        "WATCHDOG_PID", "WATCHDOG_USEC",
    )  # fmt: skip
    environment = dict.fromkeys(names, "1") | {"aup_processes": "auto"}
    assert not {*names, "aup_processes"} & set(child_environment(settings(), 2, environment))
