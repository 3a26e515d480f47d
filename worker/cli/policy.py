"""Verbs for the policies table."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError

from worker.cli import screen
from worker.cli.names import check_policy
from worker.cli.options import AnyPolicy, AsJSON, PolicyId, PolicyVersion
from worker.cli.running import run_async
from worker.domain.acceptance import parse_time
from worker.domain.evidence import timestamp
from worker.domain.policy import Policy, in_force
from worker.errors import UsageError
from worker.repository import AUPRepository
from worker.runtime.clock import utc_now
from worker.runtime.validation import describe
from worker.settings import load

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Publish, list and retire policy versions.",
)

ResultT = TypeVar("ResultT")


def _with_repository(action: Callable[[AUPRepository], Awaitable[ResultT]]) -> ResultT:
    async def run() -> ResultT:
        async with AUPRepository(load().aws) as repository:
            return await action(repository)

    return run_async(run())


def _report(policies: list[Policy], *, as_json: bool) -> None:
    if as_json:
        screen.print_json([policy.model_dump(mode="json") for policy in policies])
        return
    out = screen.stdout()
    if not policies:
        out.print("no policies")
        return
    now = utc_now()
    current = {
        id(in_force([each for each in policies if each.policy_id == policy.policy_id], now))
        for policy in policies
    }
    rows = (
        (
            policy.policy_id,
            policy.version,
            "in force" if id(policy) in current else _state(policy, now),
            policy.title,
            policy.effective_at.isoformat(timespec="seconds"),
            policy.retired_at.isoformat(timespec="seconds") if policy.retired_at else "",
            policy.content_sha256,
        )
        for policy in policies
    )
    columns = ("policy", "version", "state", "title", "effective", "retired", "sha256")
    out.print(screen.table(columns, rows))


def _state(policy: Policy, now: datetime) -> str:
    if policy.retired_at is not None and policy.retired_at <= now:
        return "retired"
    return "scheduled" if policy.effective_at > now else "superseded"


@app.command()
def publish(
    policy: PolicyId,
    version: PolicyVersion,
    file: Annotated[
        Path | None, typer.Option(help="File with the text exactly as shown to users.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="SHA-256 of the text, instead of --file.")
    ] = None,
    title: Annotated[str, typer.Option(help="Title (default: the policy id).")] = "",
    effective_at: Annotated[
        str | None, typer.Option(help="Effective time, RFC 3339 (default: now).")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Publish a policy version.

    Publishing the same version again changes nothing.

    Example: aup-worker policy publish --policy aup --version 7 --file aup.html
    """
    check_policy(policy, version)
    if (file is None) == (sha256 is None):
        raise UsageError("pass either --file or --sha256")
    now = utc_now()
    fields: dict[str, Any] = {
        "policy_id": policy,
        "version": version,
        "title": title or policy,
        "content_sha256": _hash(file) if file else str(sha256).lower(),
        "published_at": now,
        "effective_at": _time(effective_at) if effective_at else now,
    }
    try:
        requested = Policy(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{first['loc'][0]}: {describe(first)}") from None
    published = _with_repository(lambda repository: repository.publish_policy(requested))
    _report([published], as_json=as_json)


def _hash(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None


def _time(text: str) -> datetime:
    try:
        return parse_time(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--effective-at {text}: {error}") from None


@app.command("list")
def list_(policy: AnyPolicy = None, as_json: AsJSON = False) -> None:
    """List published policy versions.

    Example: aup-worker policy list --json
    """
    check_policy(policy)
    _report(_with_repository(lambda repository: repository.policies(policy)), as_json=as_json)


@app.command()
def retire(policy: PolicyId, version: PolicyVersion, as_json: AsJSON = False) -> None:
    """Retire a policy version.

    Users are no longer asked to accept it. Recorded acceptances are kept. A version that is already
    retired keeps its retirement time.

    Example: aup-worker policy retire --policy aup --version 2025-07
    """
    check_policy(policy, version)
    now = utc_now()
    retired = _with_repository(
        lambda repository: repository.retire_policy(policy, version, retired_at=now)
    )
    if retired.retired_at is not None and timestamp(retired.retired_at) != timestamp(now):
        first = timestamp(retired.retired_at)
        screen.note(f"{policy} {version} was already retired at {first}; nothing was changed")
    _report([retired], as_json=as_json)
