"""Fixtures: one Chromium and one set of servers per test run; queues and tables where they change.

`make browser-tests` installs Playwright. Without it nothing here is collected, and pytest ends with
exit code 5 if only these tests are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.browser.console import Console, console
from tests.browser.environment import create, fill
from tests.browser.watch import Watch
from tests.contract.running import RunningServers, running_servers, share_servers
from tests.process.environment import Environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]
DEAD_LETTERS: Final = 2000
_ACTION_MILLISECONDS: Final = 15_000
Visit = Callable[..., "Page"]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    share_servers(node)


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> RunningServers:
    return running_servers(request.config)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    # Imported only here, because `make test` has no Playwright.
    from tests.browser.chromium import chromium  # noqa: PLC0415

    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def filled(servers: RunningServers, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return queues and tables with everything, which tests must not change."""
    folder = tmp_path_factory.mktemp("filled")
    environment = create(servers, folder)
    fill(environment, folder, DEAD_LETTERS)
    return environment


@pytest.fixture
def environment(servers: RunningServers, tmp_path: Path) -> Environment:
    """Return empty queues and tables of one test."""
    return create(servers, tmp_path)


@pytest.fixture(scope="session")
def reader(filled: Environment) -> Iterator[Console]:
    """Run a read-only console on the queues and tables with everything."""
    with console(filled.variables, installed=True) as running:
        yield running


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Return a function that opens a console in a new browser context.

    At the end of the test, no page may have done what `Watch` forbids, except what matches the
    pattern `expected`.
    """
    with ExitStack() as stack:
        watches: list[Watch] = []

        def opened(
            running: Console,
            path: str = "/",
            *,
            watched: bool = True,
            expected: str = "",
            **options: Any,
        ) -> Page:
            context: BrowserContext = browser.new_context(base_url=running.base, **options)
            stack.callback(context.close)
            context.set_default_timeout(_ACTION_MILLISECONDS)
            if watched:
                watches.append(Watch(context, running.base, expected))
            page = context.new_page()
            page.goto(running.url)
            if path != "/":
                page.goto(path)
            return page

        yield opened
        assert [each for watch in watches for each in watch.problems()] == []
