"""What SDK sessions of one test process share, because loading it takes longer than most tests."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import certifi
from botocore import hooks
from botocore.httpsession import DEFAULT_CA_BUNDLE
from botocore.loaders import Loader

_models: Final[dict[Any, Any]] = {}
_create: Final = Loader.__init__
_PUBLIC: Final = {certifi.where(), DEFAULT_CA_BUNDLE, os.environ.get("REQUESTS_CA_BUNDLE")}
_load_verify_locations: Final = ssl.SSLContext.load_verify_locations
_hooks: Final[Any] = hooks  # its stub lacks some names
_alias_event_name: Final = _hooks.EventAliaser._alias_event_name
_accepts_options: Final = cache(_hooks.accepts_kwargs)
_names: Final[dict[str, str]] = {}


def share_models() -> None:
    """Make each new session use the models and endpoints that another one has parsed."""
    Loader.__init__ = _create_sharing  # type: ignore[method-assign, assignment] # for all sessions


def share_event_names() -> None:
    """Make each new session use what another one knows of event names and of handlers."""
    _hooks.EventAliaser._alias_event_name = _known_name
    _hooks.accepts_kwargs = _known_to_accept_options


def skip_public_certificates() -> None:
    """Load no public CA certificates, which takes 50 ms, for no server of the tests has one."""
    ssl.SSLContext.load_verify_locations = _load_unless_public  # type: ignore[method-assign, assignment] # for all clients


def _create_sharing(loader: Loader, *arguments: Any, **options: Any) -> None:
    _create(loader, *arguments, **options)
    if not arguments and not options:
        loader._cache = _models  # type: ignore[attr-defined] # the SDK has no option for it


def _load_unless_public(
    context: ssl.SSLContext, cafile: Any = None, *others: Any, **options: Any
) -> None:
    if cafile not in _PUBLIC:
        _load_verify_locations(context, cafile, *others, **options)


def _known_name(aliaser: Any, name: str) -> str:
    known = _names.get(name)
    if known is None:
        known = _names[name] = _alias_event_name(aliaser, name)
    return known


def _known_to_accept_options(handler: Callable[..., Any]) -> bool:
    return bool(_accepts_options(getattr(handler, "__func__", handler)))
