"""Records hold what was accepted and where it came from on every DynamoDB server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.facts import NOW, TEXT_SHA256, VERSION, acceptance
from tests.contract.store import StoreEnvironment
from tests.unit.fakes import TEXT, body_digest
from worker.domain.acceptance import Acceptance
from worker.domain.envelope import decode
from worker.domain.evidence import same_content, verify
from worker.domain.origin import Edit, Origin
from worker.domain.policy import PolicyText
from worker.repository import AUPRepository, RecordResult

RECORDED, DUPLICATE, CONFLICT = RecordResult
EXPORT_OF_0_1_0 = Path(__file__).parents[1] / "evidence" / "export_of_0.1.0.json"
# As producers write them, and as a double, DynamoDB's numbers or another writer would not.
EXACT = (
    '"price":1.10,"power":1E5,"long":12345678901234567890.123456789,"minus":-0,"zero":-0.0,'
    '"big":123456789012345678901234567890123456789012345,"tiny":1e-300,'
    '"text":"\\u00e9 \\/ \\ud83d\\ude00 \u007f","nested":{"b":[1.0, 1,null],"a":{}}'
)
# The numbers as the producer wrote them; release 0.1.0 recorded them as doubles.
WRITTEN_0_1_0 = (
    '"number":1.10,"big":12345678901234567890.123456789,"minus":-0.0,'
    '"nested":{"b":[1,null,true],"a":"x"}'
)


def records_of_0_1_0() -> list[Any]:
    """Return the records of an export by release 0.1.0, with the types of DynamoDB."""
    return [
        pytest.param(
            {
                name: bytes.fromhex(value) if name in entry["binary"] else value
                for name, value in entry["record"].items()
            },
            id=entry["record"]["event_id"],
        )
        for entry in json.loads(EXPORT_OF_0_1_0.read_text())["records"]
    ]


def decoded(fields: Mapping[str, Any], unknown: str = "") -> Acceptance:
    """Decode a message with unknown fields written in this way."""
    text = json.dumps(fields)
    body = f"{text[:-1]},{unknown}}}" if unknown else text
    return decode(body, now=NOW, clock_skew_seconds=365 * 86_400)


def message_of(item: Mapping[str, Any]) -> Acceptance:
    """Return the acceptance of a record of release 0.1.0, as a redelivery has it."""
    fields = {name: item[name] for name in Acceptance.model_fields if name in item}
    return decoded(fields, WRITTEN_0_1_0 if "extra" in item else "")


async def put(environment: StoreEnvironment, item: Mapping[str, Any]) -> None:
    async with environment.client() as resource:
        table = environment.settings().user_table_name
        await resource.meta.client.put_item(TableName=table, Item=dict(item))


async def of(repository: AUPRepository, user_id: str) -> list[dict[str, Any]]:
    return [item async for item in repository.acceptances(user_id)]


@pytest.mark.parametrize("item", records_of_0_1_0())
async def test_redelivery_of_a_message_recorded_in_format_1_is_a_duplicate(
    item: dict[str, Any], repository: AUPRepository, environment: StoreEnvironment
) -> None:
    await put(environment, item)
    before = await environment.items()
    stated = message_of(item)
    assert await repository.record(stated, TEXT, Origin.at(NOW, "again")) is DUPLICATE
    for changes in ({"channel": "forged"}, {"accepted_at": "2026-11-22T09:59:01Z"}):
        other = stated.model_copy(update=changes)
        assert await repository.record(other, TEXT, Origin.at(NOW, "other")) is CONFLICT
    assert await environment.items() == before
    (found,) = await of(repository, item["user_id"])
    assert verify(found) == []


async def test_other_number_than_recorded_in_format_1_is_a_conflict(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    (item,) = [each.values[0] for each in records_of_0_1_0() if each.id == "unknown fields"]
    assert isinstance(item, dict)
    await put(environment, item)
    fields = {name: item[name] for name in Acceptance.model_fields if name in item}
    other = decoded(fields, WRITTEN_0_1_0.replace("1.10", "1.11"))
    assert await repository.record(other, TEXT) is CONFLICT


async def test_unknown_fields_are_stored_exactly_as_written(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    fields = acceptance(1).stated()
    stated = decoded(fields, EXACT)
    assert await repository.record(stated, TEXT) is RECORDED
    (item,) = await of(repository, "user-1")
    assert item["extra"] == f"{{{EXACT}}}"
    assert verify(item) == []
    assert await repository.record(stated, TEXT) is DUPLICATE
    another = EXACT.replace("90.123456789", "90.123456788")
    assert await repository.record(decoded(fields, another), TEXT) is CONFLICT
    assert await environment.items() == [item]
    assert same_content(item, decoded(fields, EXACT.replace("1E5", "100000")))


@pytest.mark.parametrize("locale", ["", "es-ES"])
async def test_every_record_has_the_hash_and_the_language_of_its_text(
    locale: str, repository: AUPRepository
) -> None:
    text = PolicyText(TEXT_SHA256, locale)
    for number, stated in enumerate([{}, {"content_sha256": TEXT_SHA256}, {"locale": "es-ES"}]):
        assert await repository.record(acceptance(number, **stated), text) is RECORDED
        (item,) = await of(repository, f"user-{number}")
        assert bytes(item["policy_sha256"]).hex() == TEXT_SHA256
        assert item.get("policy_locale", "") == locale
        assert item.get("content_sha256") == stated.get("content_sha256")
        assert verify(item) == []
        forged = item | {"policy_sha256": bytes(32)}
        assert verify(forged) == ["record_sha256 does not match the record"]


async def test_record_has_the_origin_and_the_edits_of_its_message(
    repository: AUPRepository,
) -> None:
    edit = Edit("2026-05-20T08:00:00.000+00:00", "éve", ("user_id", "version"), "cd" * 32)
    origin = Origin.at(NOW - timedelta(days=3), "m-1", "ab" * 32, NOW - timedelta(days=1), (edit,))
    assert await repository.record(acceptance(1), TEXT, origin) is RECORDED
    (item,) = await of(repository, "user-1")
    assert item["version"] == VERSION
    assert (item["received_at"], item["message_id"]) == ("2026-05-29T12:00:00.000Z", "m-1")
    assert bytes(item["body_digest"]) == body_digest(item, "ab" * 32)
    assert item["replayed_at"] == "2026-05-31T12:00:00.000Z"
    before = body_digest(item, "cd" * 32).hex()
    assert json.loads(item["edits"]) == [
        {"at": edit.at, "by": "éve", "changed": ["user_id", "version"], "body_digest": before}
    ]
    assert verify(item) == []
    # The origin is not part of what the user stated.
    assert await repository.record(acceptance(1), TEXT, Origin.at(NOW, "m-2")) is DUPLICATE
