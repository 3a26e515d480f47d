"""The repository behaves the same on every DynamoDB server, with either write API."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.facts import NOW, POLICY, TEXT_SHA256, VERSION, acceptance, policy
from tests.contract.store import ACCEPTANCE_KEY, POLICY_KEY, UPDATABLE_VARIANTS, StoreEnvironment
from tests.unit.fakes import TEXT
from worker.domain.acceptance import EXTRA_MAX_BYTES
from worker.domain.evidence import ERASABLE, verify
from worker.domain.origin import Origin
from worker.domain.policy import Policy
from worker.errors import (
    AWSError,
    AWSNotFoundError,
    AWSRejectedError,
    PolicyConflictError,
    PolicyNotFoundError,
)
from worker.repository import AUPRepository, RecordResult, ScanKey
from worker.repository.writes import STATEMENTS_MAX, Inserted

RECORDED, DUPLICATE, CONFLICT = RecordResult
EVERYTHING: dict[str, Any] = {
    "content_sha256": TEXT_SHA256.upper(),
    "locale": "es-ES",
    "method": "clickwrap",
    "channel": "web",
    "ip": "2001:db8::7",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
    "session_id": "session 7",
    "on_behalf_of": "company 3",
}
# JSON values that DynamoDB's numbers and nesting cannot represent.
UNKNOWN: dict[str, Any] = {
    "float": 0.1,
    "long": 123456789012345678901234567890123456789012345678901234567890,
    "tiny": 1e-300,
    "null": None,
    "nested": {"list": [1, [2, {"deep": "ä"}], True], "empty": {}, "": ""},
}


async def acceptances_of(repository: AUPRepository, user_id: str) -> list[dict[str, Any]]:
    return [item async for item in repository.acceptances(user_id)]


# --- recording ---------------------------------------------------------------------------------


async def test_first_acceptance_is_recorded_and_a_repetition_is_a_duplicate(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    assert await repository.record(acceptance(1), TEXT) is RECORDED
    (before,) = await environment.items()
    assert await repository.record(acceptance(1), TEXT) is DUPLICATE
    assert await environment.items() == [before]


async def test_another_event_of_the_same_user_and_version_is_a_duplicate(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    assert await repository.record(acceptance(1), TEXT) is RECORDED
    (before,) = await environment.items()
    assert (
        await repository.record(acceptance(1, event_id="other", channel="ios"), TEXT) is DUPLICATE
    )
    assert await environment.items() == [before]


@pytest.mark.parametrize(
    "change",
    [
        {"channel": "forged"},
        {"ip": "198.51.100.1"},
        {"ip": None},
        {"accepted_at": "2026-05-01T10:00:01Z"},
        {"unknown": 1},
    ],
    ids=str,
)
async def test_same_event_with_other_content_is_a_conflict(
    change: dict[str, Any], repository: AUPRepository, environment: StoreEnvironment
) -> None:
    assert await repository.record(acceptance(1), TEXT) is RECORDED
    (before,) = await environment.items()
    assert await repository.record(acceptance(1, **change), TEXT) is CONFLICT
    assert await environment.items() == [before]


async def test_items_of_other_programs_are_compared_by_the_same_rules(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    stated = acceptance(1)
    key = {"user_id": stated.user_id, "policy_version": stated.policy_version}
    other = {**key, "accepted_at": 7, "imported": {"by": ["a script"]}}
    same_event = {**key, **stated.stated(), "user_id": "user-2", "channel": "forged"}
    async with environment.client() as resource:
        table = environment.settings().user_table_name
        for item in (other, same_event):
            await resource.meta.client.put_item(TableName=table, Item=item)
    before = await environment.items()
    assert await repository.record(stated, TEXT) is DUPLICATE
    assert await repository.record(acceptance(1, user_id="user-2"), TEXT) is CONFLICT
    assert await environment.items() == before
    (found,) = await acceptances_of(repository, "user-1")
    assert verify(found) == ["no record_sha256: written by another program, or altered"]


async def test_versions_and_policies_of_one_user_are_separate_records(
    repository: AUPRepository,
) -> None:
    stated = [
        acceptance(1, policy_id=policy_id, version=version, event_id=f"{policy_id} {version}")
        for policy_id in ("a", "ab")
        for version in ("1", "2")
    ]
    results = await asyncio.gather(*(repository.record(each, TEXT) for each in stated))
    assert results == [RECORDED] * 4
    everything = [item["policy_version"] for item in await acceptances_of(repository, "user-1")]
    assert everything == ["a#1", "a#2", "ab#1", "ab#2"]
    only = [item["policy_version"] async for item in repository.acceptances("user-1", "a")]
    assert only == ["a#1", "a#2"]


async def test_a_hundred_concurrent_acceptances_are_all_recorded_in_full_batches(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    results = await asyncio.gather(*(repository.record(acceptance(n), TEXT) for n in range(100)))
    assert results == [RECORDED] * 100
    assert {item["user_id"] for item in await environment.items()} == {
        f"user-{n}" for n in range(100)
    }
    batches = {"BatchExecuteStatement": 100 // STATEMENTS_MAX}
    assert repository.calls == (
        batches if environment.store.write_api == "batch" else {"PutItem": 100}
    )


async def test_single_acceptance_takes_one_call(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    await repository.record(acceptance(1), TEXT)
    batch = environment.store.write_api == "batch"
    assert repository.calls == {"BatchExecuteStatement" if batch else "PutItem": 1}


async def test_concurrent_acceptances_of_the_same_keys_are_recorded_once_each(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    results = await asyncio.gather(
        *(repository.record(acceptance(n % 20), TEXT) for n in range(100))
    )
    assert Counter(results) == {RECORDED: 20, DUPLICATE: 80}
    assert len(await environment.items()) == 20
    if environment.store.write_api == "batch":
        # A call with a repeated key would be rejected and repeated item by item.
        assert repository.calls["BatchExecuteStatement"] == 5


async def test_one_of_concurrent_contradictions_is_recorded_and_the_others_conflict(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    stated = [acceptance(n // 5, channel=f"channel-{n % 5}") for n in range(50)]
    results = await asyncio.gather(*(repository.record(each, TEXT) for each in stated))
    assert Counter(results) == {RECORDED: 10, CONFLICT: 40}
    winners = {
        (each.user_id, each.channel)
        for each, result in zip(stated, results, strict=True)
        if result is RECORDED
    }
    assert {(item["user_id"], item["channel"]) for item in await environment.items()} == winners


async def test_two_concurrent_repositories_record_an_acceptance_once(
    environment: StoreEnvironment,
) -> None:
    class Other(AUPRepository):
        """Stand-in for the repository of a second process."""

    concurrency = asyncio.Semaphore(1 if environment.store.server == "moto" else 100)

    async def record(repository: AUPRepository, number: int) -> RecordResult:
        async with concurrency:
            return await repository.record(acceptance(number), TEXT)

    async with (
        environment.repository() as one,
        Other(environment.settings(), environment.session) as other,
    ):
        pairs = await asyncio.gather(*(record(each, n) for n in range(50) for each in (one, other)))
    assert Counter(pairs) == {RECORDED: 50, DUPLICATE: 50}
    assert len(await environment.items()) == 50


async def test_key_repeated_in_one_call_is_inserted_once(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    items = [{"user_id": user, "policy_version": "p#1"} for user in ("a", "b", "a")]
    results = await repository._acceptances._insert(items)
    # DynamoDB Local rejects such a call after writing some of it; `record` finds its own writes.
    assert set(results) <= {Inserted.NEW, Inserted.EXISTS}
    assert Inserted.EXISTS in {results[0], results[2]}
    assert {item["user_id"] for item in await environment.items()} == {"a", "b"}


async def test_rejected_item_fails_alone(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    good = [{"user_id": f"u{n}", "policy_version": "p#1"} for n in range(4)]
    results = await repository._acceptances._insert(
        [*good[:2], {"policy_version": "p#1"}, *good[2:]]
    )
    assert [results[n] for n in (0, 1, 3, 4)] == [Inserted.NEW] * 4
    assert isinstance(results[2], AWSRejectedError)
    assert len(await environment.items()) == 4


async def test_item_beyond_the_size_limit_is_rejected(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    key = {"user_id": "u", "policy_version": "p#1"}
    (result,) = await repository._acceptances._insert([key | {"extra": "x" * 410_000}])
    assert isinstance(result, AWSRejectedError)
    assert await environment.items() == []


# --- evidence ----------------------------------------------------------------------------------


async def test_every_field_is_stored_as_stated(repository: AUPRepository) -> None:
    received_at_sqs = datetime(2026, 5, 2, 8, 30, 15, 123456, tzinfo=UTC)
    stated = acceptance(1, **EVERYTHING, **UNKNOWN)
    assert await repository.record(stated, TEXT, Origin.at(received_at_sqs)) is RECORDED
    (item,) = await acceptances_of(repository, "user-1")
    named = {name: item[name] for name in stated.stated()}
    assert named == stated.stated()
    assert named == {
        "event_id": "event-1",
        "user_id": "user-1",
        "policy_id": POLICY,
        "version": VERSION,
        "accepted_at": "2026-05-01T10:00:00Z",
        **EVERYTHING,
        "extra": named["extra"],
    }
    assert json.loads(named["extra"]) == UNKNOWN
    assert item["policy_version"] == f"{POLICY}#{VERSION}"
    assert item["received_at"] == "2026-05-02T08:30:15.123Z"
    assert item["recorded_at"] == "2026-06-01T12:00:00.000Z"
    assert verify(item) == []
    assert await repository.record(stated, TEXT) is DUPLICATE


async def test_absent_fields_stay_absent(repository: AUPRepository) -> None:
    await repository.record(acceptance(1, ip=None), TEXT)
    (item,) = await acceptances_of(repository, "user-1")
    assert set(item) == {
        "event_id",
        "user_id",
        "policy_id",
        "version",
        "accepted_at",
        "policy_version",
        "received_at",
        "recorded_at",
        "record_format",
        "record_id",
        "record_sha256",
        "policy_sha256",
    }
    assert verify(item) == []


async def test_empty_strings_stay_empty_strings(repository: AUPRepository) -> None:
    stated = acceptance(1, **dict.fromkeys(EVERYTHING.keys() - {"content_sha256"}, ""))
    assert await repository.record(stated, TEXT) is RECORDED
    (item,) = await acceptances_of(repository, "user-1")
    assert {name: item[name] for name in stated.stated()} == stated.stated()
    assert verify(item) == []
    assert await repository.record(stated, TEXT) is DUPLICATE


async def test_text_of_any_script_is_stored_unchanged(repository: AUPRepository) -> None:
    name = "é e\u0301 ß 日本語 🇪🇸👩‍👩‍👧 \u202eright-to-left \u2028 '\"\\?{}:"
    text = f"{name} \u0000\u0001\t\r\n"  # control characters are invalid in ids
    stated = acceptance(1, user_id=name, event_id=name, user_agent=text, **{text: text})
    assert await repository.record(stated, TEXT) is RECORDED
    (item,) = await acceptances_of(repository, name)
    assert {name: item[name] for name in stated.stated()} == stated.stated()
    assert verify(item) == []
    assert await repository.record(stated, TEXT) is DUPLICATE


async def test_longest_keys_and_fields_are_recorded(repository: AUPRepository) -> None:
    wide = "🇪"  # four bytes in UTF-8
    stated = acceptance(
        1,
        user_id=wide * 256,
        event_id=wide * 128,
        policy_id=wide * 128,
        version=wide * 64,
        user_agent=wide * 1024,
        session_id=wide * 256,
        on_behalf_of=wide * 256,
        locale=wide * 64,
        method=wide * 64,
        channel=wide * 64,
        ip=wide * 64,
    )
    assert await repository.record(stated, TEXT) is RECORDED
    (item,) = await acceptances_of(repository, stated.user_id)
    assert verify(item) == []


def largest_acceptance(version: str) -> Any:
    blob = {"blob": ""}
    rest = EXTRA_MAX_BYTES - len(acceptance(1, **blob).extra)
    return acceptance(
        1,
        version=version,
        event_id=version,
        **EVERYTHING,
        blob="ä" * (rest // 2) + "x" * (rest % 2),
    )


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp, above 1 MiB
async def test_largest_acceptances_share_a_batch_and_are_read_in_pages(
    repository: AUPRepository,
) -> None:
    stated = {f"{n:02}": largest_acceptance(f"{n:02}") for n in range(8)}
    assert {len(each.extra.encode()) for each in stated.values()} == {EXTRA_MAX_BYTES}
    results = await asyncio.gather(*(repository.record(each, TEXT) for each in stated.values()))
    assert results == [RECORDED] * 8
    found = await acceptances_of(repository, "user-1")
    assert [item["version"] for item in found] == list(stated)
    assert all(item["extra"] == stated[item["version"]].extra for item in found)
    assert [verify(item) for item in found] == [[]] * 8
    # 2.8 MB: a page ends after 1 MB.
    assert repository.calls["Query"] >= 3


async def test_verification_detects_altered_records(
    repository: AUPRepository,
) -> None:
    await repository.record(acceptance(1, **EVERYTHING), TEXT)
    (item,) = await acceptances_of(repository, "user-1")
    assert verify(item | {"channel": "phone"}) == ["record_sha256 does not match the record"]
    assert verify(item | {"ip": "192.0.2.1"}) == ["ip does not match its commitment"]
    erased = {name: value for name, value in item.items() if name not in {"ip", "ip_salt"}}
    assert verify(erased) == []


async def test_user_without_acceptances_has_none(repository: AUPRepository) -> None:
    await repository.record(acceptance(1), TEXT)
    assert await acceptances_of(repository, "user-2") == []


# --- policies ----------------------------------------------------------------------------------


async def test_published_policy_is_read_as_published(repository: AUPRepository) -> None:
    published = policy(
        title="Règles 🐈",
        published_at=datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
        effective_at=datetime(2026, 2, 2, tzinfo=UTC),
    )
    assert await repository.publish_policy(published) == published
    assert await repository.policy(POLICY, VERSION) == published
    assert await repository.policies() == await repository.policies(POLICY) == [published]


async def test_publishing_the_same_text_again_changes_nothing(repository: AUPRepository) -> None:
    first = await repository.publish_policy(policy())
    later = NOW - timedelta(days=1)
    again = await repository.publish_policy(policy(published_at=later, effective_at=later))
    assert again == first
    assert await repository.policies() == [first]


@pytest.mark.parametrize(
    "change",
    [
        {"content_sha256": "0" * 64},
        {"title": "another"},
        {"effective_at": datetime(2026, 3, 1, tzinfo=UTC)},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_publishing_a_different_version_text_is_a_conflict(
    change: dict[str, Any], repository: AUPRepository
) -> None:
    first = await repository.publish_policy(policy())
    with pytest.raises(PolicyConflictError, match="publish a new version"):
        await repository.publish_policy(policy(**change))
    assert await repository.policies() == [first]


async def test_unknown_version_is_visible_after_its_publication(
    repository: AUPRepository,
) -> None:
    assert await repository.policy(POLICY, VERSION) is None
    await repository.publish_policy(policy())
    assert await repository.policy(POLICY, VERSION) == policy()


async def test_first_retirement_stays(repository: AUPRepository) -> None:
    await repository.publish_policy(policy())
    end = NOW - timedelta(hours=1)
    retired = await repository.retire_policy(POLICY, VERSION, retired_at=end)
    assert retired == policy(retired_at=end)
    assert await repository.retire_policy(POLICY, VERSION, retired_at=NOW) == retired
    assert await repository.policy(POLICY, VERSION) == retired
    assert await repository.policies() == [retired]


async def test_concurrent_retirements_return_the_one_that_stays(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    await repository.publish_policy(policy())
    # moto's conditional update is not atomic.
    concurrency = asyncio.Semaphore(1 if environment.store.server == "moto" else 100)

    async def retire(end: datetime) -> Policy:
        async with concurrency:
            return await repository.retire_policy(POLICY, VERSION, retired_at=end)

    ends = [NOW + timedelta(hours=hour) for hour in range(8)]
    retired = await asyncio.gather(*map(retire, ends))
    (kept,) = await repository.policies()
    assert kept.retired_at in ends
    assert retired == [kept] * len(ends)


async def test_retiring_an_unpublished_version_is_an_error(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    with pytest.raises(PolicyNotFoundError, match=f"{POLICY} 1 is not published"):
        await repository.retire_policy(POLICY, "1")
    assert await repository.policies() == []
    assert await environment.items() == []


async def test_policies_are_listed_by_id_and_start(repository: AUPRepository) -> None:
    stated = [
        policy(version, policy_id=policy_id, effective_at=datetime(2026, month, 1, tzinfo=UTC))
        for policy_id, version, month in (("b", "x", 1), ("a", "x", 2), ("a", "y", 1))
    ]
    for each in stated:
        await repository.publish_policy(each)
    assert await repository.policies() == [stated[2], stated[1], stated[0]]
    assert await repository.policies("a") == [stated[2], stated[1]]
    assert await repository.policies("c") == []


async def test_has_accepted_uses_the_version_in_force(
    repository: AUPRepository,
) -> None:
    def starting(version: str, start: datetime) -> Any:
        return policy(version, effective_at=start)

    with pytest.raises(PolicyNotFoundError, match="no version of acceptable-use is in force"):
        await repository.has_accepted("user-1", POLICY)
    # Published out of order: the start does not follow from the name of a version.
    await repository.publish_policy(starting("b", datetime(2026, 1, 1, tzinfo=UTC)))
    await repository.publish_policy(starting("c", NOW + timedelta(seconds=1)))
    await repository.record(acceptance(1, version="b"), TEXT)
    assert await repository.has_accepted("user-1", POLICY)
    assert not await repository.has_accepted("user-2", POLICY)
    await repository.publish_policy(starting("a", NOW - timedelta(days=1)))
    assert not await repository.has_accepted("user-1", POLICY)
    await repository.record(acceptance(1, version="a", event_id="second"), TEXT)
    assert await repository.has_accepted("user-1", POLICY)
    await repository.retire_policy(POLICY, "a", retired_at=NOW)
    assert await repository.has_accepted("user-1", POLICY)
    await repository.retire_policy(POLICY, "b", retired_at=NOW)
    with pytest.raises(PolicyNotFoundError):
        await repository.has_accepted("user-1", POLICY)


async def test_ten_thousand_acceptances_of_one_version_read_it_and_its_languages_once(
    repository: AUPRepository,
) -> None:
    await repository.publish_policy(policy())
    found = await asyncio.gather(*(repository.policy(POLICY, VERSION) for _ in range(5_000)))
    found += [await repository.policy(POLICY, VERSION) for _ in range(5_000)]
    assert found == [policy()] * 10_000
    assert repository.calls["GetItem"] == 2


async def test_absence_of_a_version_is_cached(repository: AUPRepository) -> None:
    assert (
        await asyncio.gather(*(repository.policy(POLICY, "x") for _ in range(100))) == [None] * 100
    )
    assert repository.calls["GetItem"] == 1


# --- missing and wrong tables ------------------------------------------------------------------


async def test_probes_pass_on_correct_tables_and_write_nothing(
    repository: AUPRepository,
) -> None:
    assert [await probe.error() for probe in repository.probes()] == [None] * 3
    assert await acceptances_of(repository, "aup-worker-probe") == []


async def call_every_method(repository: AUPRepository) -> dict[str, AWSError]:
    verbs = {
        "record": repository.record(acceptance(1), TEXT),
        "policy": repository.policy(POLICY, VERSION),
        "policies": repository.policies(),
        "policies of one": repository.policies(POLICY),
        "publish": repository.publish_policy(policy()),
        "retire": repository.retire_policy(POLICY, VERSION),
        "has accepted": repository.has_accepted("user-1", POLICY),
        "acceptances": acceptances_of(repository, "user-1"),
    }
    errors: dict[str, AWSError] = {}
    for name, verb in verbs.items():
        with pytest.raises(AWSError) as caught:
            await verb
        errors[name] = caught.value
    return errors


async def test_every_method_raises_not_found_for_missing_tables(
    empty_environment: StoreEnvironment,
) -> None:
    async with empty_environment.repository() as repository:
        errors = await call_every_method(repository)
    assert {name: type(error) for name, error in errors.items()} == dict.fromkeys(
        errors, AWSNotFoundError
    )


async def test_table_created_later_is_used(empty_environment: StoreEnvironment) -> None:
    async with empty_environment.repository() as repository:
        with pytest.raises(AWSNotFoundError):
            await repository.record(acceptance(1), TEXT)
        await empty_environment.create_tables()
        assert await repository.record(acceptance(1), TEXT) is RECORDED


@pytest.mark.parametrize(
    ("policy_key", "acceptance_key"),
    [
        ({"policy_id": "S"}, ACCEPTANCE_KEY),
        ({"id": "S", "version": "S"}, ACCEPTANCE_KEY),
        (POLICY_KEY, {"user_id": "S"}),
        (POLICY_KEY, {"user_id": "S", "policy": "S"}),
        (POLICY_KEY, {"policy_version": "S", "user": "S"}),
    ],
    ids="+".join,
)
async def test_probes_detect_tables_with_other_keys(
    policy_key: dict[str, str], acceptance_key: dict[str, str], empty_environment: StoreEnvironment
) -> None:
    settings = empty_environment.settings()
    await empty_environment.create_table(settings.table_name, policy_key)
    await empty_environment.create_table(settings.user_table_name, acceptance_key)
    async with empty_environment.repository() as repository:
        errors = [await probe.error() for probe in repository.probes()]
        assert any(isinstance(error, AWSRejectedError) for error in errors)


@pytest.mark.parametrize(
    ("key", "checked_by_partiql"),
    [({"user": "S", "policy_version": "S"}, True), ({"user_id": "S", "policy": "S"}, False)],
    ids=["partition key", "sort key"],
)
async def test_recording_into_a_table_with_other_keys_is_rejected(
    key: dict[str, str], checked_by_partiql: bool, empty_environment: StoreEnvironment
) -> None:
    await empty_environment.create_table(empty_environment.settings().user_table_name, key)
    async with empty_environment.repository() as repository:
        if str(empty_environment.store) == "ministack-batch" and not checked_by_partiql:
            # Its INSERT checks only the partition key; only the probe detects the sort key.
            assert await repository.record(acceptance(1), TEXT) is RECORDED
            return
        with pytest.raises(AWSRejectedError):
            await repository.record(acceptance(1), TEXT)
    assert await empty_environment.items() == []


# --- erasing and scanning ----------------------------------------------------------------------


@pytest.mark.parametrize("store", UPDATABLE_VARIANTS)
async def test_erase_removes_fields_with_salts_and_the_rest_verifies(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    assert await repository.record(acceptance(1, **EVERYTHING), TEXT) is RECORDED
    [item] = await acceptances_of(repository, "user-1")
    left = await repository.erase(item, ["ip", "session_id"])
    assert [left] == await environment.items() == await acceptances_of(repository, "user-1")
    gone = {"ip", "ip_salt", "session_id", "session_id_salt"}
    assert set(item) - set(left) == gone
    assert verify(left) == []
    assert await repository.erase(item, ERASABLE) == await repository.erase(left, ERASABLE)
    # Recording the same message again is a duplicate and restores nothing.
    assert await repository.record(acceptance(1, **EVERYTHING), TEXT) is DUPLICATE
    [again] = await environment.items()
    assert not set(ERASABLE) & set(again)


@pytest.mark.parametrize("store", UPDATABLE_VARIANTS)
async def test_erase_of_a_different_or_missing_record_is_rejected(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    assert await repository.record(acceptance(1), TEXT) is RECORDED
    before = await environment.items()
    for changes in ({"record_sha256": "ab" * 32}, {"user_id": "user-2"}):
        with pytest.raises(AWSRejectedError, match="has changed or is gone"):
            await repository.erase({**before[0], **changes}, ["ip"])
    assert await environment.items() == before


@pytest.mark.parametrize("store", UPDATABLE_VARIANTS)
@pytest.mark.parametrize("change", [{"ip": "192.0.2.1"}, {"ip_salt": b"another salt 16b"}], ids=str)
async def test_erase_of_a_record_changed_since_its_read_is_rejected(
    change: dict[str, Any],
    repository: AUPRepository,
    environment: StoreEnvironment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await repository.record(acceptance(1), TEXT) is RECORDED
    [item] = before = await environment.items()

    async def read_before_the_change(_: object) -> dict[str, Any]:
        return {**item, **change}

    monkeypatch.setattr(repository._acceptances, "_stored", read_before_the_change)
    with pytest.raises(AWSRejectedError, match="has changed or is gone"):
        await repository.erase(item, ["ip"])
    assert await environment.items() == before


@pytest.mark.parametrize("store", UPDATABLE_VARIANTS)
async def test_concurrent_erasures_remove_all_fields_for_every_caller(
    repository: AUPRepository,
) -> None:
    assert await repository.record(acceptance(1, **EVERYTHING), TEXT) is RECORDED
    [item] = await acceptances_of(repository, "user-1")
    erased = await asyncio.gather(
        *(repository.erase(item, fields) for fields in (["ip"], ["user_agent"], ERASABLE, ["ip"]))
    )
    [left] = await acceptances_of(repository, "user-1")
    assert not set(ERASABLE) & set(left)
    assert [verify(each) for each in (*erased, left)] == [[]] * 5
    assert not [each for each in (erased[0], erased[3]) if "ip" in each or "ip_salt" in each]


@pytest.mark.parametrize("store", UPDATABLE_VARIANTS)
async def test_segmented_scan_returns_every_acceptance_of_a_version_once(
    repository: AUPRepository,
) -> None:
    count = 20
    for version in (VERSION, "another"):
        stated = [acceptance(n, version=version, event_id=f"{version} {n}") for n in range(count)]
        await asyncio.gather(*(repository.record(each, TEXT) for each in stated))
    found: list[str] = []
    scanned = 0
    for segment in range(3):
        after: ScanKey | None = None
        while True:
            page = await repository.scan_acceptances(
                f"{POLICY}#{VERSION}", segment=segment, segments=3, items=4, after=after
            )
            assert page.scanned <= 4
            found += page.accepted_at
            scanned += page.scanned
            after = page.next_key
            if after is None:
                break
    assert found == ["2026-05-01T10:00:00Z"] * count
    assert scanned == 2 * count
    assert (await repository.user_table_size()).items in {0, 2 * count}
