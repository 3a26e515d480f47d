"""The evidence page: verified records with the exact text; personal fields only on request."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import pytest

from tests.browser.conftest import Visit
from tests.browser.console import Console
from tests.browser.environment import USERS
from tests.browser.markup import Markup
from tests.evidence.verify_export import problems
from tests.private import IP, PRIVATE, SESSION_ID, USER_AGENT
from tests.process.environment import Environment

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

READABLE: Final = ["Acceptable use", "Do not share your password.", "Report incidents."]


def look_up(page: Page, user: str) -> None:
    page.keyboard.press("/")
    page.keyboard.type(user)
    page.keyboard.press("Enter")
    page.get_by_text(re.compile(r"verified: no record|Verification failed")).wait_for()


def downloaded(page: Page, button: str = "Download JSON") -> dict[str, Any]:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    content: dict[str, Any] = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("script", [True, False])
def test_personal_fields_are_disclosed_one_by_one_and_each_is_logged(
    reader: Console, visit: Visit, script: bool
) -> None:
    before = len(reader.log("field disclosed"))
    page = visit(reader, "/evidence", java_script_enabled=script)
    page.get_by_label("User id").fill("u-1")
    page.keyboard.press("Enter")
    page.wait_for_url("**/evidence?user=u-1*")
    for value in PRIVATE.values():
        assert value not in page.content()
    page.get_by_role("button", name="Show IP address").click()
    page.get_by_text(IP, exact=True).wait_for()
    assert USER_AGENT not in page.content()
    page.get_by_role("button", name="Show Session").click()
    page.get_by_text(SESSION_ID, exact=True).wait_for()
    assert IP in page.content()
    assert USER_AGENT not in page.content()
    lines = reader.log("field disclosed")[before:]
    assert [each["field"] for each in lines] == ["ip", "ip", "session_id"]
    assert {(each["operator"], each["user"], each["record"]) for each in lines} == {
        ("alice", "u-1", "aup#2026-02")
    }


def test_user_is_found_by_keyboard_with_the_exact_text_and_exported_as_by_the_command_line(
    reader: Console, filled: Environment, visit: Visit, tmp_path: Path
) -> None:
    page = visit(reader, "/evidence")
    look_up(page, "u-2")
    assert page.url.endswith("/evidence?user=u-2&policy=")
    text = page.get_by_role("region", name="Text of aup#2026-02").inner_text()
    assert text.split("\n")[:3] == READABLE
    exported = downloaded(page)
    assert problems(exported) == []
    file = tmp_path / "evidence.json"
    done = filled.run("accepted", "u-2", "--export", str(file))
    assert done.returncode == 0, done.stderr
    printed = json.loads(file.read_text(encoding="utf-8"))
    assert (exported["records"], exported["texts"]) == (printed["records"], printed["texts"])
    assert downloaded(page)["records"] == exported["records"], "the buttons work again"


def test_printable_page_contains_everything_and_no_script(reader: Console, visit: Visit) -> None:
    page = visit(reader, "/evidence?user=u-3")
    with page.expect_popup() as popup:
        page.get_by_role("button", name="Printable page").click()
    popup.value.wait_for_load_state()
    assert popup.value.get_by_text(IP).count()
    assert popup.value.get_by_text("Do not share your password.").count()
    assert not popup.value.locator("script, img, link, iframe").count()


def test_altered_record_is_shown_as_such(reader: Console, visit: Visit) -> None:
    page = visit(reader, "/evidence")
    look_up(page, "altered")
    assert page.get_by_text("Verification failed for 1 of 1 record").count() == 1
    assert page.locator("article .status.fail").count() == 1


def test_unknown_user_and_wrong_fields_are_explained_beside_the_form(
    reader: Console, visit: Visit
) -> None:
    page = visit(reader, "/evidence?user=nobody")
    assert page.get_by_text("No acceptance by nobody recorded").count() == 1
    page.goto(f"/evidence?user=u-1&policy={'x' * 300}")
    field = page.get_by_label("Policy id")
    assert field.get_attribute("aria-invalid") == "true"
    assert page.locator(f"#{field.get_attribute('aria-describedby')}").inner_text()


def test_hostile_users_are_shown_harmlessly_and_exported_unchanged(reader: Console) -> None:
    for user in USERS:
        shown = reader.get(f"/evidence?{urlencode({'user': user})}")
        assert (shown.status, "1 record verified" in shown.text) == (200, True), user
        form = {"user": _hidden(shown.text, "user"), "policy": "", "format": "json"}
        exported = json.loads(reader.post("/evidence/export", form).text)
        assert [each["record"]["user_id"] for each in exported["records"]] == [user]
        disclosed = reader.post("/evidence", {**form, "field": "ip aup#2026-02"})
        assert IP in disclosed.text, user
        page = reader.post("/evidence/export", {**form, "format": "html"})
        for each in (shown, disclosed, page):
            assert Markup(each.text).problems == [], user


def _hidden(text: str, name: str) -> str:
    """Return the value of a hidden field of a form."""

    class Fields(HTMLParser):
        found = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            named = dict(attrs)
            if tag == "input" and (named.get("type"), named.get("name")) == ("hidden", name):
                self.found = named.get("value") or ""

    fields = Fields()
    fields.feed(text)
    return fields.found
