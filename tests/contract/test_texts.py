"""Texts of policies and their languages are stored the same on every DynamoDB server."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import Mapping
from typing import Any

import pytest

from tests.contract.facts import POLICY, TEXT_SHA256, VERSION, acceptance, policy
from tests.contract.store import StoreEnvironment
from worker.domain import admission
from worker.domain.policy import Policy, PolicyText
from worker.domain.text_content import TextContent
from worker.errors import (
    AWSRejectedError,
    PolicyConflictError,
    PolicyNotFoundError,
    UsageError,
)
from worker.repository import AUPRepository

DEFAULT = TextContent(b"Be kind.", "text/plain")
SPANISH = TextContent("<p>Sé amable. 🐈".encode(), "text/html")
FILE = TextContent(b"%PDF-1.7 \x00\xff", "application/pdf")
# 400 KiB less the other attributes of the item, see `worker.repository.texts`.
LARGEST_COMPRESSED = 399 * 1024


async def add(
    repository: AUPRepository, content: TextContent, locale: str, version: str = VERSION
) -> Policy:
    text = PolicyText(content.sha256, locale)
    return await repository.publish_text(POLICY, version, text, content)


async def add_concurrently(
    repository: AUPRepository, environment: StoreEnvironment, texts: Mapping[TextContent, str]
) -> list[Policy | BaseException]:
    """Add texts, each in its language, and return what each addition returned or raised."""
    # moto's conditional put is not atomic.
    concurrency = asyncio.Semaphore(1 if environment.store.server == "moto" else 100)

    async def publish(content: TextContent, locale: str) -> Policy:
        async with concurrency:
            return await add(repository, content, locale)

    return await asyncio.gather(
        *(publish(content, locale) for content, locale in texts.items()), return_exceptions=True
    )


async def items(environment: StoreEnvironment) -> list[dict[str, Any]]:
    """Return every item of the table of policies, read without the repository."""
    async with environment.client() as resource:
        response = await resource.meta.client.scan(TableName=environment.settings().table_name)
    found: list[dict[str, Any]] = response["Items"]
    return sorted(found, key=lambda item: (item["policy_id"], item["version"]))


def incompressible(compressed_bytes: int) -> TextContent:
    """Return a text whose compressed form has this size."""
    content = random.Random(1).randbytes(compressed_bytes)
    overhead = len(gzip.compress(content, mtime=0)) - len(content)
    return TextContent(content[: compressed_bytes - overhead], "application/pdf")


async def test_text_is_stored_byte_for_byte_and_once(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    for content in (DEFAULT, SPANISH, FILE):
        version = content.media_type
        published = policy(version, content_sha256=content.sha256)
        assert await repository.publish_policy(published, content) == published
        assert await repository.policy_text(content.sha256) == content
    before = await items(environment)
    assert len(before) == 6
    await repository.publish_policy(policy(DEFAULT.media_type), DEFAULT)
    assert await items(environment) == before
    assert await repository.policy_text("0" * 64) is None


async def test_version_has_its_languages_in_the_order_of_publication(
    repository: AUPRepository,
) -> None:
    await repository.publish_policy(policy(), DEFAULT)
    await add(repository, FILE, "fr")
    published = await add(repository, SPANISH, "es-ES")
    assert published.texts == (PolicyText(FILE.sha256, "fr"), PolicyText(SPANISH.sha256, "es-ES"))
    assert await repository.policy(POLICY, VERSION) == published
    assert await repository.policies() == await repository.policies(POLICY) == [published]
    assert await repository.retire_policy(POLICY, VERSION) == (await repository.policies())[0]
    bound = admission.admit(acceptance(1, locale="es-ES"), published)
    assert bound == PolicyText(SPANISH.sha256, "es-ES")
    stated = acceptance(1, content_sha256=FILE.sha256)
    assert admission.admit(stated, published) == PolicyText(FILE.sha256, "fr")
    assert admission.admit(acceptance(1), published) == PolicyText(TEXT_SHA256)


async def test_language_changes_neither_its_text_nor_on_repetition(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    await repository.publish_policy(policy(), DEFAULT)
    first = await add(repository, SPANISH, "es-ES")
    before = await items(environment)
    assert await add(repository, SPANISH, "ES-es") == first
    with pytest.raises(PolicyConflictError, match="already published in es-ES"):
        await repository.publish_text(POLICY, VERSION, PolicyText(FILE.sha256, "es-ES"))
    assert await items(environment) == before
    with pytest.raises(PolicyNotFoundError, match="is not published"):
        await add(repository, SPANISH, "es-ES", version="never")
    assert await items(environment) == before


async def test_languages_added_concurrently_are_all_kept(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    await repository.publish_policy(policy(), DEFAULT)
    locales = [f"{letter}a" for letter in "abcdefgh"]
    texts = {TextContent(each.encode(), "text/plain"): each for each in locales}
    results = await add_concurrently(repository, environment, texts)
    assert all(isinstance(each, Policy) for each in results)
    (published,) = await repository.policies()
    assert sorted(text.locale for text in published.texts) == locales
    for text in published.texts:
        content = await repository.policy_text(text.sha256)
        assert content is not None
        assert content.content == text.locale.encode()


async def test_one_of_two_concurrent_texts_of_a_language_is_kept(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    await repository.publish_policy(policy(), DEFAULT)
    results = await add_concurrently(repository, environment, {SPANISH: "es", FILE: "es"})
    (kept,) = [each for each in results if isinstance(each, Policy)]
    assert sum(isinstance(each, PolicyConflictError) for each in results) == 1
    assert await repository.policies() == [kept]


async def test_largest_text_is_stored_and_a_larger_one_is_refused(
    repository: AUPRepository, environment: StoreEnvironment
) -> None:
    # moto counts the characters of binary values in Base64.
    moto = environment.store.server == "moto"
    largest = incompressible(LARGEST_COMPRESSED * 3 // 4 if moto else LARGEST_COMPRESSED)
    await repository.publish_policy(policy("x", content_sha256=largest.sha256), largest)
    assert await repository.policy_text(largest.sha256) == largest
    larger = incompressible(LARGEST_COMPRESSED + 1)
    before = await items(environment)
    with pytest.raises(UsageError, match="compressed 408,577; DynamoDB stores at most 409,600"):
        await repository.publish_policy(policy("y", content_sha256=larger.sha256), larger)
    await repository.publish_policy(policy(), DEFAULT)
    with pytest.raises(UsageError, match="compressed 408,577"):
        await add(repository, larger, "es")
    assert len(await items(environment)) == len(before) + 2
    assert await repository.policy_text(larger.sha256) is None


@pytest.mark.parametrize(
    "changes",
    [{"gzip": gzip.compress(b"Be unkind.")}, {"gzip": "Be kind."}, {"media_type": None}],
    ids=["another text", "not binary", "incomplete"],
)
async def test_altered_text_is_reported(
    changes: dict[str, Any], repository: AUPRepository, environment: StoreEnvironment
) -> None:
    await repository.publish_policy(policy(), DEFAULT)
    (item,) = [each for each in await items(environment) if each["version"] == "text"]
    altered = {name: value for name, value in (item | changes).items() if value is not None}
    async with environment.client() as resource:
        table = environment.settings().table_name
        await resource.meta.client.put_item(TableName=table, Item=altered)
    with pytest.raises(AWSRejectedError, match=f"the stored text {DEFAULT.sha256} in .* altered"):
        await repository.policy_text(DEFAULT.sha256)
