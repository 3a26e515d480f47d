"""Access to the console: who may connect, and what browsers may do with its pages."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from worker.console.page import render

STATIC: Final = "/static/"
TOKEN: Final = "token"  # noqa: S105 - name of a parameter
_COOKIE: Final = "aup-console"
_TOKEN_BYTES: Final = 32
_WRONG_HOST: Final = (
    "the Host header does not name this console; if the address is right, start the console with "
    "--allowed-host NAME"
)
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_FORM: Final = "application/x-www-form-urlencoded"
_ANY_ADDRESS: Final = {"0.0.0.0", "::", ""}  # noqa: S104 - compared, not bound
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# A form could otherwise not be posted: with `no-referrer`, browsers send `Origin: null`.
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Access:
    """The secrets and the host names of one run of the console.

    Attributes:
        host: Address on which the console listens.
        allowed_hosts: Further names under which browsers may reach it.
        token: Secret of the printed URL.
        session: Secret of the cookie.
    """

    host: str
    allowed_hosts: Collection[str] = ()
    token: str = field(default_factory=lambda: secrets.token_urlsafe(_TOKEN_BYTES))
    session: str = field(default_factory=lambda: secrets.token_urlsafe(_TOKEN_BYTES))

    def allows_host(self, header: str) -> bool:
        """Return whether a Host header names this console.

        A page of another site whose name resolves to this machine (DNS rebinding) sends its own
        name, never an address.
        """
        name = _host_name(header)
        if name in _LOOPBACK or name in self.allowed_hosts or name == self.host:
            return True
        return self.host in _ANY_ADDRESS and _is_address(name)

    def allows_token(self, given: str) -> bool:
        """Return whether a token is that of the printed URL, in constant time."""
        return _is_equal(given, self.token)

    def allows(self, request: web.Request) -> bool:
        """Return whether a request names this console and has its cookie."""
        return self.allows_host(request.headers.get("Host", "")) and self.allows_session(request)

    def allows_session(self, request: web.Request) -> bool:
        """Return whether a request has the cookie of this run, in constant time."""
        given = request.cookies.get(cookie_name(request), "")
        return _is_equal(given, self.session)


def _is_equal(given: str, secret: str) -> bool:
    # Bytes of a header that are not UTF-8 arrive as surrogates.
    return secrets.compare_digest(given.encode(errors="surrogatepass"), secret.encode())


ACCESS: Final = web.AppKey("access", Access)


def cookie_name(request: web.Request) -> str:
    """Return the name of the cookie: cookies of all ports of a host share one name space."""
    transport = request.transport
    address = None if transport is None else transport.get_extra_info("sockname")
    return f"{_COOKIE}-{address[1]}" if address else _COOKIE


def guard(access: Access) -> Middleware:
    """Return the middleware that checks every request before its handler.

    Args:
        access: Secrets and names of this run.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not access.allows_host(request.headers.get("Host", "")):
            raise web.HTTPMisdirectedRequest(text=_WRONG_HOST)
        if request.method not in _SAFE_METHODS:
            _check_origin(request)
        if request.path.startswith(STATIC):
            return await handler(request)
        if TOKEN in request.query:
            return _exchange(access, request)
        if not access.allows_session(request):
            return render(request, "sign_in.html", http_status=HTTPStatus.UNAUTHORIZED)
        return await handler(request)

    return check


def _check_origin(request: web.Request) -> None:
    """Refuse a request that changes something unless a page of this console sent it."""
    host = request.headers.get("Host")
    # A proxy in front may speak TLS.
    same = request.headers.get("Origin") in {f"http://{host}", f"https://{host}"}
    if not same or request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise web.HTTPForbidden(text="the request does not come from a page of this console")
    if request.method == "POST" and request.content_type != _FORM:
        raise web.HTTPUnsupportedMediaType(text=f"expected a form ({_FORM})")


def _exchange(access: Access, request: web.Request) -> web.StreamResponse:
    """Exchange the token of the printed URL for a cookie, and remove it from the address."""
    if not access.allows_token(request.query[TOKEN]):
        return render(request, "sign_in.html", http_status=HTTPStatus.UNAUTHORIZED)
    kept = request.rel_url.with_query([each for each in request.query.items() if each[0] != TOKEN])
    response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": str(kept)})
    response.set_cookie(
        cookie_name(request), access.session, httponly=True, samesite="Strict", path="/"
    )
    return response


async def harden(_: web.Request, response: web.StreamResponse) -> None:
    """Add the security headers to a response; a handler may have set others."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "aup-worker"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to an address."""
    return host in _LOOPBACK or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _host_name(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def content_hash(text: str) -> str:
    """Return the source expression of an inline style for a Content-Security-Policy."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
