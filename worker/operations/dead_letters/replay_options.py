"""Options of a replay, and the message that they make of a dead letter."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from worker.domain.dead_letter import Edit, mark_replayed, original, replays
from worker.domain.message import MESSAGE_MAX_BYTES, OutgoingMessage
from worker.errors import EditError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.dry_run import DryRun
from worker.operations.dead_letters.edit import Repair, changed
from worker.operations.dead_letters.journal import Journal, Progress, content_digest


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How dead letters are replayed.

    Attributes:
        rate_per_second: at most; unbounded if absent.
        max_replays: how often a message may have been replayed before; any number if absent.
        repair: what to send instead of the message as it was.
        operator: who repairs.
        journal: where it is noted what was sent.
        max_bytes: MaximumMessageSize of the queue that they are sent to.
        forecast: predicts what would be dead-lettered again, which is held back; if absent,
            everything is sent.
    """

    rate_per_second: float | None = None
    max_replays: int | None = None
    repair: Repair | None = None
    operator: str = ""
    journal: Journal | None = None
    max_bytes: int = MESSAGE_MAX_BYTES
    forecast: DryRun | None = None

    def too_often(self, letter: DeadLetter) -> str:
        """Say why a dead letter is not to be replayed again; empty if it may be."""
        count = replays(letter.message).count
        if self.max_replays is None or count < self.max_replays:
            return ""
        return f"replayed {count} times already (--max-replays {self.max_replays})"

    def was_sent(self, letter: DeadLetter, sent: Progress) -> bool:
        """Return whether the message to send for a dead letter was sent before."""
        if letter.message_id not in sent.outstanding:
            return False
        plain = original(letter.message)
        try:
            wanted = plain if self.repair is None else self.repair(letter.message)
        except EditError:
            return False
        content = content_digest(wanted)
        return sent.was_sent(letter.message_id, letter.message.body, content)

    def prepare(self, letter: DeadLetter, at: datetime) -> OutgoingMessage:
        """Give the message to send.

        Raises:
            UnrepairableError: it cannot be repaired, or SQS would refuse it.
        """
        plain = original(letter.message)
        wanted = plain if self.repair is None else self.repair(letter.message)
        names = changed(plain, wanted) if wanted is not plain else ()
        edit = Edit(at.isoformat(timespec="milliseconds"), self.operator, names) if names else None
        message = mark_replayed(wanted, at, edit, max_bytes=self.max_bytes)
        refused = message.why_refused(self.max_bytes)
        if refused:
            raise EditError(refused)
        return message
