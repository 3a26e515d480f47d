"""Texts of policies: stored once by hash, added by language, and checked when read."""

from __future__ import annotations

import asyncio
import gzip
import random
from typing import Any

import pytest

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import World, acceptance, open_world, policy
from worker.domain import admission
from worker.domain.policy import PolicyText
from worker.domain.text_content import TextContent
from worker.errors import (
    AlteredTextError,
    AWSRejectedError,
    PolicyConflictError,
    PolicyNotFoundError,
    UsageError,
)
from worker.repository import AUPRepository

DEFAULT = TextContent(b"Be kind.", "text/plain")
SPANISH = TextContent("S\xe9 amable.".encode(), "text/html")
FRENCH = TextContent(b"Soyez aimable.", "text/plain")
ID, VERSION = "acceptable-use", "2026-01"
WRITE_APIS = pytest.mark.parametrize("write_api", ["batch", "put"])


async def _published(**changes: Any) -> tuple[World, AUPRepository]:
    world = await open_world()
    repository = world.repository(**changes)
    await repository.publish_policy(policy(), DEFAULT)
    return world, repository


async def _add(repository: AUPRepository, content: TextContent, locale: str) -> Any:
    text = PolicyText(content.sha256, locale)
    return await repository.publish_text(ID, VERSION, text, content)


def _items(world: World) -> list[dict[str, Any]]:
    return world.dynamodb.tables["aup-policies"].items()


@WRITE_APIS
@simulated
async def test_text_is_stored_once_under_its_hash(write_api: str) -> None:
    world, repository = await _published(write_api=write_api)
    await repository.publish_policy(policy(), DEFAULT)
    await repository.publish_policy(policy("2026-02"), DEFAULT)
    stored = [item for item in _items(world) if item["policy_id"] == f"sha256#{DEFAULT.sha256}"]
    assert len(stored) == 1
    assert await repository.policy_text(DEFAULT.sha256) == DEFAULT
    assert await repository.policy_text("0" * 64) is None


@WRITE_APIS
@simulated
async def test_version_has_a_text_for_each_language(write_api: str) -> None:
    _, repository = await _published(write_api=write_api)
    published = await _add(repository, SPANISH, "es-ES")
    assert [text.locale for text in published.texts] == ["es-ES"]
    published = await _add(repository, FRENCH, "fr")
    assert published == await repository.policy(ID, VERSION)
    assert [text.locale for text in published.texts] == ["es-ES", "fr"]
    assert await repository.policies() == await repository.policies(ID) == [published]
    assert await repository.policy_text(SPANISH.sha256) == SPANISH


@simulated
async def test_languages_added_at_once_are_all_kept() -> None:
    _, repository = await _published()
    names = [f"{letter}a" for letter in "abcdefghijklmnopqrst"]
    contents = [TextContent(name.encode(), "text/plain") for name in names]
    await asyncio.gather(
        *(_add(repository, each, name) for each, name in zip(contents, names, strict=True))
    )
    published = await repository.policy(ID, VERSION)
    assert published is not None
    assert sorted(text.locale for text in published.texts) == names


@simulated
async def test_same_language_added_at_once_with_two_texts_is_kept_once() -> None:
    _, repository = await _published()
    results = await asyncio.gather(
        _add(repository, SPANISH, "es"), _add(repository, FRENCH, "es"), return_exceptions=True
    )
    assert sum(isinstance(each, PolicyConflictError) for each in results) == 1
    published = await repository.policy(ID, VERSION)
    assert published is not None
    assert len(published.texts) == 1


@simulated
async def test_language_of_an_unpublished_version_is_refused() -> None:
    world, repository = await _published()
    text = PolicyText(SPANISH.sha256, "es")
    with pytest.raises(PolicyNotFoundError, match="publish its default text first"):
        await repository.publish_text(ID, "2027-01", text, SPANISH)
    assert await repository.policy_text(SPANISH.sha256) is None
    assert len(_items(world)) == 2


@simulated
async def test_text_larger_than_an_item_is_refused_with_its_size() -> None:
    world = await open_world()
    repository = world.repository()
    large = TextContent(random.Random(1).randbytes(500_000), "application/pdf")
    with pytest.raises(UsageError, match=r"500,000 bytes, compressed 500,\d+; DynamoDB stores"):
        await repository.publish_policy(policy(), large)
    assert _items(world) == []
    compressible = TextContent(b"x" * 2_000_000, "text/plain")
    await repository.publish_policy(policy(), compressible)
    assert await repository.policy_text(compressible.sha256) == compressible


@pytest.mark.parametrize(
    "changes",
    [
        {"gzip": gzip.compress(b"Be unkind.")},
        {"gzip": gzip.compress(b"Be kind.")[:-4]},
        {"gzip": gzip.compress(bytes(40_000_000))},
        {"gzip": b"Be kind."},
        {"gzip": "Be kind."},
        {"gzip": None},
    ],
    ids=["another text", "cut off", "too large", "not compressed", "text", "absent"],
)
@simulated
async def test_altered_text_is_reported(changes: dict[str, Any]) -> None:
    world, repository = await _published()
    key = {"policy_id": f"sha256#{DEFAULT.sha256}", "version": "text"}
    [item] = [item for item in _items(world) if item["policy_id"] == key["policy_id"]]
    changed = {name: value for name, value in (item | changes).items() if value is not None}
    await world.dynamodb.put_item(TableName="aup-policies", Item=changed)
    with pytest.raises(AlteredTextError, match="was altered"):
        await repository.policy_text(DEFAULT.sha256)


@WRITE_APIS
@simulated
async def test_publication_is_refused_if_another_content_has_the_key_of_its_text(
    write_api: str,
) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api)
    key = {"policy_id": f"sha256#{DEFAULT.sha256}", "version": "text"}
    forged = {**key, "media_type": "text/plain", "gzip": gzip.compress(b"Be unkind.")}
    await world.dynamodb.put_item(TableName="aup-policies", Item=forged)
    with pytest.raises(AWSRejectedError, match="was altered"):
        await repository.publish_policy(policy(), DEFAULT)
    assert len(_items(world)) == 1


@simulated
async def test_malformed_language_is_reported() -> None:
    world, repository = await _published()
    item = {"policy_id": f"{ID}#{VERSION}", "version": "1", "locale": "e", "content_sha256": "0"}
    await world.dynamodb.put_item(TableName="aup-policies", Item=item)
    with pytest.raises(AWSRejectedError, match=f"{ID}#{VERSION} 1 in aup-policies is malformed"):
        await repository.policy(ID, VERSION)


@simulated
async def test_text_added_later_is_found_by_a_recheck_of_the_cached_version() -> None:
    world, repository = await _published(policy_absence_seconds=2.0)
    await repository.policy(ID, VERSION)
    text = PolicyText(SPANISH.sha256, "es")
    await world.dynamodb.put_item(
        TableName="aup-policies",
        Item={"policy_id": f"{ID}#{VERSION}", "version": "1", "locale": "es",
              "content_sha256": SPANISH.sha256},
    )  # fmt: skip
    given = acceptance(content_sha256=SPANISH.sha256)
    for recheck, seconds, expected in ((True, 0.0, False), (False, 3.0, False), (True, 0.0, True)):
        await asyncio.sleep(seconds)
        found = await repository.policy(ID, VERSION, recheck=recheck)
        assert (admission.admit(given, found) == text) is expected


@simulated
async def test_reading_a_version_in_one_language_costs_two_reads_until_it_expires() -> None:
    world, repository = await _published()
    world.dynamodb.reads.clear()
    await asyncio.gather(*(repository.policy(ID, VERSION) for _ in range(1000)))
    assert world.dynamodb.reads["aup-policies"] == 2
