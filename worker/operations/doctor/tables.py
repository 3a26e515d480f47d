"""Checks of the tables: status, keys, capacity, protection and recovery."""

from __future__ import annotations

from typing import Final

from worker.errors import AWSDeniedError, AWSError, AWSNotFoundError
from worker.operations.doctor.result import CheckResult, failed, from_error, passed, unknown, warned
from worker.repository.inspection import TableState

POLICIES: Final = "policies"
ACCEPTANCES: Final = "acceptances"
POLICY_KEYS: Final = ("policy_id", "version")
USER_KEYS: Final = ("user_id", "policy_version")
# Statuses in which a table serves reads and writes.
_USABLE: Final = {"ACTIVE", "UPDATING"}


def of_table(check: str, state: TableState, keys: tuple[str, str]) -> list[CheckResult]:
    """Check a table.

    Args:
        check: name of the table in the results.
        state: its description.
        keys: partition key and sort key that the service uses.
    """
    return [
        status(check, state),
        key_schema(check, state, keys),
        billing(check, state),
        deletion(check, state),
    ]


def not_described(check: str, variable: str, error: AWSError) -> CheckResult:
    """Return the result for a table that cannot be described."""
    if isinstance(error, AWSNotFoundError):
        return failed(check, str(error), f"create it, or set {variable} to another table")
    return from_error(check, error, remedy="check its name and the endpoint", needed=False)


def status(check: str, state: TableState) -> CheckResult:
    """Check that the table serves reads and writes."""
    found = f"{state.name}, {state.status}"
    if state.kms_key:
        found += f"; needs kms:Decrypt on {state.kms_key}"
    if state.status in _USABLE:
        return passed(check, found)
    return failed(check, found, "wait until it is ACTIVE, or check its KMS key")


def key_schema(check: str, state: TableState, keys: tuple[str, str]) -> CheckResult:
    """Check the names and types of the table's keys."""
    check = f"{check}: keys"
    found = ", ".join(f"{name} ({kind})" for name, kind in state.keys)
    if state.keys != tuple((name, "S") for name in keys):
        return failed(check, found, f"create the table with the keys {key_names(keys)}")
    return passed(check, found)


def key_names(keys: tuple[str, str]) -> str:
    """Return the names of the keys with their type, as in `user_id (S)`."""
    return ", ".join(f"{name} (S)" for name in keys)


def billing(check: str, state: TableState) -> CheckResult:
    """Check that write capacity grows with the load."""
    check = f"{check}: billing"
    if state.write_units is None:
        return passed(check, "on demand")
    return warned(
        check,
        f"provisioned, throttles above {state.write_units} write units per second",
        "use on-demand capacity or auto scaling",
    )


def deletion(check: str, state: TableState) -> CheckResult:
    """Check that the table is protected from deletion."""
    check = f"{check}: deletion protection"
    if state.is_deletion_protected:
        return passed(check, "on")
    return warned(check, "off", "set DeletionProtectionEnabled to true")


def recovery(check: str, outcome: bool | AWSError) -> CheckResult:
    """Check that point-in-time recovery is enabled."""
    check = f"{check}: recovery"
    if isinstance(outcome, AWSDeniedError):
        return from_error(check, outcome, remedy="", needed=False)
    if isinstance(outcome, AWSError):
        return unknown(check, str(outcome), "check whether this server supports it")
    if outcome:
        return passed(check, "point-in-time recovery is on")
    return warned(check, "off", "enable point-in-time recovery")
