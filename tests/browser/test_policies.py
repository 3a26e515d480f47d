"""The pages of policies and of diagnostics: the same texts, counts and checks as the CLI's."""

from __future__ import annotations

import json
import re

import pytest

from tests.browser.conftest import Visit
from tests.browser.console import Console
from tests.browser.environment import TEXTS
from tests.process.environment import Environment
from worker.operations.doctor.result import CheckStatus

pytestmark = pytest.mark.browser

VERSION = "/policies/version?policy=aup&version=2026-02"


def test_versions_are_listed_with_their_state_and_open_their_text_in_each_language(
    reader: Console, filled: Environment, visit: Visit
) -> None:
    page = visit(reader, "/policies")
    table = page.get_by_role("region", name="Versions of aup", exact=True)
    states = {
        row.locator("th").inner_text(): row.locator(".status").inner_text().split("\n")[-1]
        for row in table.locator("tbody tr").all()
    }
    assert states == {
        "2026-01": "superseded",
        "2026-02": "superseded",
        "hostile": "in force",
        "2027-01": "scheduled",
    }
    listed = json.loads(filled.run("policy", "list", "--policy", "aup", "--json").stdout)
    assert {each["version"] for each in listed} == set(states)
    table.get_by_role("link", name="2026-02").click()
    languages = page.get_by_role("navigation", name="Languages")
    assert languages.locator("a").all_inner_texts() == ["default", "ar", "es-ES", "ja"]
    for locale, text in TEXTS.items():
        languages.get_by_role("link", name=locale or "default", exact=True).click()
        shown = page.get_by_role("region", name="Text", exact=True).inner_text()
        words = re.sub(r"<[^>]+>", "", text).split()
        assert shown.split() == words


def test_two_versions_are_compared_as_by_the_command_line(
    reader: Console, filled: Environment, visit: Visit
) -> None:
    page = visit(reader, VERSION)
    page.get_by_label("Compare with version").select_option("2027-01")
    page.get_by_role("button", name="Compare").click()
    shown = page.get_by_role("region", name="Differences").locator("pre").inner_text()
    printed = filled.run("policy", "diff", "aup", "2027-01", "2026-02").stdout
    changed = {line for line in printed.splitlines() if re.match(r"[+-][^+-]", line)}
    assert changed == {line for line in shown.splitlines() if re.match(r"[+-]", line)}
    assert len(changed) == 2


@pytest.mark.parametrize("script", [True, False])
def test_acceptances_are_counted_only_after_the_cost_is_shown(
    reader: Console, filled: Environment, visit: Visit, script: bool
) -> None:
    page = visit(reader, VERSION, java_script_enabled=script)
    page.get_by_role("link", name=re.compile("^Count")).click()
    assert page.get_by_text("Cost", exact=True).count() == 1
    page.get_by_role("button", name=re.compile("^Scan about")).click()
    options = ("--policy", "aup", "--version", "2026-02", "--yes", "--json")
    report = json.loads(filled.run("coverage", *options).stdout)
    page.get_by_text(f"{report['users']} users accepted aup 2026-02").wait_for()
    assert page.get_by_role("img", name="Users who accepted aup 2026-02").count() == 1
    (line,) = reader.log("coverage scan started")[-1:]
    assert line["operator"] == "alice"


def test_diagnostics_are_those_of_doctor_and_run_again_on_request(
    reader: Console, filled: Environment, visit: Visit
) -> None:
    page = visit(reader, "/diagnostics")
    page.get_by_text(re.compile(r"checks, \d+ pass")).wait_for()
    shown = {
        row.locator("th").text_content(): (row.locator(".status").text_content() or "").split()[-1]
        for row in page.locator("table.checks tbody tr").all()
    }
    report = json.loads(filled.run("doctor", "--json").stdout)
    checks = {each["check"]: CheckStatus(each["verdict"]).name.lower() for each in report["checks"]}
    assert shown == checks
    page.locator("details.group").first.locator("summary").focus()
    assert page.locator(".remedy").count()
    page.get_by_role("button", name="Run again").click()
    page.get_by_text(re.compile(r"run \d s ago")).wait_for()
    assert reader.log("checks run")[-1]["operator"] == "alice"
