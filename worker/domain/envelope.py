"""Decoding of a message body to an acceptance, with or without an envelope."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from worker.domain import hints, strict_json
from worker.domain.acceptance import NAMES, Acceptance, parse_time
from worker.domain.strict_json import DuplicateNameError
from worker.errors import FutureError, Reason, RefusedError
from worker.runtime.validation import describe

# An SNS notification may contain a CloudEvent, and so on; real messages do not nest deeper.
_ENVELOPES_MAX: Final = 4
# Parsing a mebibyte of brackets would block the event loop for a second.
_VALUES_MAX: Final = 10_000
# Shorter bodies have at most so many values.
_PLAIN_MAX_CHARACTERS: Final = _VALUES_MAX
# With more fields most of them are unknown, which `decode_any` reads faster.
_PLAIN_MAX_NAMES: Final = 3 * len(NAMES)
_validate_json: Final = Acceptance.__pydantic_validator__.validate_json


def decode(body: str | bytes, *, now: datetime, clock_skew_seconds: float) -> Acceptance:
    """Decode and validate an acceptance.

    Args:
        body: JSON of the acceptance itself, a CloudEvent (structured mode), an SNS notification or
            an EventBridge event. Envelopes may be nested.
        now: Current time, aware; `accepted_at` is compared with it.
        clock_skew_seconds: Maximum time that `accepted_at` may be in the future.

    Raises:
        FutureError: `accepted_at` is too far in the future.
        RefusedError: `malformed` with the position in the text, or `invalid` with the name of the
            field. If the body is recognised as another format, the detail names it.

    Source: CloudEvents 1.0.2, JSON format; Amazon SNS and EventBridge developer guides.
    """
    acceptance, path = decode_plain(body), ""
    if acceptance is None:
        acceptance, path = decode_any(body)
    accepted_at = parse_time(acceptance.accepted_at)
    if accepted_at > now and accepted_at > now + timedelta(seconds=clock_skew_seconds):
        raise FutureError(
            Reason.INVALID,
            f"{path}accepted_at: {acceptance.accepted_at} is in the future: more than "
            f"{clock_skew_seconds:g} s after {now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        )
    return acceptance


def decode_plain(body: str | bytes) -> Acceptance | None:
    """Return the acceptance in a short body without an envelope, parsing it only once.

    Returns:
        What `decode_any` returns, or None if that has to decide and to describe the problem.
    """
    if len(body) > _PLAIN_MAX_CHARACTERS:
        return None
    try:
        raw = body.encode() if isinstance(body, str) else body
        if raw.count(b'":') > _PLAIN_MAX_NAMES:
            return None
        acceptance: Acceptance = _validate_json(raw)
        if strict_json.count_strings(raw) != acceptance.count_strings():
            return None
        if acceptance.model_extra:
            acceptance.keep_text(raw.decode())
    except ValueError:
        return None
    return acceptance


def decode_any(body: str | bytes) -> tuple[Acceptance, str]:
    """Return the acceptance in any body, and the path to it.

    Raises:
        RefusedError: As in `decode`, but for the time.
    """
    payload, path = _unwrap(_parse(body), "")
    try:
        acceptance = Acceptance.of_message(payload)
        if acceptance.model_extra:
            text = body if isinstance(body, str) else body.decode()
            acceptance.keep_text(_inner_text(text, path))
    except ValidationError as error:
        raise RefusedError(Reason.INVALID, _describe(error, payload, path)) from None
    except ValueError as error:
        raise RefusedError(Reason.INVALID, f"{path}unknown fields: {error}") from None
    return acceptance, path


def _inner_text(text: str, path: str) -> str:
    """Return the text of the object that `_unwrap` found at a path in a valid body."""
    for name in path.split(".")[:-1]:
        text = strict_json.members(text)[name]
        if text.startswith('"'):  # a string that contains JSON
            text = json.loads(text)
            if name == "data_base64":
                text = base64.b64decode(text).decode()
    return text


def unwrap(body: str | bytes) -> tuple[Mapping[str, Any], str]:
    """Return the acceptance without its envelopes and without validation.

    Args:
        body: As in `decode`.

    Returns:
        The fields, and the path to them in the body: names with a dot after each.

    Raises:
        RefusedError: `malformed` or `invalid`, as in `decode`.
    """
    return _unwrap(_parse(body), "")


def _parse(text: str | bytes, path: str = "") -> Any:
    prefix = f"{path}: " if path else ""
    raw = b""
    try:
        if isinstance(text, str):
            raw = text.encode()
        else:
            raw = text
            raw.decode()
    except UnicodeError as error:
        problem = f"{prefix}not UTF-8 at character {getattr(error, 'start', 0)}"
        raise RefusedError(Reason.MALFORMED, _with_hint(problem, hints.of_text(raw))) from None
    # A fast upper bound of the number of values; each has at least one byte.
    if len(raw) > _VALUES_MAX and sum(map(raw.count, (b",", b"]", b"}"))) > _VALUES_MAX:
        raise RefusedError(Reason.INVALID, f"{prefix}more than {_VALUES_MAX} values")
    try:
        return strict_json.read(raw)
    except DuplicateNameError as error:
        raise RefusedError(Reason.MALFORMED, f"{path}.{error}" if path else f"{error}") from None
    except ValueError as error:
        problem = f"{prefix}not JSON: {error}"
        raise RefusedError(Reason.MALFORMED, _with_hint(problem, hints.of_text(raw))) from None


def _with_hint(problem: str, hint: str) -> str:
    return f"{problem} ({hint})" if hint else problem


def _unwrap(data: Any, path: str, depth: int = 0) -> tuple[Mapping[str, Any], str]:
    if not isinstance(data, dict):
        # A valid envelope with other content is not a malformed message.
        reason = Reason.INVALID if depth else Reason.MALFORMED
        prefix = f"{path.rstrip('.')}: " if path else ""
        problem = f"{prefix}expected a JSON object, got {_kind(data)}"
        raise RefusedError(reason, _with_hint(problem, hints.of_value(data)))
    if "event_id" in data or depth == _ENVELOPES_MAX:
        return data, path
    if "specversion" in data:
        return _unwrap(*_cloud_event(data, path), depth + 1)
    if data.get("Type") and "TopicArn" in data:
        return _unwrap(*_sns(data, path), depth + 1)
    if "detail-type" in data:
        return _unwrap(
            _inner(data, "detail", path, "EventBridge event"), f"{path}detail.", depth + 1
        )
    return data, path


def _cloud_event(data: Mapping[str, Any], path: str) -> tuple[Any, str]:
    if "data_base64" in data:
        try:
            inner = base64.b64decode(data["data_base64"], validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise RefusedError(Reason.MALFORMED, f"{path}data_base64: not base64") from None
        return _parse(inner, f"{path}data_base64"), f"{path}data_base64."
    inner = _inner(data, "data", path, "CloudEvent")
    if isinstance(inner, str):  # some producers serialise their data twice
        inner = _parse(inner, f"{path}data")
    return inner, f"{path}data."


def _sns(data: Mapping[str, Any], path: str) -> tuple[Any, str]:
    if data["Type"] != "Notification":
        problem = hints.of_value(data) or "not an SNS notification"
        raise RefusedError(Reason.INVALID, f"{path}Type: {problem}")
    message = _inner(data, "Message", path, "SNS notification")
    if not isinstance(message, str):
        raise RefusedError(Reason.INVALID, f"{path}Message: must be a string")
    return _parse(message, f"{path}Message"), f"{path}Message."


def _inner(data: Mapping[str, Any], name: str, path: str, envelope: str) -> Any:
    if name not in data:
        raise RefusedError(Reason.INVALID, f"{path}{name}: missing in this {envelope}")
    return data[name]


def _kind(value: Any) -> str:
    kinds = {bool: "a boolean", list: "an array", str: "a string", type(None): "null"}
    return kinds.get(type(value), "a number")


def _describe(error: ValidationError, payload: Mapping[str, Any], path: str) -> str:
    hint = "" if "event_id" in payload else hints.of_value(payload)
    if hint:
        return f"{path.rstrip('.') or 'the message'}: {hint}"
    problems = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        field = ".".join(str(part) for part in problem["loc"]) or "unknown fields"
        text = describe(problem)
        if problem["type"] == "missing":
            text = f"missing{hints.of_missing(field, payload)}"
        problems.append(f"{path}{field}: {text}")
    return "; ".join(problems)
