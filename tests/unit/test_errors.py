"""Error texts."""

from __future__ import annotations

from worker.errors import Reason, RefusedError, SettingsError


def test_error_text_is_one_line() -> None:
    assert str(RefusedError(Reason.INVALID, "user_id: missing")) == "invalid: user_id: missing"
    assert str(SettingsError(["one", "two"])) == "one; two"
