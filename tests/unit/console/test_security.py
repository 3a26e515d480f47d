"""Only the operator's browser can use the console, and only from its own pages."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from aiohttp import web

from tests.unit.console.opened import Console, fast_world, opened_console
from tests.unit.fakes import SOURCE
from worker.console.context import ConsoleContext
from worker.console.page import Page, Route
from worker.console.registry import PAGES
from worker.console.security import Access, content_hash, is_loopback

_PATHS: Final = [each.path for each in PAGES]
_UNSAFE: Final = [route.path for page in PAGES for route in page.routes if route.method == "POST"]


async def _respond(_: ConsoleContext, request: web.Request) -> web.Response:
    return web.Response(text=f"done {sorted((await request.post()).items())}")


_PAGE: Final = Page(
    "probe",
    "Probe",
    "/",
    (
        Route("GET", "/", _respond),
        Route("POST", "/act", _respond),
        Route("POST", "/send", _respond, sends=True),
    ),
)


@pytest.fixture
async def console() -> AsyncIterator[Console]:
    async with opened_console(await fast_world(), pages=(_PAGE,)) as opened:
        yield opened


@pytest.fixture
async def stranger() -> AsyncIterator[Console]:
    async with opened_console(await fast_world(), signed_in=False) as opened:
        yield opened


@pytest.mark.parametrize("path", [*_PATHS, "/unknown"])
async def test_no_page_is_shown_without_the_cookie(stranger: Console, path: str) -> None:
    text = await stranger.text(path, 401)
    assert "Open the URL that the terminal shows" in text
    assert SOURCE not in text


@pytest.mark.parametrize("path", _UNSAFE)
async def test_no_action_is_possible_without_the_cookie(stranger: Console, path: str) -> None:
    assert (await stranger.post(path, {"user": "u-1"})).status == 401


async def test_token_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(
    stranger: Console,
) -> None:
    path = f"/evidence?user=u-1&token={stranger.access.token}&policy=p"
    response = await stranger.get(path, allow_redirects=False)
    assert (response.status, response.headers["Location"]) == (303, "/evidence?user=u-1&policy=p")
    cookie = response.headers["Set-Cookie"]
    assert re.fullmatch(r"aup-console-\d+=[\w-]{43}; HttpOnly; Path=/; SameSite=Strict", cookie), (
        cookie
    )
    assert stranger.access.token not in cookie
    assert (await stranger.get("/policies")).status == 200


@pytest.mark.parametrize("token", ["", "x", "ü"])
async def test_wrong_token_opens_nothing(stranger: Console, token: str) -> None:
    response = await stranger.get("/", params={"token": token}, allow_redirects=False)
    assert response.status == 401
    assert "Set-Cookie" not in response.headers


async def test_wrong_cookie_opens_nothing(console: Console) -> None:
    [name] = [each.key for each in console.client.session.cookie_jar]
    console.client.session.cookie_jar.clear()
    assert (await console.get("/", cookies={name: "x"})).status == 401


async def test_every_run_has_other_secrets() -> None:
    first, second = Access("127.0.0.1"), Access("127.0.0.1")
    assert len({first.token, first.session, second.token, second.session}) == 4


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "10.1.2.3"])
async def test_foreign_host_is_refused_even_with_the_cookie(console: Console, host: str) -> None:
    response = await console.get("/", headers={"Host": host})
    assert response.status == 421
    assert SOURCE not in await response.text()


@pytest.mark.parametrize(
    ("access", "host", "allowed"),
    [
        (Access("127.0.0.1"), "localhost:8420", True),
        (Access("127.0.0.1"), "[::1]:8420", True),
        (Access("127.0.0.1"), "127.0.0.1:9999", True),
        (Access("127.0.0.1"), "192.0.2.1:8420", False),
        (Access("0.0.0.0"), "192.0.2.1:8420", True),  # noqa: S104 - compared
        (Access("0.0.0.0"), "evil.example", False),  # noqa: S104 - compared
        (Access("192.0.2.1"), "192.0.2.1:8420", True),
        (Access("192.0.2.1"), "192.0.2.2:8420", False),
        (Access("127.0.0.1", ("console.example",)), "console.example", True),
        (Access("127.0.0.1", ("console.example",)), "a.console.example", False),
    ],
)
def test_host_must_name_the_console(access: Access, host: str, allowed: bool) -> None:
    assert access.allows_host(host) is allowed


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_form_of_another_site_is_refused(console: Console, headers: dict[str, str]) -> None:
    assert (await console.post("/act", headers=headers)).status == 403


async def test_form_of_the_console_is_accepted(console: Console) -> None:
    same = {"Sec-Fetch-Site": "same-origin"}
    response = await console.post("/act", {"a": "1"}, headers=same)
    assert (response.status, await response.text()) == (200, "done [('a', '1')]")


async def test_post_without_an_origin_is_refused(console: Console) -> None:
    assert (await console.client.post("/act", data={"a": "1"})).status == 403


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data"])
async def test_only_forms_are_accepted(console: Console, kind: str) -> None:
    response = await console.post("/act", content=b"{}", headers={"Content-Type": kind})
    assert response.status == 415


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused(console: Console, method: str) -> None:
    headers = {"Origin": console.origin}
    assert (await console.client.request(method, "/", headers=headers)).status == 405


async def test_large_form_is_refused(console: Console) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    response = await console.post("/act", content=io.BytesIO(b"a" * 4_194_305), headers=kind)
    assert response.status == 413
    assert "the form exceeds 4,194,304 bytes" in await response.text()


async def test_nothing_is_sent_without_allow_replay(console: Console) -> None:
    response = await console.post("/send")
    assert response.status == 403
    assert "without --allow-replay" in await response.text()


async def test_messages_are_sent_with_allow_replay() -> None:
    async with opened_console(await fast_world(), pages=(_PAGE,), allow_replay=True) as console:
        assert (await console.post("/send")).status == 200


@pytest.mark.parametrize("path", ["/", "/unknown", "/static/console.css"])
@pytest.mark.parametrize("signed_in", [True, False])
async def test_every_response_is_hardened(path: str, signed_in: bool) -> None:
    async with opened_console(await fast_world(), pages=(_PAGE,), signed_in=signed_in) as console:
        headers = (await console.get(path)).headers
    assert headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Server"] == "aup-worker"
    assert headers["Cache-Control"] == (
        "private, max-age=86400, immutable" if "static" in path else "no-store"
    )


@pytest.mark.parametrize("path", _PATHS)
async def test_no_page_needs_what_the_policy_forbids(path: str) -> None:
    async with opened_console(await fast_world()) as console:
        text = await console.text(path)
    assert not re.search(r"<script(?! src=\"/static/)|<style|\sstyle=|\son\w+=|javascript:", text)
    assert not re.search(r"(?:src|href|action)=\"(?!/|#|\"|\?)", text)


def test_style_of_the_printable_page_is_allowed_by_its_hash() -> None:
    # `printf 'p{}' | openssl dgst -sha256 -binary | base64`
    assert content_hash("p{}") == "sha256-gG2yISYereRMiG2lMXrbiUgi0Ubw9p7QCeWcroOvy9Y="


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.1.2.3", True),
     ("0.0.0.0", False), ("192.0.2.1", False), ("console.example", False)],  # noqa: S104
)  # fmt: skip
def test_loopback_addresses_are_known(host: str, expected: Any) -> None:
    assert is_loopback(host) is expected
