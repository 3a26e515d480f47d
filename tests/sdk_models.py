"""Models of AWS services that all SDK sessions of a test process share.

A session parses the models and the endpoints of each service, which takes longer than most tests.
"""

from __future__ import annotations

from typing import Any, Final

import botocore.session
from botocore.loaders import Loader, create_loader

_loaded: Final[dict[Any, Any]] = {}


def share_models() -> None:
    """Make each new session use what another one has loaded."""
    botocore.session.create_loader = _sharing_loader


def _sharing_loader(data_path: str | None = None) -> Loader:
    loader = create_loader(data_path)
    if data_path is None:
        loader._cache = _loaded  # type: ignore[attr-defined] # the SDK has no option for it
    return loader
