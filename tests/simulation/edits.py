"""Replays in which an operator edits the dead letters of one reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from types import MappingProxyType

from tests.simulation.origins import PlannedEdit
from tests.simulation.processes import ReplayProcess
from tests.simulation.traffic import PUBLISHED, TEXTS, Kind, SentMessage, sha256
from worker.domain.message import OutgoingMessage, ReceivedMessage
from worker.operations.dead_letters.edit import Assignment, EditFunction, edit_fields
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.replay_options import ReplayOptions

_OPERATORS = ("eve", "Zoë O'Neil")
_REASONS = ("content_mismatch", "unknown_policy", "invalid", "conflict")
# Kinds that no edit makes recordable.
_STAY = (Kind.FUTURE, Kind.OVERSIZED, Kind.MALFORMED)


class EditProcess(ReplayProcess):
    """Process that runs the real replay with an edit, which the audit learns beforehand."""

    def plan(self, rng: Random) -> None:
        """Draw the reason and the operator."""
        reason = rng.choice(_REASONS)
        operator = rng.choice(_OPERATORS)
        values = {
            "content_mismatch": {"content_sha256": sha256(TEXTS[PUBLISHED])},
            "unknown_policy": {"version": PUBLISHED, "content_sha256": sha256(TEXTS[PUBLISHED])},
            "invalid": {"user_id": f"u-{self.name}"},
            "conflict": {"event_id": f"e-{self.name}"},
        }[reason]
        self.filters = DeadLetterFilter(reasons=[reason])
        self.options = ReplayOptions(edit=self._edit(values, operator), operator=operator)

    def _edit(self, values: Mapping[str, str], operator: str) -> EditFunction:
        edit = edit_fields([Assignment((name,), value) for name, value in values.items()])

        def planned(message: ReceivedMessage) -> OutgoingMessage:
            wanted = edit(message)
            if wanted.body != message.body:
                before = self.world.audit.sent_messages[message.body]
                result = _result(before, wanted.body, values)
                names = {name for name in values if before.stated.get(name) != values[name]}
                self.world.audit.origins.plan_edit(
                    PlannedEdit(message.body, operator, frozenset(names), result)
                )
            return wanted

        return planned


def _result(before: SentMessage, body: str, values: Mapping[str, str]) -> SentMessage:
    kind = before.kind if before.kind in _STAY else Kind.EDITED
    stated = MappingProxyType({**before.stated, **values})
    return replace(before, kind=kind, body=body, stated=stated, copies=1)
