"""The stage that reads a message: bytes to an acceptance, or the reason why not."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from worker.domain import hints, strict_json
from worker.domain.acceptance import Acceptance, parse_time
from worker.domain.strict_json import DuplicateNameError
from worker.errors import FutureError, Reason, RefusedError
from worker.runtime.validation import describe

# An SNS notification may hold a CloudEvent, and so on; nobody nests deeper in earnest.
_ENVELOPES_MAX: Final = 4
# A mebibyte of brackets takes a second to read, and nobody else is served meanwhile.
_VALUES_MAX: Final = 10_000


def decode(body: str | bytes, *, now: datetime, clock_skew_seconds: float) -> Acceptance:
    """Read an acceptance, bare or in an envelope.

    Args:
        body: JSON: the acceptance itself, a CloudEvent (structured mode), an SNS notification or an
            EventBridge event; envelopes may be nested.
        now: the time that `accepted_at` is compared with, aware.
        clock_skew_seconds: how much later `accepted_at` may be.

    Raises:
        FutureError: `accepted_at` is later.
        RefusedError: `malformed` with the place in the text, or `invalid` with the field's name.
            Where the body is recognised as something else, the detail says what.

    Source: CloudEvents 1.0.2, JSON format; Amazon SNS and EventBridge developer guides.
    """
    payload, path = _unwrap(_parse(body), "")
    try:
        acceptance = Acceptance.model_validate(payload)
    except ValidationError as error:
        raise RefusedError(Reason.INVALID, _describe(error, payload, path)) from None
    accepted_at = parse_time(acceptance.accepted_at)
    if accepted_at > now and accepted_at > now + timedelta(seconds=clock_skew_seconds):
        raise FutureError(
            Reason.INVALID,
            f"{path}accepted_at: {acceptance.accepted_at} is in the future: more than "
            f"{clock_skew_seconds:g} s after {now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        )
    return acceptance


def unwrap(body: str | bytes) -> tuple[Mapping[str, Any], str]:
    """Take the acceptance out of its envelopes, without judging it.

    Args:
        body: as `decode` takes it.

    Returns:
        Its fields, and where in the body they are: names, each with a dot after it.

    Raises:
        RefusedError: `malformed` or `invalid`, as `decode` has it.
    """
    return _unwrap(_parse(body), "")


def _parse(text: str | bytes, path: str = "") -> Any:
    place = f"{path}: " if path else ""
    raw = b""
    try:
        if isinstance(text, str):
            raw = text.encode()
        else:
            raw = text
            raw.decode()
    except UnicodeError as error:
        problem = f"{place}not UTF-8 at character {getattr(error, 'start', 0)}"
        raise RefusedError(Reason.MALFORMED, _with_hint(problem, raw)) from None
    # An upper bound, and quick; a value takes a byte at least.
    if len(raw) > _VALUES_MAX and sum(map(raw.count, (b",", b"]", b"}"))) > _VALUES_MAX:
        raise RefusedError(Reason.INVALID, f"{place}more than {_VALUES_MAX} values")
    try:
        return strict_json.read(raw)
    except DuplicateNameError as error:
        raise RefusedError(Reason.MALFORMED, f"{path}.{error}" if path else f"{error}") from None
    except ValueError as error:
        problem = f"{place}not JSON: {error}"
        raise RefusedError(Reason.MALFORMED, _with_hint(problem, raw)) from None


def _with_hint(problem: str, raw: bytes) -> str:
    hint = hints.of_text(raw)
    return f"{problem} ({hint})" if hint else problem


def _unwrap(data: Any, path: str, depth: int = 0) -> tuple[Mapping[str, Any], str]:
    if not isinstance(data, dict):
        hint = hints.of_value(data)
        # An envelope that reads well and holds something else is no broken message.
        reason = Reason.INVALID if depth else Reason.MALFORMED
        place = f"{path.rstrip('.')}: " if path else ""
        problem = f"{place}expected a JSON object, got {_kind(data)}"
        raise RefusedError(reason, f"{problem} ({hint})" if hint else problem)
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
    if isinstance(inner, str):  # a producer that serialised its data twice
        inner = _parse(inner, f"{path}data")
    return inner, f"{path}data."


def _sns(data: Mapping[str, Any], path: str) -> tuple[Any, str]:
    if data["Type"] != "Notification":
        problem = hints.of_value(data) or "an SNS message other than a Notification"
        raise RefusedError(Reason.INVALID, f"{path}Type: {problem}")
    message = _inner(data, "Message", path, "SNS notification")
    if not isinstance(message, str):
        raise RefusedError(Reason.INVALID, f"{path}Message: must be a string")
    return _parse(message, f"{path}Message"), f"{path}Message."


def _inner(data: Mapping[str, Any], name: str, path: str, envelope: str) -> Any:
    if name not in data:
        raise RefusedError(Reason.INVALID, f"{path}{name}: missing; this {envelope} holds nothing")
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
