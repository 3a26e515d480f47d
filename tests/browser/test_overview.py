"""The overview: the same figures as `status`, live, with what is wrong above all figures."""

from __future__ import annotations

import json
import re
import signal

import pytest

from tests.browser import dead_letters
from tests.browser.conftest import Visit
from tests.browser.console import Console, console
from tests.process.environment import Environment, body, wait_until
from tests.servers.ports import free_port
from worker.errors import Reason

pytestmark = pytest.mark.browser


def test_figures_and_reasons_are_those_of_the_command_line(
    reader: Console, filled: Environment, visit: Visit
) -> None:
    page = visit(reader)
    page.get_by_text(re.compile(r"scanned .+ ago")).wait_for()
    shown = {
        row.locator("th").inner_text(): int(row.locator("td").inner_text().replace(",", ""))
        for row in page.locator("table", has_text="Reason").locator("tbody tr").all()
    }
    queue = page.locator("table", has_text="Retention").locator("tr", has_text="dead letters")
    visible = queue.locator("td").first.inner_text()
    page.close()
    listed = filled.run("dead-letters", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    counts = json.loads(listed.stdout)["counts"]
    assert sorted(shown.values()) == sorted(counts.values())
    assert {name: shown.get(name) for name in Reason} == {name: counts[name] for name in Reason}
    done = filled.run("status", "--json", "--no-reasons")
    assert f"{json.loads(done.stdout)['dead_letters']['visible']:,}" == visible == "2,000"


def test_figures_change_in_place_and_a_click_on_a_reason_filters(
    environment: Environment, visit: Visit
) -> None:
    dead_letters.send(environment, [dead_letters.unknown_policy(1), dead_letters.malformed(2)])
    with console(environment.variables) as running:
        page = visit(running)
        page.get_by_text("2 dead letters waiting for a decision: 1 ").wait_for()
        page.evaluate("window.loaded = 1")
        environment.send(body(1), body(2), body(3))
        visible = page.locator(".figure", has_text="Visible in the queue")
        visible.get_by_text("3", exact=True).wait_for()
        assert page.evaluate("window.loaded") == 1, "without loading the page again"
        assert page.get_by_role("img", name="Dead letters by reason over time").count() == 1
        page.get_by_role("link", name="malformed").click()
        page.wait_for_url("**/dead-letters?reason=malformed")


def test_workers_are_shown_with_their_rates_and_the_reason_why_one_is_not_ready(
    environment: Environment, visit: Visit
) -> None:
    address = f"127.0.0.1:{free_port()}"
    port = address.rpartition(":")[2]
    options = ("--worker", address, "--worker", "127.0.0.1:1")
    with (
        environment.service(AUP_HEALTH_PORT=port) as service,
        console(environment.variables, *options) as running,
    ):
        page = visit(running)
        table = page.locator("table", has_text="Recorded/s")
        table.locator("tr", has_text=address).locator(".status.ok").wait_for()
        page.get_by_text(re.compile(r"Worker 127\.0\.0\.1:1: .*refused")).first.wait_for()
        environment.send(*(body(each) for each in range(20)))
        peak = page.locator(".figure", has_text="Recorded").locator("desc")
        wait_until(
            lambda: float(str(peak.text_content()).rstrip(".").rpartition(" ")[2]) > 0,
            "the rate is drawn",
        )
        assert service.end(signal.SIGTERM)[0] == 0
        page.get_by_text(re.compile(rf"Worker {re.escape(address)}: .*refused")).first.wait_for()


def test_overview_without_javascript_has_the_same_figures_and_loads_again_by_itself(
    environment: Environment, visit: Visit
) -> None:
    dead_letters.send(environment, [dead_letters.unknown_policy(each) for each in range(3)])
    with console(environment.variables) as running:
        page = visit(running, java_script_enabled=False)
        assert "3 dead letters waiting for a decision" in page.content()
        assert page.locator("noscript meta[http-equiv=refresh]").count() == 1
