"""The tables as they are set up, against what the worker expects."""

from __future__ import annotations

from typing import Final

from worker.errors import AWSDeniedError, AWSError, AWSNotFoundError
from worker.operations.doctor.result import CheckResult, failed, passed, unanswered, unknown, warned
from worker.repository.inspection import TableState

POLICIES: Final = "policies"
ACCEPTANCES: Final = "acceptances"
POLICY_KEYS: Final = ("policy_id", "version")
USER_KEYS: Final = ("user_id", "policy_version")
# Of what holds no read or write up.
_USABLE: Final = {"ACTIVE", "UPDATING"}


def of_table(check: str, state: TableState, keys: tuple[str, str]) -> list[CheckResult]:
    """Check a table.

    Args:
        check: what it is called.
        state: how it is.
        keys: partition key and sort key that the worker uses.
    """
    return [
        status(check, state),
        key_schema(check, state, keys),
        billing(check, state),
        deletion(check, state),
    ]


def unseen(check: str, variable: str, error: AWSError) -> CheckResult:
    """Judge that a table cannot be described."""
    if isinstance(error, AWSNotFoundError):
        return failed(check, str(error), f"make it, or name another in {variable}")
    return unanswered(check, error, remedy="see its name and the endpoint", needed=False)


def status(check: str, state: TableState) -> CheckResult:
    """Check that the table takes reads and writes."""
    found = f"{state.name}, {state.status}"
    if state.kms_key:
        found += f"; needs kms:Decrypt on {state.kms_key}"
    if state.status in _USABLE:
        return passed(check, found)
    return failed(check, found, "wait until it is ACTIVE, or see what became of its key")


def key_schema(check: str, state: TableState, keys: tuple[str, str]) -> CheckResult:
    """Check that the table is keyed as the worker keys it."""
    check = f"{check}: keys"
    found = ", ".join(f"{name} ({kind})" for name, kind in state.keys)
    if state.keys != tuple((name, "S") for name in keys):
        wanted = ", ".join(f"{name} (S)" for name in keys)
        return failed(check, found, f"make the table anew, keyed by {wanted}")
    return passed(check, found)


def billing(check: str, state: TableState) -> CheckResult:
    """Check that the table's writes grow with the load; a record takes a write unit or more."""
    check = f"{check}: billing"
    if state.write_units is None:
        return passed(check, "on demand")
    return warned(
        check,
        f"provisioned, {state.write_units} write units a second: it throttles beyond",
        "set it on demand, or scale it with the load",
    )


def deletion(check: str, state: TableState) -> CheckResult:
    """Check that nobody deletes the evidence in passing."""
    check = f"{check}: deletion protection"
    if state.is_deletion_protected:
        return passed(check, "on")
    return warned(check, "off", "set DeletionProtectionEnabled")


def recovery(check: str, outcome: bool | AWSError) -> CheckResult:
    """Check that the table can be restored to any moment."""
    check = f"{check}: recovery"
    if isinstance(outcome, AWSDeniedError):
        return unanswered(check, outcome, remedy="", needed=False)
    if isinstance(outcome, AWSError):
        return unknown(check, str(outcome), "see whether this server has such a thing")
    if outcome:
        return passed(check, "to any moment of the last days")
    return warned(check, "off", "enable point-in-time recovery")
