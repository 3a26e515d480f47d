"""Exceptions of the program, with one base class."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Reason codes of dead letters: why a message can never be recorded."""

    MALFORMED = "malformed"
    INVALID = "invalid"
    UNKNOWN_POLICY = "unknown_policy"
    CONTENT_MISMATCH = "content_mismatch"
    CONFLICT = "conflict"
    EXHAUSTED = "exhausted"


class AUPError(Exception):
    """Base class of expected errors; the text is one line for the user.

    Attributes:
        quotes_no_response: Whether the text may be logged unchanged.
    """

    quotes_no_response = True


class SettingsError(AUPError):
    """Settings are invalid or contradict each other.

    Attributes:
        problems: One line each, with the variable, its value and the requirement.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class UsageError(AUPError):
    """A command has invalid arguments or input."""


class JournalError(AUPError):
    """The journal of a replay is in use or cannot be written."""


class EditError(AUPError):
    """A dead letter cannot be edited as requested."""


class InvalidAcceptanceError(AUPError):
    """An acceptance cannot be sent as it is.

    Attributes:
        problems: One line for each invalid acceptance, without personal data.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class PublisherClosedError(AUPError):
    """The publisher was used after its block had ended."""


class RefusedError(AUPError):
    """A message can never be recorded.

    Attributes:
        reason: Reason code of the dead letter.
        detail: One line for the operator, without personal data of the message.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class FutureError(RefusedError):
    """The time of an acceptance is in the future by more than the tolerated clock skew."""


class AWSError(AUPError):
    """A call to AWS failed."""


class AWSThrottledError(AWSError):
    """AWS throttles the call; it may succeed later."""


class AWSUnavailableError(AWSError):
    """AWS does not respond or reports a server error; the call may succeed later."""


class AWSAccessError(AWSError):
    """The call fails until permissions, resources or settings are changed."""


class AWSDeniedError(AWSAccessError):
    """AWS rejects the credentials or denies access."""


class AWSNotFoundError(AWSAccessError):
    """The queue or table does not exist."""


class AWSUnsupportedError(AWSAccessError):
    """The server does not support the operation."""


class AWSRejectedError(AWSError):
    """AWS rejects the request as invalid; the same call will fail again."""


class AlteredTextError(AWSRejectedError):
    """A stored text of a policy does not have its hash."""


class LeaseLostError(AWSError):
    """SQS no longer accepts the receipt handle; another consumer may have received the message."""


class SingletonConflictError(AUPError):
    """The singleton already exists with different arguments."""


class RepositoryClosedError(AUPError):
    """The repository was used after it was closed."""


class RepositoryLoopError(AUPError):
    """The repository belongs to another running event loop or to the parent process."""


class PolicyConflictError(AUPError):
    """A published version of a policy cannot be changed."""


class PolicyNotFoundError(AUPError):
    """The policy version is not published."""


class StoppedError(AUPError):
    """A signal stopped a verb before it was complete."""


class GaveUpError(AUPError):
    """The service cannot continue and exits, so that the process manager restarts it or alerts."""


class BenchError(AUPError):
    """A measurement is invalid."""
