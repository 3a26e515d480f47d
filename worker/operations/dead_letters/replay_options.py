"""Options of a replay, and the message that they produce for a dead letter."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from worker.domain.dead_letter import body_sha256, mark_replayed, origin, original, replays
from worker.domain.message import MESSAGE_MAX_BYTES, OutgoingMessage
from worker.domain.origin import Edit
from worker.errors import EditError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.dry_run import DryRun
from worker.operations.dead_letters.edit import EditFunction, changed_names
from worker.operations.dead_letters.journal import Journal, Progress, content_digest


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """Options of a replay.

    Attributes:
        rate_per_second: Maximum rate of messages; None for no limit.
        max_replays: Skip messages that were replayed this often; None for no limit.
        edit: Returns the message to send for a dead letter; None to send the original.
        operator: Name of the person who edits.
        journal: Journal that records what was sent; None for none.
        max_bytes: MaximumMessageSize of the destination queue.
        dry_run: Predicts the outcome of a message. A replay holds back those that would be
            dead-lettered again; None to send all of them.
    """

    rate_per_second: float | None = None
    max_replays: int | None = None
    edit: EditFunction | None = None
    operator: str = ""
    journal: Journal | None = None
    max_bytes: int = MESSAGE_MAX_BYTES
    dry_run: DryRun | None = None

    def skip_reason(self, dead_letter: DeadLetter) -> str:
        """Return why a dead letter must not be replayed again; empty if it may be."""
        count = replays(dead_letter.message).count
        if self.max_replays is None or count < self.max_replays:
            return ""
        return f"replayed {count} times already (--max-replays {self.max_replays})"

    def was_sent(self, dead_letter: DeadLetter, sent: Progress) -> bool:
        """Return whether an earlier run sent the message for a dead letter."""
        if dead_letter.message_id not in sent.outstanding:
            return False
        try:
            wanted = self._edited(dead_letter, original(dead_letter.message))
        except EditError:
            return False
        content = content_digest(wanted)
        return sent.was_sent(dead_letter.message_id, dead_letter.message.body, content)

    def prepare(self, dead_letter: DeadLetter, at: datetime) -> OutgoingMessage:
        """Return the message to send for a dead letter, marked as replayed.

        Raises:
            EditError: The dead letter cannot be edited, or SQS would refuse the message.
        """
        plain = original(dead_letter.message)
        wanted = self._edited(dead_letter, plain)
        names = changed_names(plain, wanted) if wanted is not plain else ()
        edit = None
        if names:
            moment = at.isoformat(timespec="milliseconds")
            edit = Edit(moment, self.operator, names, body_sha256(plain.body))
        message = mark_replayed(wanted, at, origin(dead_letter.message), edit)
        refused = message.why_refused(self.max_bytes)
        if refused:
            raise EditError(refused)
        return message

    def _edited(self, dead_letter: DeadLetter, plain: OutgoingMessage) -> OutgoingMessage:
        return plain if self.edit is None else self.edit(dead_letter.message)
