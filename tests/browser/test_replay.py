"""Replays from the console: rehearsed first, resumable, and as safe as those of the CLI."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.browser import dead_letters
from tests.browser.conftest import Visit
from tests.browser.console import console
from tests.browser.dead_letters import DEAD_LETTER_QUEUE
from tests.browser.pages import ids, scanned
from tests.process.environment import DEADLINE_SECONDS, Environment, wait_until
from tests.process.gate import Gate
from tests.process.test_dead_letters import drain, receive_all

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

ALLOW: Final = "--allow-replay"


def send_replayable(environment: Environment, count: int) -> None:
    """Send dead letters of a version that is published since, and three that are invalid."""
    environment.publish(dead_letters.PUBLISHED[1])
    samples = [dead_letters.replayable(each) for each in range(count)]
    dead_letters.send(environment, [*samples, *map(dead_letters.invalid, range(3))])


def finish(page: Page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()
    page.locator(".replay-run .status", has_text="finished").wait_for()


@pytest.mark.parametrize("script", [True, False])
def test_chosen_rows_are_rehearsed_and_then_replayed(
    environment: Environment, visit: Visit, script: bool
) -> None:
    send_replayable(environment, 5)
    with console(environment.variables, ALLOW) as running:
        scanned(running, 8)
        page = visit(running, "/dead-letters?reason=unknown_policy", java_script_enabled=script)
        boxes = page.get_by_role("checkbox", name=re.compile(r"^Select [0-9a-f]{8}$"))
        assert boxes.count() == 5
        chosen = [str(boxes.nth(each).get_attribute("value")) for each in (1, 3)]
        for each in (1, 3):
            boxes.nth(each).check()
        page.get_by_role("button", name="Dry run").click()
        page.get_by_text("2 selected, 2 would succeed; nothing was sent").wait_for()
        assert (environment.depth("AUP_QUEUE"), environment.depth(DEAD_LETTER_QUEUE)) == (0, 8)
        finish(page, "Replay 2 of 2")
        arrived = receive_all(environment)
        assert {each["MessageAttributes"]["aup.replay"]["StringValue"][:9] for each in arrived} == {
            '{"count":'
        }
        assert (len(arrived), environment.depth(DEAD_LETTER_QUEUE)) == (2, 6)
        page.goto("/dead-letters?reason=unknown_policy")
        assert not set(chosen) & set(ids(running, "?reason=unknown_policy"))
        (started,) = running.log("replay started")
        assert (started["operator"], started["count"], started["selected"]) == ("alice", 2, 2)
        assert started["filter"] == "2 chosen"
        assert [each["selected"] for each in running.log("dry run")] == [2]


def test_all_that_match_are_replayed_and_those_that_would_fail_stay(
    environment: Environment, visit: Visit
) -> None:
    send_replayable(environment, 25)
    with console(environment.variables, ALLOW) as running:
        scanned(running, 28)
        page = visit(running, "/dead-letters")
        page.get_by_role("button", name="Dry run").click()
        page.get_by_text("28 selected, 25 would succeed; nothing was sent").wait_for()
        listed = environment.run("replay", "--dry-run", "--json")
        verdicts = json.loads(listed.stdout)["verdicts"]
        assert verdicts == {"would succeed": 25, "invalid": 3}
        table = page.locator("table.outcomes tbody tr")
        assert sorted(each.inner_text().split()[-1] for each in table.all()) == ["25", "3"]
        finish(page, "Replay 25 of 28")
        drain(environment)
        assert environment.recorded() == Counter({f"e-{each}": 1 for each in range(25)})
        assert environment.visible(DEAD_LETTER_QUEUE) == 3


@pytest.mark.parametrize(
    ("operation", "forwarding", "by"),
    [
        ("SendMessageBatch", True, "console"),  # ten are sent but not in the journal
        ("DeleteMessageBatch", False, "console"),  # ten are sent and in the journal, not deleted
        ("DeleteMessageBatch", True, "command line"),  # the journal does not say that ten are
    ],
)
def test_replay_of_a_killed_console_is_resumed_without_loss(
    environment: Environment, visit: Visit, operation: str, by: str, *, forwarding: bool
) -> None:
    send_replayable(environment, 35)
    environment.variables["AUP_LOOK_SECONDS"] = "3"
    url = environment.variables["AWS_ENDPOINT_URL"]
    with Gate(url, operation, 1, forwarding=forwarding).open() as gate:
        through = environment.variables | {"AWS_ENDPOINT_URL_SQS": gate.url}
        with console(through, ALLOW) as running:
            scanned(running, 38)
            page = visit(running, "/replay?reason=unknown_policy", expected="ERR_|EventSource")
            page.get_by_role("button", name="Replay 35 of 35").click()
            assert gate.reached.wait(DEADLINE_SECONDS)
            running.process.send_signal(signal.SIGKILL)
            running.process.wait()
    journals = Path(environment.variables["XDG_STATE_HOME"])
    assert len(list(journals.rglob("*.jsonl"))) == 1
    if by == "console":
        with console(environment.variables, ALLOW) as running:
            page = visit(running, "/replay")
            page.get_by_text("interrupted").wait_for()
            finish(page, "Resume")
    else:
        done = environment.run("replay", "--reason", "unknown_policy", "--json")
        report = json.loads(done.stdout)
        assert (done.returncode, report["failed"]) == (0, 0), done.stderr
    assert list(journals.rglob("*.jsonl")) == []
    assert environment.depth(DEAD_LETTER_QUEUE) == 3
    # What the journal does not show as sent is sent again, and recorded once.
    again = 10 if operation == "SendMessageBatch" else 0
    assert environment.depth("AUP_QUEUE") == 35 + again
    drain(environment)
    assert environment.recorded() == Counter({f"e-{each}": 1 for each in range(35)})


def test_replay_goes_on_without_a_browser_and_is_stopped_and_resumed(
    environment: Environment, visit: Visit
) -> None:
    send_replayable(environment, 20)
    with console(environment.variables, ALLOW) as running:
        scanned(running, 23)
        page = visit(running, "/replay?reason=unknown_policy&rate=2")
        page.get_by_role("button", name="Replay 20 of 20").click()
        page.locator(".replay-run .status", has_text="running").wait_for()
        page.close()
        wait_until(lambda: environment.depth("AUP_QUEUE") >= 1, "one is sent")
        page = visit(running, "/replay")
        page.get_by_role("button", name="Stop").click()
        page.locator(".replay-run .status", has_text="stopped").wait_for()
        sent = environment.depth("AUP_QUEUE")
        assert sent < 20
        assert environment.depth(DEAD_LETTER_QUEUE) == 23 - sent
        finish(page, "Resume")
        assert page.get_by_text("Nothing is sent before its result is shown").count() == 0
        assert (environment.depth("AUP_QUEUE"), environment.depth(DEAD_LETTER_QUEUE)) == (20, 3)
        events = [
            running.log(f"replay {each}") for each in ("started", "stop requested", "resumed")
        ]
        assert [[each["operator"] for each in lines] for lines in events] == [["alice"]] * 3


def test_edited_field_is_rehearsed_at_once_and_replayed_with_its_editor(
    environment: Environment, visit: Visit
) -> None:
    dead_letters.send(environment, [dead_letters.invalid(0)])
    with console(environment.variables, ALLOW, "--operator", "bob") as running:
        scanned(running, 1)
        page = visit(running, f"/dead-letters/{ids(running)[0]}")
        assert page.get_by_role("button", name="Replay 0 of 1").is_disabled()
        page.get_by_label("method").fill("clickwrap")
        page.keyboard.press("Enter")
        page.get_by_text("With these edits: method=clickwrap").wait_for()
        finish(page, "Replay 1 of 1")
        (message,) = receive_all(environment)
        assert json.loads(message["Body"])["method"] == "clickwrap"
        (edit,) = json.loads(message["MessageAttributes"]["aup.replay"]["StringValue"])["edits"]
        assert (edit["by"], edit["changed"]) == ("bob", ["method"])
        (started,) = running.log("replay started")
        assert (started["edited"], "clickwrap" in str(started)) == (["method"], False)


def test_read_only_console_rehearses_but_never_sends(
    environment: Environment, visit: Visit
) -> None:
    send_replayable(environment, 4)
    with console(environment.variables) as running:
        scanned(running, 7)
        page = visit(running, "/replay?reason=unknown_policy")
        assert page.get_by_text("4 selected, 4 would succeed; nothing was sent").count() == 1
        assert page.get_by_role("button", name=re.compile("^Replay")).count() == 0
        assert page.get_by_text("--allow-replay").count()
        key = re.search(r'name="dry_run" value="([^"]+)"', page.content())
        for path in ("/replay/start", "/replay/stop", "/replay/resume"):
            response = running.post(path, {"dry_run": key[1] if key else "x"})
            assert (response.status, "--allow-replay" in response.text) == (403, True)
        assert running.get("/replay/start").status == 405
        assert (environment.depth("AUP_QUEUE"), environment.depth(DEAD_LETTER_QUEUE)) == (0, 7)


def test_nothing_is_sent_without_the_dry_run_that_was_shown(environment: Environment) -> None:
    send_replayable(environment, 2)
    with console(environment.variables, ALLOW) as running:
        scanned(running, 5)
        for form in ({}, {"dry_run": ""}, {"dry_run": "x"}, {"reason": "unknown_policy"}):
            assert 400 <= running.post("/replay/start", form).status < 500
        page = running.get("/replay?reason=unknown_policy").text
        key = re.search(r'name="dry_run" value="([^"]+)"', page)
        assert key is not None
        assert running.post("/replay/start", {"dry_run": key[1]}).status == 303
        wait_until(lambda: environment.depth("AUP_QUEUE") == 2, "both are sent")
        assert running.post("/replay/start", {"dry_run": key[1]}).status >= 400
