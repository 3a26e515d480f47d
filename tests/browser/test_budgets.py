"""The console is small and fast, and asks AWS no more than needed, with 10,000 dead letters."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.browser import dead_letters
from tests.browser.conftest import Visit
from tests.browser.console import Console, console
from tests.contract.running import RunningServers

pytestmark = pytest.mark.browser

COUNT: Final = 10_000
PAGE_MAX_BYTES: Final = 60 * 1024
FIRST_PAGE_MAX_SECONDS: Final = 0.1
MEMORY_MAX_MIB: Final = 80.0
PAGES: Final = ("/", "/dead-letters", "/evidence", "/policies", "/diagnostics")
ATTEMPTS: Final = 7


@pytest.fixture(scope="module")
def crowded(servers: RunningServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Run a console on 10,000 dead letters."""
    environment = created(servers, tmp_path_factory.mktemp("crowded"))
    dead_letters.send(environment, dead_letters.mixed(COUNT))
    with console(environment.variables) as running:
        yield running


def _seconds(running: Console, path: str) -> float:
    assert running.cookie
    started_at = time.perf_counter()
    response = running.get(path)
    seconds = time.perf_counter() - started_at
    assert response.status == 200, response.text
    return seconds


def test_every_page_arrives_in_a_tenth_of_a_second_in_less_than_80_mb(crowded: Console) -> None:
    scanned(crowded, COUNT)
    for path in PAGES:
        # The best of several, because the machine may be busy.
        best = min(_seconds(crowded, path) for _ in range(ATTEMPTS))
        assert best < FIRST_PAGE_MAX_SECONDS, (path, best)
    assert crowded.memory_mib() < MEMORY_MAX_MIB


def test_page_with_its_styles_and_script_is_small(reader: Console, visit: Visit) -> None:
    page = visit(reader)
    for path in PAGES:
        sizes: dict[str, int] = {}
        page.on(
            "response",
            lambda each, sizes=sizes: (
                sizes.update({each.url: len(each.body())})
                if each.request.resource_type != "eventsource"
                else None
            ),
        )
        page.goto(path)
        page.wait_for_load_state()
        assert 0 < sum(sizes.values()) < PAGE_MAX_BYTES, (path, sizes)
