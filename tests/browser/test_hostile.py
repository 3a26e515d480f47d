"""Hostile bodies, names and policies are shown as text, and nothing of them executes."""

from __future__ import annotations

import html
import itertools
from typing import Final
from urllib.parse import quote, urlencode

import pytest

from tests.browser import dead_letters, hostile
from tests.browser.conftest import Visit
from tests.browser.console import Console, console
from tests.browser.environment import POLICIES
from tests.browser.markup import Markup
from tests.browser.pages import ids, scanned
from tests.process.environment import Environment

pytestmark = pytest.mark.browser

# Of some, the browser shows every page; of all, the markup is checked.
IN_BROWSER: Final = 10


def all_ids(running: Console) -> list[str]:
    found: dict[str, None] = {}
    for number in itertools.count(1):
        page = ids(running, f"?page={number}")
        if found.keys() >= set(page):  # beyond the last page, the last one is shown
            break
        found |= dict.fromkeys(page)
    return list(found)


def test_no_hostile_message_changes_a_page(environment: Environment, visit: Visit) -> None:
    samples = dead_letters.hostile_samples()
    dead_letters.send(environment, samples)
    with console(environment.variables, "--allow-replay") as running:
        scanned(running, len(samples))
        found = all_ids(running)
        assert len(found) == len(samples)
        paths = [f"/dead-letters/{each}" for each in found]
        paths += [f"/dead-letters?page={each}" for each in (1, 2, 3)]
        paths += [f"/replay?id={each}" for each in found[:20]] + ["/", "/replay?all=1"]
        for path in paths:
            response = running.get(path)
            assert response.status == 200, (path, response.text)
            assert Markup(response.text).problems == [], path
            assert not set(hostile.INVISIBLE) & set(response.text), path
        page = visit(running)
        for path in [*paths[-6:], *paths[:IN_BROWSER]]:
            page.goto(path)
            assert page.locator("nav[aria-label=Pages] a").count() == 6, path
            for summary in page.locator("details:not([open]) > summary").all():
                summary.click()
        assert running.log("console request failed") == []


def test_hostile_names_are_filtered_and_edited_as_they_are(environment: Environment) -> None:
    names = [*hostile.MARKUP, *hostile.ADDRESSES, *hostile.CHARACTERS[:7]]
    samples = [dead_letters.named(number, name) for number, name in enumerate(names)]
    dead_letters.send(environment, samples)
    with console(environment.variables) as running:
        scanned(running, len(samples))
        for name in names:
            page = running.get(f"/dead-letters?{urlencode({'user': name})}")
            assert page.status == 200, name
            (found,) = ids(running, f"?{urlencode({'user': name})}")
            hidden = f'<input type="hidden" name="user" value="{html.escape(name)}">'
            assert hidden.replace("&quot;", "&#34;").replace("&#x27;", "&#39;") in page.text, name
            edited = running.get(f"/dead-letters/{found}?{urlencode({'set': f'locale={name}'})}")
            assert edited.status == 200, name
            for each in (page, edited):
                assert Markup(each.text).problems == [], name


def test_hostile_policies_are_shown_as_text(reader: Console, visit: Visit) -> None:
    listed = reader.get("/policies")
    assert Markup(listed.text).problems == []
    assert not set(hostile.INVISIBLE) & set(listed.text)
    page = visit(reader, "/policies")
    for name in POLICIES:
        path = f"/policies/version?policy={quote(name, safe='')}&version={quote(name, safe='')}"
        assert page.locator(f'a[href="{path.replace("%20", "+")}"]').count() == 1, name
        response = reader.get(path)
        assert (response.status, Markup(response.text).problems) == (200, []), name
    page.goto("/policies/version?policy=aup&version=hostile")
    shown = page.get_by_role("region", name="Text", exact=True).inner_text()
    assert "{{ 7 * 7 }}" in shown
    assert page.locator("nav[aria-label=Pages] a").count() == 6
