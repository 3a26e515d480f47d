"""The console answers only its own pages, in the browser that has its token."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import pytest

from tests.browser.conftest import Visit
from tests.browser.console import Console, console
from tests.browser.markup import Markup
from tests.process.environment import Environment
from tests.servers.ports import free_port

pytestmark = pytest.mark.browser

PAGES: Final = ("/", "/dead-letters", "/evidence", "/policies", "/diagnostics")
FORGED_HOSTS: Final = (
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example:{port}",
    "localhost.evil.example",
    "127.0.0.1@evil.example",
    "evil.example#127.0.0.1:{port}",
    "[::ffff:evil.example]",
    "",
    b"\xff\xfe",
)
FOREIGN_ORIGINS: Final = (
    None,
    "null",
    "",
    "http://evil.example",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://{host}.evil.example",
    "http://evil.example/{host}",
    "file://",
    b"\xff",
)


def port_of(running: Console) -> str:
    return running.base.rpartition(":")[2]


def test_token_is_exchanged_for_a_cookie_that_no_script_and_no_other_site_gets(
    reader: Console,
) -> None:
    response = reader.ask("GET", f"/policies?policy=aup&token={reader.token}")
    assert (response.status, response.headers["location"]) == (303, "/policies?policy=aup")
    value, *flags = response.headers["set-cookie"].split("; ")
    assert {each.lower() for each in flags} >= {"httponly", "samesite=strict", "path=/"}
    assert reader.token not in value
    assert len(reader.token) >= 32


@pytest.mark.parametrize(
    "path", ["/?token=x", "/?token=%ff%fe", "/?token=", "/?token=%00", *PAGES, "/nothing"]
)
def test_pages_without_the_cookie_show_nothing_but_how_to_sign_in(
    reader: Console, filled: Environment, path: str
) -> None:
    name = reader.cookie.partition("=")[0]
    for cookie in ("", f"{name}=x", reader.cookie[:-1], name.encode() + b"=\xff\xfe", "=;;,;="):
        response = reader.ask("GET", path, headers={"Cookie": cookie})
        assert response.status == 401, (path, cookie)
        assert filled.variables["AUP_QUEUE"] not in response.text
        assert "token" in response.text


def test_cookie_of_one_console_is_none_of_another(
    reader: Console, environment: Environment
) -> None:
    with console(environment.variables) as other:
        assert other.token != reader.token
        value = reader.cookie.partition("=")[2]
        name = other.cookie.partition("=")[0]
        for cookie in (reader.cookie, f"{name}={value}"):
            assert other.ask("GET", "/", headers={"Cookie": cookie}).status == 401


@pytest.mark.parametrize("host", FORGED_HOSTS)
def test_requests_under_another_host_name_are_refused(
    reader: Console, filled: Environment, host: str | bytes
) -> None:
    named = host.format(port=port_of(reader)) if isinstance(host, str) else host
    for path in ("/", f"/?token={reader.token}", "/static/console.js", "/nothing"):
        headers: dict[str, str | bytes] = {"Host": named, "Cookie": reader.cookie}
        response = reader.ask("GET", path, headers=headers)
        assert response.status in {400, 421}, path
        assert "set-cookie" not in response.headers
        assert "function" not in response.text
        assert filled.variables["AUP_QUEUE"] not in response.text


def test_names_of_the_loopback_interface_are_accepted(reader: Console) -> None:
    for name in ("127.0.0.1", "localhost", "[::1]"):
        headers = {"Host": f"{name}:{port_of(reader)}", "Cookie": reader.cookie}
        assert reader.ask("GET", "/", headers=headers).status == 200


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_forms_of_other_sites_are_refused(reader: Console, origin: str | bytes | None) -> None:
    host = reader.base.removeprefix("http://")
    named = origin.format(host=host) if isinstance(origin, str) else origin
    headers: dict[str, str | bytes] = {"Cookie": reader.cookie}
    if named is not None:
        headers["Origin"] = named
    for path in (*PAGES, "/nothing"):
        assert reader.ask("POST", path, {}, headers).status == 403, path


def test_request_marked_as_cross_site_by_the_browser_is_refused(reader: Console) -> None:
    for site in ("cross-site", "same-site", "none"):
        headers = {"Cookie": reader.cookie, "Origin": reader.base, "Sec-Fetch-Site": site}
        assert reader.ask("POST", "/diagnostics", {}, headers).status == 403


@contextmanager
def other_site(page: str) -> Iterator[str]:
    """Serve a page on another port of this host, whose requests carry the console's cookies."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_browser_that_is_signed_in_refuses_a_site_that_posts_frames_or_reads(
    reader: Console, visit: Visit
) -> None:
    page = visit(reader, watched=False)
    with other_site(
        f"<form method=post action='{reader.base}/diagnostics'><button>win a prize</button></form>"
        f"<iframe src='{reader.base}/'></iframe>"
    ) as url:
        page.goto(url)
        frame = page.frames[1]
        assert reader.base not in frame.url or not frame.locator("nav").count()
        read = f"fetch('{reader.base}/', {{credentials: 'include'}}).then(() => 'read', () => '')"
        assert page.evaluate(read) == ""
        page.get_by_role("button").click()
        page.wait_for_url(f"{reader.base}/diagnostics")
        assert "does not come from a page of this console" in page.content()


def test_every_response_has_the_headers_that_confine_it(reader: Console) -> None:
    answers = [reader.get(path) for path in (*PAGES, "/nothing", "/static/console.js")]
    answers += [reader.ask("GET", "/"), reader.ask("GET", "/", headers={"Host": "evil.example"})]
    answers += [reader.post("/nothing"), reader.ask("POST", "/", {})]
    for answer in answers:
        policy = dict(
            each.strip().partition(" ")[::2]
            for each in answer.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["form-action"] == "'self'"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "aiohttp" not in answer.headers["server"].lower()
    for answer in answers[: len(PAGES)]:
        assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
        assert Markup(answer.text).problems == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_refused(reader: Console, method: str) -> None:
    for headers in ({}, {"Cookie": reader.cookie, "Origin": reader.base}):
        assert reader.ask(method, "/", headers=headers).status in {400, 401, 403, 404, 405}


def test_too_large_and_unreadable_requests_are_refused_and_the_console_goes_on(
    reader: Console,
) -> None:
    headers = {"Cookie": reader.cookie, "Origin": reader.base}
    assert reader.ask("GET", f"/{'x' * 100_000}", headers=headers).status in {400, 414}
    assert reader.get(f"/evidence/{'x' * 5000}").status < 500
    assert reader.get("/dead-letters?reason=%ff&page=-1&since=x&grep=(").status < 500
    assert reader.get("/dead-letters?page=99999999999999999999&limit=x").status < 500
    address = ("127.0.0.1", int(port_of(reader)))
    for garbage in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 1000):
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65536)
    assert reader.get("/").status == 200


def test_idle_connections_do_not_keep_others_out(reader: Console) -> None:
    address = ("127.0.0.1", int(port_of(reader)))
    idle = [socket.create_connection(address, timeout=5) for _ in range(300)]
    try:
        assert reader.get("/").status == 200
    finally:
        for each in idle:
            each.close()
    assert reader.get("/").status == 200
