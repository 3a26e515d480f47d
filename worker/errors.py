"""Every error that the program names, under one base."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a message can never be recorded, as dead letters state it."""

    MALFORMED = "malformed"
    INVALID = "invalid"
    UNKNOWN_POLICY = "unknown_policy"
    CONTENT_MISMATCH = "content_mismatch"
    CONFLICT = "conflict"
    EXHAUSTED = "exhausted"


class AUPError(Exception):
    """Any error that this program raises on purpose; its text is one line for the user.

    Attributes:
        quotes_no_response: whether the text may be logged as it is.
    """

    quotes_no_response = True


class SettingsError(AUPError):
    """The settings are wrong or contradict each other.

    Attributes:
        problems: one line for each, naming the variable, its value and what is allowed.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class UsageError(AUPError):
    """The command was given something that it cannot work with."""


class JournalError(AUPError):
    """The journal of a replay is in use, or cannot be written."""


class EditError(AUPError):
    """A dead letter cannot be changed as the operator wants."""


class RefusedError(AUPError):
    """A message can never be recorded.

    Attributes:
        reason: the code that its dead letter carries.
        detail: one line for a person, without any value from the message's evidence.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class FutureError(RefusedError):
    """An acceptance is later than the clock that it was compared with allows."""


class AWSError(AUPError):
    """A call to AWS failed."""


class AWSThrottledError(AWSError):
    """AWS asks for fewer requests; the same call may succeed later."""


class AWSUnavailableError(AWSError):
    """AWS did not answer, or answered that it is broken; the same call may succeed later."""


class AWSAccessError(AWSError):
    """The call fails until somebody changes permissions, resources or settings."""


class AWSDeniedError(AWSAccessError):
    """AWS refuses our credentials or permissions."""


class AWSNotFoundError(AWSAccessError):
    """The queue or table does not exist."""


class AWSUnsupportedError(AWSAccessError):
    """The server does not support the operation."""


class AWSRejectedError(AWSError):
    """AWS finds the request itself wrong; the same call will fail again."""


class LeaseLostError(AWSError):
    """SQS no longer accepts the receipt handle: the message may be with somebody else."""


class SingletonConflictError(AUPError):
    """A singleton exists already, built from other arguments."""


class RepositoryClosedError(AUPError):
    """The repository was used after it was closed."""


class RepositoryLoopError(AUPError):
    """The repository belongs to another running event loop, or to the parent of this process."""


class PolicyConflictError(AUPError):
    """A published version of a policy cannot be changed."""


class PolicyNotFoundError(AUPError):
    """No such version of that policy is published."""


class StoppedError(AUPError):
    """A signal ended a verb before it was done."""


class GaveUpError(AUPError):
    """The service cannot go on and ends, for its supervisor to start it anew or call somebody."""


class BenchError(AUPError):
    """A measurement did not go as it must; its figures are worth nothing."""
