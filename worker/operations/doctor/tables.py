"""Checks of the tables: status, keys, capacity, protection and recovery."""

from __future__ import annotations

from typing import Final

from worker.errors import AWSDeniedError, AWSError, AWSNotFoundError
from worker.operations.doctor.result import CheckResult, failed, from_error, passed, unknown, warned
from worker.repository.inspection import TableState

POLICIES: Final = "policies"
ACCEPTANCES: Final = "acceptances"
# Setting with the name of each table; names and types of its partition key and sort key.
TABLES: Final = {
    POLICIES: ("AUP_TABLE_NAME", "policy_id (S), version (S)"),
    ACCEPTANCES: ("AUP_USER_TABLE_NAME", "user_id (S), policy_version (S)"),
}
# Statuses in which a table serves reads and writes.
_USABLE: Final = {"ACTIVE", "UPDATING"}


def of_table(table: str, state: TableState) -> list[CheckResult]:
    """Check a table.

    Args:
        table: `POLICIES` or `ACCEPTANCES`.
        state: its description.
    """
    return [
        _status(table, state),
        _keys(table, state),
        _billing(table, state),
        _deletion(table, state),
    ]


def not_described(table: str, error: AWSError) -> CheckResult:
    """Return the result for a table that cannot be described."""
    if isinstance(error, AWSNotFoundError):
        remedy = f"create it, or set {TABLES[table][0]} to another table"
        return failed(table, str(error), remedy)
    return from_error(table, error, remedy="check its name and the endpoint", needed=False)


def _status(table: str, state: TableState) -> CheckResult:
    found = f"{state.name}, {state.status}"
    if state.kms_key:
        found += f"; needs kms:Decrypt on {state.kms_key}"
    if state.status in _USABLE:
        return passed(table, found)
    return failed(table, found, "wait until it is ACTIVE, or check its KMS key")


def _keys(table: str, state: TableState) -> CheckResult:
    check, keys = f"{table}: keys", TABLES[table][1]
    found = ", ".join(f"{name} ({kind})" for name, kind in state.keys)
    if found != keys:
        return failed(check, found, f"create the table with the keys {keys}")
    return passed(check, found)


def _billing(table: str, state: TableState) -> CheckResult:
    check = f"{table}: billing"
    if state.write_units is None:
        return passed(check, "on demand")
    found = f"provisioned, throttles above {state.write_units} write units per second"
    return warned(check, found, "use on-demand capacity or auto scaling")


def _deletion(table: str, state: TableState) -> CheckResult:
    check = f"{table}: deletion protection"
    if state.is_deletion_protected:
        return passed(check, "on")
    return warned(check, "off", "set DeletionProtectionEnabled to true")


def recovery(table: str, outcome: bool | AWSError) -> CheckResult:
    """Check that point-in-time recovery is enabled."""
    check = f"{table}: recovery"
    if isinstance(outcome, AWSDeniedError):
        return from_error(check, outcome, remedy="", needed=False)
    if isinstance(outcome, AWSError):
        return unknown(check, str(outcome), "check whether this server supports it")
    if outcome:
        return passed(check, "point-in-time recovery is on")
    return warned(check, "off", "enable point-in-time recovery")
