"""The list of dead letters and the page of one: filters in the address, selection, export."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import dead_letters
from tests.browser.conftest import DEAD_LETTERS, Visit
from tests.browser.console import Console, console
from tests.browser.dead_letters import DEAD_LETTER_QUEUE
from tests.browser.pages import ids, scanned
from tests.private import IP, PRIVATE, USER_AGENT
from tests.process.environment import Environment, wait_until
from worker.errors import Reason

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def cards(page: Page) -> dict[str, int]:
    """Return the counts by reason as the page shows them."""
    shown = {}
    for card in page.locator(".reason-card").all():
        name = card.locator(".name").text_content() or ""
        shown[name.strip()] = int((card.locator("b").text_content() or "").replace(",", ""))
    return shown


def export(page: Page) -> list[dict[str, Any]]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    return [json.loads(each) for each in lines]


def rows(page: Page) -> int:
    count: int = page.locator("form.rows tbody tr").count()
    return count


def test_counts_filters_and_pages_agree_with_the_command_line(
    reader: Console, filled: Environment, visit: Visit
) -> None:
    scanned(reader, DEAD_LETTERS)
    page = visit(reader, "/dead-letters")
    shown = cards(page)
    page.get_by_role("link", name=re.compile("^ *conflict")).click()
    page.wait_for_url("**/dead-letters?reason=conflict")
    first = page.locator(".pager span").inner_text()
    page.get_by_role("link", name="Next").click()
    page.wait_for_url("**page=2")
    second = page.locator(".pager span").inner_text()
    page.go_back()
    assert page.locator(".pager span").inner_text() == first != second
    page.close()
    listed = json.loads(filled.run("dead-letters", "list", "--json").stdout)
    assert {name: shown[name] for name in Reason} == {
        name: listed["counts"][name] for name in Reason
    }
    assert sum(shown.values()) == DEAD_LETTERS == listed["seen"]
    assert f"of {listed['counts']['conflict']}," in first


def test_form_puts_every_filter_into_the_address_and_explains_mistakes_beside_the_field(
    reader: Console, filled: Environment, visit: Visit
) -> None:
    scanned(reader, DEAD_LETTERS)
    page = visit(reader, "/dead-letters", expected="status of 400")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "grep", "the filter is open"
    page.get_by_label("unknown_policy").check()
    page.get_by_label("Version").fill(dead_letters.MISSING[0])
    page.get_by_label("Body, detail").fill("u-1[0-9]\\b")
    page.get_by_label("Since").fill("1d")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**/dead-letters?*grep=*")
    query = page.url.partition("?")[2]
    assert "reason=unknown_policy" in query
    assert "policy=&" not in query
    options = ("--reason", "unknown_policy", "--version", dead_letters.MISSING[0])
    matching = page.locator(".pager span").inner_text()
    listed = filled.run(
        "dead-letters", "list", *options, "--grep", "u-1[0-9]\\b", "--since", "1d", "--json"
    )
    count = sum(json.loads(listed.stdout)["counts"].values())
    assert f"of {count}," in matching
    page.get_by_label("Since").fill("soon")
    page.keyboard.press("Enter")
    page.get_by_text("The filter is invalid").wait_for()
    since = page.get_by_label("Since")
    assert (since.input_value(), since.get_attribute("aria-invalid")) == ("soon", "true")
    done = filled.run("dead-letters", "list", "--since", "soon")
    problem = page.locator(f"#{since.get_attribute('aria-describedby')}").inner_text()
    assert problem in done.stderr


@pytest.mark.parametrize("script", [True, False])
def test_export_contains_the_chosen_or_all_that_match_as_by_the_command_line(
    environment: Environment, visit: Visit, tmp_path: Path, script: bool
) -> None:
    kinds = (dead_letters.invalid, dead_letters.malformed, dead_letters.replayed)
    dead_letters.send(environment, [kind(each) for kind in kinds for each in range(4)])
    with console(environment.variables) as running:
        scanned(running, 12)
        page = visit(running, "/dead-letters", java_script_enabled=script)
        file = tmp_path / "dead.jsonl"
        assert environment.run("dead-letters", "export", str(file)).returncode == 0
        lines = [json.loads(each) for each in file.read_text().splitlines()]
        printed = sorted(lines, key=lambda each: str(each["id"]))
        exported = sorted(export(page), key=lambda each: str(each["id"]))
        volatile = {"age_seconds", "expires_in_seconds", "receipt_handle"}
        assert [
            {name: value for name, value in each.items() if name not in volatile}
            for each in exported
        ] == [
            {name: value for name, value in each.items() if name not in volatile}
            for each in printed
        ]
        boxes = page.get_by_role("checkbox", name=re.compile(r"^Select [0-9a-f]{8}$"))
        boxes.nth(2).check()
        (one,) = export(page)
        assert one["id"] == boxes.nth(2).get_attribute("value")
        assert [each["count"] for each in running.log("dead letters exported")] == [12, 1]
        assert environment.visible(DEAD_LETTER_QUEUE) == 12


def test_new_dead_letters_are_announced_and_the_rows_stay_where_they_are(
    environment: Environment, visit: Visit
) -> None:
    dead_letters.send(environment, [dead_letters.malformed(each) for each in range(3)])
    with console(environment.variables) as running:
        page = visit(running, "/dead-letters")
        # Opened before the first scan ended, the page shows its result by itself.
        page.locator("body[data-live*='seen=1'] form.rows tbody tr").nth(2).wait_for()
        before = page.locator("form.rows tbody").inner_text()
        dead_letters.send(environment, [dead_letters.invalid(each) for each in range(2)])
        assert running.post("/dead-letters/scan").status == 303
        page.get_by_role("link", name="2 new, show").wait_for()
        assert page.locator("form.rows tbody").inner_text() == before
        page.get_by_role("link", name="2 new, show").click()
        page.locator("form.rows tbody tr").nth(4).wait_for()
        assert rows(page) == 5
        assert running.log("dead letters scanned")[0]["filter"] == "all"


def test_body_shows_the_offending_place_and_masks_personal_values(
    reader: Console, visit: Visit
) -> None:
    scanned(reader, DEAD_LETTERS)
    before = len(reader.log("field disclosed"))
    found = ids(reader, "?reason=invalid&grep=must+be+a+string")[0]
    page = visit(reader, f"/dead-letters/{found}?from=reason%3Dinvalid")
    assert page.locator(".line.bad").inner_text().split("\n")[-1] == "method: must be a string"
    for value in PRIVATE.values():
        assert value not in page.content()
    page.get_by_role("button", name="Show ip").click()
    page.get_by_text(IP).wait_for()
    assert USER_AGENT not in page.content()
    (line,) = reader.log("field disclosed")[before:]
    assert (line["operator"], line["dead_letter"], line["field"]) == ("alice", found, "ip")
    page.locator(".back a").click()
    page.wait_for_url("**/dead-letters?reason=invalid")


def test_policy_stands_beside_the_message_in_its_language(
    environment: Environment, visit: Visit, tmp_path: Path
) -> None:
    file = tmp_path / "aup.html"
    file.write_text("<p>No comparta su contraseña.</p>", encoding="utf-8")
    named = ("--policy", "aup", "--version", "7", "--file", str(file))
    assert environment.run("policy", "publish", *named).returncode == 0
    dead_letters.send(environment, [dead_letters.unknown_policy(1, "7")])
    with console(environment.variables) as running:
        scanned(running, 1)
        page = visit(running, f"/dead-letters/{ids(running)[0]}")
        text = page.get_by_role("region", name="Text of the policy")
        assert text.inner_text().strip() == "No comparta su contraseña."
        assert page.get_by_text("would succeed").count() == 1


def test_absent_dead_letter_and_empty_queue_are_explained(
    environment: Environment, visit: Visit
) -> None:
    with console(environment.variables) as running:
        page = visit(running, "/dead-letters", expected="status of 404")
        page.get_by_text("No dead letters", exact=True).wait_for()
        page.goto("/dead-letters/00000000-0000-0000-0000-000000000000")
        sentence = "dead letter 00000000-0000-0000-0000-000000000000 not found"
        assert page.get_by_text(sentence).count() == 1
        assert sentence in environment.run("dead-letters", "show", sentence.split()[2]).stderr


def test_scan_of_an_interrupted_console_hides_nothing_for_long(environment: Environment) -> None:
    dead_letters.send(environment, [dead_letters.malformed(each) for each in range(50)])
    with console(environment.variables) as running:
        running.get("/dead-letters")
    wait_until(lambda: environment.visible(DEAD_LETTER_QUEUE) == 50, "all are visible again")
