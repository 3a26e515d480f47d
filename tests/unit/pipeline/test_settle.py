"""Tests of deletes, returns and dead letters, entry by entry."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import (
    Answer,
    FakeQueue,
    Script,
    agree,
    received_message,
    service_state,
    settings,
)
from worker.domain.dead_letter import ATTRIBUTE, original, read
from worker.domain.outcome import DUPLICATE, RECORDED, Outcome, OutcomeKind
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    LeaseLostError,
    Reason,
)
from worker.pipeline.lease import Lease, Leases
from worker.pipeline.settle import Settler
from worker.pipeline.unsent import UnsentDeadLetters
from worker.runtime.retry import RetryPolicy

DEAD = Outcome.dead_lettered(Reason.INVALID, "user_id: missing")


class _Settling:
    def __init__(self, *, visibility: float = 120.0) -> None:
        self.source, self.dead_letters = FakeQueue(), FakeQueue()
        state = service_state(
            settings(settle_concurrency=4, backoff_cap_seconds=300.0, max_attempts=10)
        )
        self.events = state.metrics.events
        self.leases = Leases(self.source.change_visibility, visibility, events=self.events)
        self.access, self.stopping, self.unsent = state.access, state.stopping, state.unsent
        self.settler = Settler(self.source, self.dead_letters, state)

    def hold(self, number: int = 0, **changes: Any) -> Lease:
        return self.leases.hold(received_message(number, **changes))

    async def settle(self, outcome: Outcome, number: int = 0, **changes: Any) -> Outcome:
        return await self.settler.settle(self.hold(number, **changes), outcome)

    def operations(self) -> list[str]:
        return [name for name, _ in self.source.log]


def _failing(error: AWSError, times: int = 1000) -> Script:
    left = [times]

    def script(entries: Any) -> Answer:
        left[0] -= 1
        return [error if left[0] >= 0 else None] * len(entries)

    return script


@pytest.mark.parametrize("outcome", [RECORDED, DUPLICATE])
@simulated
async def test_recorded_message_is_deleted(outcome: Outcome) -> None:
    settling = _Settling()
    assert await settling.settle(outcome) is outcome
    assert settling.source.log == [("delete", [received_message()])]
    assert settling.events == {"deleted": 1}
    assert len(settling.leases) == 0


@simulated
async def test_returned_message_is_invisible_for_its_delay() -> None:
    settling = _Settling()
    outcome = Outcome.returned("later", 17.0)
    assert await settling.settle(outcome) is outcome
    assert settling.source.log == [("change", [(received_message(), 17.0)])]


@simulated
async def test_deletes_are_batched_by_ten() -> None:
    settling = _Settling()
    await asyncio.gather(*(settling.settle(RECORDED, number) for number in range(40)))
    assert [len(batch) for batch in settling.source.of("delete")] == [10] * 4
    assert settling.source.most_under_way["delete"] == 4


@simulated
async def test_only_failed_entries_of_a_batch_are_retried() -> None:
    settling = _Settling()
    failing = {"handle-2", "handle-5"}

    def script(entries: Any) -> Answer:
        bad = [each.receipt_handle in failing for each in entries]
        failing.clear()
        return [AWSUnavailableError("internal") if each else None for each in bad]

    settling.source.on_delete = script
    await asyncio.gather(*(settling.settle(RECORDED, number) for number in range(10)))
    first, *again = settling.source.of("delete")
    assert len(first) == 10
    retried = sorted(each.receipt_handle for batch in again for each in batch)
    assert retried == ["handle-2", "handle-5"]
    assert settling.events == {"deleted": 10}


@pytest.mark.parametrize("error", [AWSThrottledError("slow"), AWSUnavailableError("down")])
@simulated
async def test_repeatedly_failing_delete_is_left_to_the_next_receive(error: AWSError) -> None:
    settling = _Settling()
    settling.source.on_delete = _failing(error)
    assert await settling.settle(RECORDED) is RECORDED
    assert len(settling.source.of("delete")) == 4
    assert settling.events == {"delete_failed": 1}


@simulated
async def test_retry_delays_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "delay_seconds", lambda _, failures: failures)
    settling = _Settling()
    settling.source.on_delete = _failing(AWSThrottledError("slow"))
    began_at = asyncio.get_running_loop().time()
    await settling.settle(RECORDED)
    # Four calls of 10 ms, and 1, 2 and 3 s between them.
    assert asyncio.get_running_loop().time() - began_at == pytest.approx(6.04, abs=0.05)


@simulated
async def test_failed_return_is_counted() -> None:
    settling = _Settling()
    settling.source.on_change = _failing(AWSRejectedError("no"))
    returned = Outcome.returned("busy", delay_seconds=7.0)
    assert await settling.settle(returned) is returned
    assert settling.events == {"hand_back_failed": 1}


@pytest.mark.parametrize("error", [LeaseLostError("gone"), AWSRejectedError("no")])
@simulated
async def test_rejected_delete_is_not_retried(error: AWSError) -> None:
    settling = _Settling()
    settling.source.on_delete = _failing(error)
    await settling.settle(RECORDED)
    assert len(settling.source.of("delete")) == 1


@simulated
async def test_retries_end_with_the_lease() -> None:
    settling = _Settling(visibility=0.05)
    settling.source.on_delete = _failing(AWSUnavailableError("down"))
    for number in range(20):
        await settling.settle(RECORDED, number)
    assert len(settling.source.of("delete")) < 40


@simulated
async def test_dead_letter_is_retried_while_its_lease_is_extended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RetryPolicy, "delay_seconds", lambda _, __: 0.4)
    settling = _Settling(visibility=1.0)
    keeping = asyncio.create_task(settling.leases.run())
    settling.dead_letters.on_send = _failing(AWSUnavailableError("down"), times=3)
    assert await settling.settle(DEAD) == DEAD
    keeping.cancel()
    assert len(settling.dead_letters.of("send")) == 4


@simulated
async def test_delete_after_a_lost_lease_is_counted_as_late() -> None:
    settling = _Settling()
    lease = settling.hold()
    await asyncio.sleep(130)
    await settling.settler.settle(lease, RECORDED)
    assert settling.events == {"lease_lost": 1, "deleted_late": 1}


@simulated
async def test_message_is_deleted_only_after_its_dead_letter_is_confirmed() -> None:
    settling = _Settling()
    deleted_at: list[float] = []
    sent_at: list[float] = []
    loop = asyncio.get_running_loop()

    def sent(entries: Any) -> Answer:
        sent_at.append(loop.time())
        return [None] * len(entries)

    def deleted(entries: Any) -> Answer:
        deleted_at.append(loop.time())
        assert sent_at
        return [None] * len(entries)

    settling.dead_letters.on_send, settling.source.on_delete = sent, deleted
    assert await settling.settle(DEAD) is DEAD
    assert deleted_at[0] >= sent_at[0] + 0.01
    (letter,) = settling.dead_letters.entries("send")
    given = received_message(attributes=letter.attributes)
    death = read(given)
    assert death is not None
    assert (death.reason, death.detail) == ("invalid", "user_id: missing")
    assert original(given).body == received_message().body
    assert settling.events == {"deleted": 1}


@simulated
async def test_dead_letter_is_retried_after_a_transient_failure() -> None:
    settling = _Settling()
    settling.dead_letters.on_send = _failing(AWSUnavailableError("down"), times=2)
    assert await settling.settle(DEAD) is DEAD
    assert len(settling.dead_letters.of("send")) == 3
    assert settling.operations() == ["delete"]


@pytest.mark.parametrize("error", [AWSRejectedError("too large"), AWSUnavailableError("down")])
@simulated
async def test_message_is_returned_if_its_dead_letter_cannot_be_sent(error: AWSError) -> None:
    settling = _Settling()
    settling.dead_letters.on_send = _failing(error)
    outcome = await settling.settle(DEAD)
    assert (outcome.kind, outcome.reason) == (OutcomeKind.RETURNED, None)
    assert outcome.detail == f"could not be dead-lettered: {error}"
    assert settling.source.log == [("change", [(received_message(), 60.0)])]
    assert settling.events == {"dead_letter_failed": 1}


@simulated
async def test_message_with_a_lost_lease_is_not_dead_lettered() -> None:
    settling = _Settling()
    lease = settling.hold()
    settling.hold(receipt_handle="newer")
    outcome = await settling.settler.settle(lease, DEAD)
    assert outcome.kind is OutcomeKind.RETURNED
    assert settling.dead_letters.log == []
    assert settling.source.log == []


@simulated
async def test_message_with_a_lost_lease_is_not_returned() -> None:
    settling = _Settling()
    lease = settling.hold()
    settling.hold(receipt_handle="newer")
    await settling.settler.settle(lease, Outcome.returned("later", 5))
    assert settling.source.log == []


@simulated
async def test_lease_is_extended_until_the_dead_letter_is_confirmed() -> None:
    settling = _Settling(visibility=4.0)
    settling.dead_letters.seconds = 10.0
    keeping = asyncio.create_task(settling.leases.run())
    assert await settling.settle(DEAD) is DEAD
    keeping.cancel()
    operations = settling.operations()
    assert operations[-1] == "delete"
    assert operations.count("change") >= 4
    assert settling.events["deleted"] == 1


@simulated
async def test_extension_never_overwrites_a_return() -> None:
    settling = _Settling(visibility=4.0)
    keeping = asyncio.create_task(settling.leases.run())
    lease = settling.hold()
    settling.source.seconds = 0.5
    await asyncio.sleep(2.1)  # an extension is under way
    await settling.settler.settle(lease, Outcome.returned("later", 300.0))
    await asyncio.sleep(20)
    keeping.cancel()
    assert [seconds for _, seconds in settling.source.entries("change")] == [4.0, 300.0]


@simulated
async def test_a_message_received_twice_is_never_twice_in_a_batch() -> None:
    settling = _Settling()
    older, newer = settling.hold(receipt_handle="old"), settling.hold(receipt_handle="new")
    await asyncio.gather(*(settling.settler.settle(each, RECORDED) for each in (older, newer)))
    assert [[each.receipt_handle for each in batch] for batch in settling.source.of("delete")] == [
        ["old"],
        ["new"],
    ]
    assert settling.events == {"lease_lost": 1, "deleted_late": 1, "deleted": 1}


@simulated
async def test_dead_letters_respect_the_size_limit_of_a_batch() -> None:
    settling = _Settling()
    large = [settling.hold(number, body="x" * 500_000) for number in range(4)]
    await asyncio.gather(*(settling.settler.settle(each, DEAD) for each in large))
    assert [len(batch) for batch in settling.dead_letters.of("send")] == [2, 2]
    for letter in settling.dead_letters.entries("send"):
        assert ATTRIBUTE in letter.attributes


@simulated
async def test_closing_abandons_entries_in_flight_without_cancelling_callers() -> None:
    settling = _Settling()
    settling.source.seconds = 1000
    task = asyncio.create_task(settling.settle(RECORDED))
    await asyncio.sleep(1)
    await settling.settler.aclose()
    assert (await task) == RECORDED
    assert settling.events == {"delete_failed": 1}


@pytest.mark.parametrize("outcome", [RECORDED, DUPLICATE])
@simulated
async def test_message_is_held_while_its_delete_is_denied(
    outcome: Outcome,
) -> None:
    settling = _Settling(visibility=40.0)
    keeping = asyncio.create_task(settling.leases.run())
    settling.source.on_delete = lambda _: AWSDeniedError("AccessDenied: no")
    task = asyncio.create_task(settling.settle(outcome))
    await asyncio.sleep(200)
    assert not task.done()
    assert settling.access.problem == "AccessDenied: no"
    settling.source.on_delete = agree
    assert await task is outcome
    keeping.cancel()
    assert settling.access.problem == ""
    assert settling.events["lease_lost"] == settling.events["delete_failed"] == 0
    assert settling.events["deleted"] == 1
    assert len(settling.leases) == 0
    assert settling.operations()[-1] == "delete"


@simulated
async def test_message_is_held_only_for_its_lease_if_extensions_are_denied_too() -> None:
    settling = _Settling(visibility=40.0)
    keeping = asyncio.create_task(settling.leases.run())
    denied = AWSDeniedError("AccessDenied: no")
    settling.source.on_delete = settling.source.on_change = lambda _: denied
    assert await settling.settle(RECORDED) is RECORDED
    keeping.cancel()
    assert 30 < asyncio.get_running_loop().time() < 70
    assert settling.events["delete_failed"] == 1
    assert len(settling.leases) == 0


@simulated
async def test_stop_releases_messages_that_cannot_be_settled() -> None:
    settling = _Settling()
    settling.source.on_delete = settling.dead_letters.on_send = lambda _: AWSDeniedError("no")
    recorded = asyncio.create_task(settling.settle(RECORDED))
    dead = asyncio.create_task(settling.settle(DEAD, 1))
    await asyncio.sleep(50)
    settling.stopping.set()
    await asyncio.sleep(0.1)
    assert recorded.result() is RECORDED
    assert dead.result().kind is OutcomeKind.RETURNED
    assert settling.source.entries("change")[-1] == (received_message(1), 60.0)
    assert len(settling.leases) == 0


@simulated
async def test_denied_dead_letter_is_sent_once_permitted() -> None:
    settling = _Settling()
    keeping = asyncio.create_task(settling.leases.run())
    settling.dead_letters.on_send = lambda _: AWSDeniedError("AccessDenied: no")
    task = asyncio.create_task(settling.settle(DEAD))
    await asyncio.sleep(200)
    assert settling.access.problem == "AccessDenied: no"
    # A delete that works says nothing about the dead-letter queue.
    await settling.settle(RECORDED, 1)
    assert settling.access.problem == "AccessDenied: no"
    settling.dead_letters.on_send = agree
    assert await task is DEAD
    keeping.cancel()
    assert settling.access.problem == ""
    assert settling.events["dead_letter_failed"] == 0


@simulated
async def test_message_with_an_unpublished_version_is_not_held_for_its_dead_letter() -> None:
    settling = _Settling()
    settling.dead_letters.on_send = lambda _: AWSDeniedError("AccessDenied: no")
    unknown = Outcome.dead_lettered(Reason.UNKNOWN_POLICY, "policy aup has no published version 2")
    outcome = await settling.settle(unknown)
    assert outcome.kind is OutcomeKind.RETURNED
    assert settling.source.entries("change")[-1][1] == 60.0


@pytest.mark.parametrize("error", [LeaseLostError("gone"), AWSUnavailableError("down")])
@simulated
async def test_dead_lettered_message_is_only_deleted_when_received_again(
    error: AWSError,
) -> None:
    settling = _Settling()
    settling.source.on_delete = _failing(error)
    assert await settling.settle(DEAD) is DEAD
    settling.source.on_delete = agree
    again = await settling.settler.settle(settling.hold(receipt_handle="newer"), DEAD)
    assert (again.kind, again.reason) == (OutcomeKind.DUPLICATE, None)
    assert len(settling.dead_letters.entries("send")) == 1
    assert [each.receipt_handle for each in settling.source.entries("delete")][-1] == "newer"
    assert settling.events["dead_letter_repeats"] == 1
    assert (await settling.settle(DEAD, 1)) is DEAD, "another message is dead-lettered"


@pytest.mark.parametrize("failures", [0, 1000])
@simulated
async def test_message_delivered_twice_at_once_gets_one_dead_letter(failures: int) -> None:
    settling = _Settling()
    settling.dead_letters.on_send = _failing(AWSRejectedError("no"), failures)
    first = asyncio.create_task(
        settling.settler.settle(settling.hold(receipt_handle="first"), DEAD)
    )
    await asyncio.sleep(0)  # its dead letter is being sent
    second = settling.settle(DEAD, receipt_handle="second")
    outcomes = await asyncio.gather(first, second)
    kinds = [each.kind for each in outcomes]
    if failures:
        assert kinds == [OutcomeKind.RETURNED] * 2, "the second is tried by itself"
    else:
        assert kinds == [OutcomeKind.DEAD_LETTERED, OutcomeKind.DUPLICATE]
        assert len(settling.dead_letters.entries("send")) == 1
        assert len(settling.source.entries("delete")) == 2
    assert settling.settler._sending == {}


@simulated
async def test_number_of_remembered_dead_letters_is_limited() -> None:
    settling = _Settling()
    await asyncio.gather(*(settling.settle(DEAD, number) for number in range(30)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.pipeline.settle._DEAD_LETTERED_MAX", 30)
        await asyncio.gather(*(settling.settle(DEAD, number) for number in range(30, 60)))
    assert len(settling.settler._dead_lettered) == 30
    assert (await settling.settle(DEAD, 0)) is DEAD
    assert (await settling.settle(DEAD, 59)).kind is OutcomeKind.DUPLICATE


@simulated
async def test_dead_letter_fits_the_limit_of_its_own_queue() -> None:
    settling = _Settling()
    settling.dead_letters.message_max_bytes = 262_144
    sizes = (261_000, 261_800, 262_000, 262_144)
    for number, size in enumerate(sizes):
        await settling.settle(DEAD, number, body="x" * size)
    letters = settling.dead_letters.entries("send")
    assert [len(each.body) for each in letters] == list(sizes)
    assert all(each.size_bytes <= 262_144 for each in letters)
    assert [ATTRIBUTE in each.attributes for each in letters] == [True, True, True, False]


@simulated
async def test_message_is_left_to_the_redrive_policy_after_its_last_attempt() -> None:
    settling = _Settling()
    settling.dead_letters.on_send = _failing(AWSRejectedError("InvalidParameterValue: too long"))
    with capture_logs() as logs:
        for count in (9, 10, 11):
            assert (await settling.settle(DEAD, receive_count=count)).kind is OutcomeKind.RETURNED
    assert [seconds for _, seconds in settling.source.entries("change")] == [60.0, 300.0, 300.0]
    assert settling.events == {"dead_letter_failed": 3, "left_to_redrive": 2}
    left = [each for each in logs if each["event"] == "message left to the redrive policy"]
    assert [each["receive_count"] for each in left] == [10, 11]
    assert {each["log_level"] for each in left} == {"warning"}
    assert (left[0]["reason"], left[0]["detail"]) == ("invalid", "user_id: missing")
    assert left[0]["error"] == "InvalidParameterValue: too long"


@pytest.mark.parametrize("error", [AWSUnavailableError("down"), AWSDeniedError("no")])
@simulated
async def test_message_is_not_left_to_redrive_while_its_dead_letter_may_be_sent_later(
    error: AWSError,
) -> None:
    settling = _Settling()
    settling.stopping.set()  # what is denied is not held then
    settling.dead_letters.on_send = _failing(error)
    await settling.settle(DEAD, receive_count=11)
    assert settling.events == {"dead_letter_failed": 1}
    assert [seconds for _, seconds in settling.source.entries("change")] == [60.0]


@simulated
async def test_readiness_counts_rejected_dead_letters_until_they_are_sent() -> None:
    settling = _Settling()
    assert settling.unsent.problem == ""
    settling.dead_letters.on_send = _failing(AWSRejectedError("too long"))
    for number in (1, 1, 2):
        await settling.settle(DEAD, number)
    settling.dead_letters.on_send = agree
    await settling.settle(DEAD, 3)
    assert settling.unsent.problem == "2 dead letters cannot be sent: too long"
    await settling.settle(DEAD, 1)
    assert settling.unsent.problem == "1 dead letters cannot be sent: too long"
    await settling.settle(DEAD, 2)
    assert settling.unsent.problem == ""


@simulated
async def test_service_is_ready_again_when_rejected_messages_are_not_received_again() -> None:
    settling = _Settling()
    settling.dead_letters.on_send = _failing(AWSRejectedError("too long"))
    await settling.settle(DEAD)
    await asyncio.sleep(115)
    assert settling.unsent.problem
    await asyncio.sleep(10)
    assert settling.unsent.problem == ""


@simulated
async def test_service_is_ready_again_with_the_first_dead_letter_after_an_outage() -> None:
    settling = _Settling()
    settling.dead_letters.on_send = _failing(AWSUnavailableError("down"))
    await settling.settle(DEAD, 1)
    assert settling.unsent.problem == "1 dead letters cannot be sent: down"
    settling.dead_letters.on_send = agree
    await settling.settle(DEAD, 2)
    assert settling.unsent.problem == ""


@simulated
async def test_number_of_remembered_unsent_dead_letters_is_limited() -> None:
    unsent = UnsentDeadLetters(asyncio.get_running_loop().time)
    for number in range(12_000):
        unsent.failed(f"m-{number}", AWSRejectedError("too long"), 60.0)
    assert unsent.problem == "10000 dead letters cannot be sent: too long"
