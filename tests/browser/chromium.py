"""Chromium of the system, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, sync_playwright

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
# Without these, Chromium contacts servers of its own.
_OPTIONS: Final = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    # Each process takes a third of a second of CPU to start, and these pages are all of one site.
    "--in-process-gpu",
    "--process-per-site",
    "--renderer-process-limit=1",
)


class ChromiumMissingError(Exception):
    """The system has no Chromium."""


def path() -> str:
    """Return the path of Chromium.

    Raises:
        ChromiumMissingError: There is none; the message says what to do.
    """
    names = (os.environ["CHROMIUM"],) if "CHROMIUM" in os.environ else _NAMES
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise ChromiumMissingError(
            f"{names[0]} is missing: install Chromium (Debian: apt-get install chromium) or set"
            " CHROMIUM to its path"
        )
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium until the block ends."""
    executable = path()
    # The sandbox of Chromium does not work as root.
    options = [*_OPTIONS, "--no-sandbox"] if os.geteuid() == 0 else [*_OPTIONS]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=options)
        try:
            yield browser
        finally:
            browser.close()
