"""Queues and tables for the console: policies in several languages, evidence, dead letters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from tests.browser import dead_letters, hostile
from tests.contract.running import RunningServers
from tests.process.environment import Environment, acceptance
from worker.domain.acceptance import Acceptance
from worker.domain.evidence import build_item
from worker.domain.origin import Edit, Origin
from worker.domain.policy import PolicyText
from worker.domain.text_content import TextContent

CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
MOMENT: Final = datetime(2026, 11, 2, 10, tzinfo=UTC)
TEXTS: Final = {
    "": "<h1>Acceptable use</h1>\n<p>Do not share your password.</p>\n<p>Report incidents.</p>\n",
    "es-ES": "<h1>Uso aceptable</h1>\n<p>No comparta su contraseña.</p>\n",
    "ar": '<h1 dir="rtl">الاستخدام المقبول</h1>\n<p dir="rtl">لا تشارك كلمة المرور.</p>\n',
    "ja": "<h1>利用規約</h1>\n<p>パスワードを共有しないでください。</p>\n",
}
SECOND_TEXT: Final = TEXTS[""].replace("Report incidents.", "Report incidents within a day.")
# Users whom a record may name.
USERS: Final = tuple(
    text
    for text in hostile.TEXTS
    if 0 < len(text) <= 256 and not re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", text)
)
# Policies that the table may name.
POLICIES: Final = tuple(text for text in USERS if len(text) <= 64 and "#" not in text)
HOSTILE_TEXT: Final = "\n".join(each for each in hostile.TEXTS if "\ud800" not in each)


def create(servers: RunningServers, folder: Path) -> Environment:
    """Create queues and tables; version 2026-01 of the policy is published as a hash only.

    Args:
        servers: Servers of this test run.
        folder: Folder for the journals of replays.
    """
    with pytest.MonkeyPatch.context() as patch:  # fixtures of a session come before those of a test
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        environment = Environment(
            servers.url("fauxqs"), servers.url("dynamodb_local"), write_api="batch"
        )
    environment.variables["XDG_STATE_HOME"] = str(folder / "state")
    environment.variables["USER"] = "alice"
    environment.set_up()
    return environment


def publish(environment: Environment, folder: Path) -> None:
    """Publish versions with texts in several languages, and a hostile one."""
    for locale, text in TEXTS.items():
        options = ("--locale", locale) if locale else ("--title", "Acceptable use")
        _publish(environment, folder, "2026-02", text, *options)
    later = (MOMENT + timedelta(days=3650)).isoformat()
    _publish(environment, folder, "2027-01", SECOND_TEXT, "--effective-at", later)
    content = TextContent(HOSTILE_TEXT.encode(), "text/html")
    _publish(environment, folder, "hostile", HOSTILE_TEXT, "--title", hostile.MARKUP[0])
    table = environment.dynamodb.Table(environment.variables["AUP_TABLE_NAME"])
    for text in POLICIES:
        table.put_item(
            Item={
                "policy_id": text,
                "version": text,
                "title": text,
                "content_sha256": content.sha256,
                "published_at": "2026-01-01T00:00:00.000Z",
                "effective_at": "2026-01-01T00:00:00.000Z",
            }
        )


def _publish(
    environment: Environment, folder: Path, version: str, text: str, *options: str
) -> None:
    file = folder / "text.html"
    file.write_text(text, encoding="utf-8")
    named = ("--policy", "aup", "--version", version, "--file", str(file))
    done = environment.run("policy", "publish", *named, *options)
    assert done.returncode == 0, done.stderr


def record(
    environment: Environment, changes: Iterable[dict[str, Any]], *, altered: bool = False
) -> None:
    """Store acceptances as the worker does.

    Args:
        environment: Where to store them.
        changes: Fields of each acceptance that differ from the usual ones.
        altered: Whether to change a field of each record afterwards, so that it is not sound.
    """
    table = environment.dynamodb.Table(environment.variables["AUP_USER_TABLE_NAME"])
    sha256 = TextContent(TEXTS[""].encode(), "text/html").sha256
    with table.batch_writer() as batch:
        for number, each in enumerate(changes):
            fields = acceptance(number, version="2026-02", method="clickwrap", **each)
            at = MOMENT + timedelta(hours=7 * number)
            edits = (Edit(at.isoformat(), "alice", ("method",)),) if number % 5 == 4 else ()
            origin = Origin.at(at, message_id=f"m-{number}", body_sha256="ab" * 32, edits=edits)
            item = build_item(
                Acceptance.model_validate(fields),
                PolicyText(sha256),
                origin,
                recorded_at=at + timedelta(seconds=1),
            )
            batch.put_item(Item={**item, "method": "altered"} if altered else item)


def fill(environment: Environment, folder: Path, count: int) -> None:
    """Publish policies, record acceptances, and send dead letters, the hostile ones among them."""
    publish(environment, folder)
    record(environment, [{}] * 40)
    record(environment, [{"user_id": text, "channel": text[:64]} for text in USERS])
    record(environment, [{"user_id": "altered"}], altered=True)
    samples = dead_letters.hostile_samples()
    dead_letters.send(environment, [*dead_letters.mixed(count - len(samples)), *samples])
