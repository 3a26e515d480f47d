"""Addresses of the console's pages, and a wait for its first scan."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from tests.browser.console import Console
from tests.process.environment import wait_until

PAGES: Final = ("/", "/dead-letters", "/replay", "/evidence", "/policies", "/diagnostics")
_IDS: Final = re.compile(r'href="/dead-letters/([0-9a-f-]{36})')


def scanned(running: Console, count: int) -> None:
    """Wait until the console has scanned the dead-letter queue.

    Args:
        running: The console.
        count: Number of dead letters.
    """
    text = f": {count:,} dead letter"
    wait_until(lambda: text in running.get("/dead-letters").text, f"scanned{text}s")


def ids(running: Console, query: str = "") -> list[str]:
    """Return the ids of the dead letters on a page of the list."""
    return list(dict.fromkeys(_IDS.findall(running.get(f"/dead-letters{query}").text)))


def everywhere(running: Console) -> list[str]:
    """Return an address of every kind of page, those of details and of errors included."""
    first, *_ = ids(running, "?reason=invalid")
    return [
        *PAGES,
        "/dead-letters?reason=malformed&page=2",
        "/dead-letters?since=soon&grep=%28&limit=x",
        "/dead-letters?user=nobody",
        f"/dead-letters/{first}",
        f"/dead-letters/{first}?set=method%3Dclickwrap",
        "/dead-letters/00000000-0000-0000-0000-000000000000",
        "/replay?reason=unknown_policy",
        "/replay?reason=invalid&rate=0",
        "/evidence?user=u-1",
        "/evidence?user=altered&policy=aup",
        "/evidence?user=nobody",
        "/policies/version?policy=aup&version=2026-02",
        "/policies/version?policy=aup&version=2026-02&locale=ar",
        "/policies/version?policy=aup&version=2026-02&compare=2027-01",
        "/policies/version?policy=aup&version=hostile",
        "/policies/coverage?policy=aup&version=2026-02",
        f"/policies/version?policy={quote('<b>')}&version=1",
        "/nothing",
    ]
