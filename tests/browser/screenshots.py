"""Screenshots of the console for the README: `python -m tests.browser.screenshots [FOLDER]`.

With a folder, all pages are written there in both colour schemes instead.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from tests.browser import dead_letters
from tests.browser.chromium import chromium
from tests.browser.console import Console, console
from tests.browser.environment import CREDENTIALS, publish, record
from tests.browser.pages import PAGES, ids, scanned
from tests.process.environment import Environment, body
from tests.servers import launch, parts
from tests.servers.ports import free_port
from tests.servers.process import HOST, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FOLDER: Final = Path(__file__).with_name("screenshots")
_SIZE: Final = {"width": 1280, "height": 800}
_COUNT: Final = 640
_HOURS: Final = 40
_SETTLE_MILLISECONDS: Final = 15_000
_NAMES: Final = {
    "AUP_QUEUE": "acceptances",
    "AUP_DEAD_LETTER_QUEUE": "acceptances-dead",
    "AUP_TABLE_NAME": "policies",
    "AUP_USER_TABLE_NAME": "acceptances",
}
# SQS states when it took a message, and the console draws the dead letters over that time.
_CLOCK: Final = """
import { readFileSync } from "node:fs";
const now = Date.now;
Date.now = () => now() - 1000 * Number(readFileSync(process.env.SECONDS_AGO, "utf8") || 0);
"""


@contextmanager
def _sqs(clock: Path) -> Iterator[str]:
    """Run fauxqs with a clock that is behind by the number of seconds in a file."""
    module = clock.with_suffix(".mjs")
    module.write_text(_CLOCK, encoding="utf-8")
    port = free_port()
    command = ["node", "--import", str(module), "--input-type=module", "--eval"]
    with serving(
        [*command, launch.SERVE_FAUXQS, HOST, str(port)],
        port,
        directory=parts.FAUXQS.require(),
        environment={"SECONDS_AGO": str(clock)},
    ) as url:
        yield url


def _fill(environment: Environment, folder: Path, clock: Path) -> None:
    environment.set_up()
    publish(environment, folder)
    record(environment, [{}] * 40)
    random = Random(dead_letters.SEED)
    samples = list(dead_letters.mixed(_COUNT))
    hours = sorted((int(random.triangular(0, _HOURS, 9)) for _ in samples), reverse=True)
    for hour in sorted(set(hours), reverse=True):
        clock.write_text(str(timedelta(hours=hour).total_seconds()), encoding="utf-8")
        count = hours.count(hour)
        dead_letters.send(environment, samples[:count])
        del samples[:count]
    clock.write_text("0", encoding="utf-8")


@contextmanager
def running_console() -> Iterator[tuple[Console, Environment]]:
    """Run a console with a worker, on queues and tables with everything."""
    os.environ.update({**CREDENTIALS, "AWS_EC2_METADATA_DISABLED": "true"})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clock = folder / "clock"
        clock.write_text("0", encoding="utf-8")
        sqs = stack.enter_context(_sqs(clock))
        dynamodb = stack.enter_context(launch.dynamodb_local())
        environment = Environment(sqs, dynamodb, write_api="batch")
        state = {"XDG_STATE_HOME": str(folder / "state"), "USER": "alice"}
        environment.variables |= _NAMES | state
        _fill(environment, folder, clock)
        port = str(free_port())
        stack.enter_context(environment.service(AUP_HEALTH_PORT=port))
        options = ("--allow-replay", "--worker", f"{HOST}:{port}")
        yield stack.enter_context(console(environment.variables, *options)), environment


@contextmanager
def _traffic(environment: Environment) -> Iterator[None]:
    """Send acceptances until the block ends."""
    ended, random = Event(), Random(dead_letters.SEED)

    def send() -> None:
        for number in itertools.count(1000, 100):
            if ended.wait(0.2):
                return
            environment.send(*(body(number + each) for each in range(random.randint(20, 60))))

    thread = Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def take(
    browser: Browser, running: Console, path: str, scheme: str, file: Path, *, wait: int = 500
) -> None:
    """Write the screenshot of a page.

    Args:
        browser: The browser.
        running: The console.
        path: Address of the page.
        scheme: `light` or `dark`.
        file: PNG file to write.
        wait: Milliseconds until it is taken, in which live pages change.
    """
    context = browser.new_context(base_url=running.base, color_scheme=scheme, viewport=_SIZE)  # type: ignore[arg-type] # it is one of the literals
    page = context.new_page()
    page.goto(running.url)
    page.goto(path)
    page.wait_for_timeout(wait)
    page.screenshot(path=file)
    context.close()
    sys.stdout.write(f"{file}\n")


def main(arguments: Sequence[str]) -> None:
    """Take the screenshots."""
    with running_console() as (running, environment), chromium() as browser:
        scanned(running, _COUNT)
        if not arguments:
            FOLDER.mkdir(exist_ok=True)
            take(browser, running, "/dead-letters", "light", FOLDER / "dead-letters.png")
            with _traffic(environment):
                overview = FOLDER / "overview.png"
                take(browser, running, "/", "dark", overview, wait=_SETTLE_MILLISECONDS)
            return
        first = ids(running, "?reason=invalid")[0]
        details = (f"/dead-letters/{first}", "/replay?reason=unknown_policy", "/evidence?user=u-1",
                   "/policies/version?policy=aup&version=2026-02")  # fmt: skip
        for path in (*PAGES, *details):
            for scheme in ("light", "dark"):
                name = quote(path.strip("/") or "overview", safe="")
                take(browser, running, path, scheme, Path(arguments[0]) / f"{name}-{scheme}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
