"""Settings with given values."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic_settings import BaseSettings

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def given(model: type[SettingsT], values: dict[str, Any]) -> SettingsT:
    """Return validated settings without reading the environment, which takes milliseconds."""
    settings = model.__new__(model)
    BaseModel.__init__(settings, **values)
    return settings
