"""IAM decides: what a role may not do, the console does not do, and says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from boto3.dynamodb.types import TypeSerializer

from tests.bench.stub.certificates import make_chain
from tests.browser import dead_letters
from tests.browser.conftest import Visit
from tests.browser.console import console
from tests.browser.pages import ids, scanned
from tests.infra.test_roles import Deployed
from tests.process.environment import acceptance
from tests.servers.launch import ministack
from worker.domain.acceptance import Acceptance
from worker.domain.evidence import build_item
from worker.domain.origin import Origin
from worker.domain.policy import PolicyText
from worker.domain.text_content import TextContent

pytestmark = pytest.mark.browser

TEXT = b"<p>Be kind.</p>"
DENIED = "status of 40[03]"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Yield queues, tables and roles of the templates, on a server that enforces permissions."""
    folder = tmp_path_factory.mktemp("roles")
    _, trusted = make_chain(folder)
    with ministack(
        enforce_policies=True, authorize_statements=True, certificate=folder / "chain.pem"
    ) as url:
        environment = Deployed(url, trusted)
        environment.environment |= {"XDG_STATE_HOME": str(folder), "USER": "alice"}
        fill(environment, folder)
        yield environment


def fill(deployed: Deployed, folder: Path) -> None:
    file = folder / "aup.html"
    file.write_bytes(TEXT)
    for version in ("2026-01", "2026-02"):
        named = ("--policy", "aup", "--version", version, "--file", str(file))
        deployed.run("Publisher", "policy", "publish", *named)
    now = datetime.now(UTC)
    text = PolicyText(TextContent(TEXT, "text/html").sha256)
    fields = Acceptance.model_validate(acceptance(1))
    item = build_item(fields, text, Origin.at(now), recorded_at=now)
    serialized = {name: TypeSerializer().serialize(value) for name, value in item.items()}
    deployed.client("dynamodb").put_item(TableName=deployed.users, Item=serialized)
    for number in range(3):
        deployed.client("sqs").send_message(
            QueueUrl=deployed.dead, **dead_letters.replayable(number).entry(number)
        )


def test_auditor_sees_evidence_and_cannot_replay(deployed: Deployed, visit: Visit) -> None:
    with console(deployed.variables_of("Auditor"), "--allow-replay") as running:
        page = visit(running, "/evidence?user=u-1", expected=DENIED)
        assert page.get_by_text("1 record verified").count() == 1
        assert (
            page.get_by_role("region", name="Text of aup#2026-01").inner_text().strip()
            == "Be kind."
        )
        assert page.get_by_text("Auditor").count()
        page.goto("/")
        page.get_by_text("The role of this console may not read the queues").wait_for()
        opened: list[str] = []
        page.on("framenavigated", lambda frame: opened.append(frame.url))
        for path in ("/dead-letters", "/replay?all=1"):
            page.goto(path)
            page.get_by_text("sqs:GetQueueAttributes").first.wait_for()
            assert page.get_by_role("button", name="Replay").count() == 0
        assert len(opened) <= 3, "a page that shows an error does not load again"
        assert running.post("/replay/start", {"dry_run": "x"}).status >= 400
        assert running.post("/replay/resume").status >= 400
        assert (deployed.depth(deployed.queue), deployed.depth(deployed.dead)) == (0, 3)


def test_replayer_replays_and_sees_no_evidence(deployed: Deployed, visit: Visit) -> None:
    with console(deployed.variables_of("Replayer"), "--allow-replay") as running:
        scanned(running, 3)
        page = visit(running, f"/replay?id={ids(running)[0]}", expected=DENIED)
        page.get_by_role("button", name="Replay 1 of 1").click()
        page.locator(".replay-run .status", has_text="finished").wait_for()
        assert (deployed.depth(deployed.queue), deployed.depth(deployed.dead)) == (1, 2)
        page.goto("/evidence?user=u-1")
        assert page.get_by_role("heading", name="Not permitted").count() == 1
        assert page.get_by_text("dynamodb:").count()
        assert json.dumps(acceptance(1)["session_id"]) not in page.content()
