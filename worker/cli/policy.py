"""Verbs for the policies table."""

from __future__ import annotations

import mimetypes
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from pydantic import ValidationError

from worker.cli import screen
from worker.cli.options import AnyPolicy, AsJSON, PolicyId, PolicyVersion, expand_options
from worker.cli.running import run_async
from worker.domain.acceptance import parse_time
from worker.domain.evidence import timestamp
from worker.domain.policy import Policy, PolicyText, state
from worker.domain.text_content import TextContent
from worker.errors import UsageError
from worker.operations.names import check_policy
from worker.operations.policies import (
    PublishedText,
    differences,
    readable,
    stored,
    version_texts,
)
from worker.repository import AUPRepository
from worker.runtime.clock import utc_now
from worker.runtime.validation import describe
from worker.settings import load

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Publish, show, compare and retire policy versions.",
)

ResultT = TypeVar("ResultT")


def _with_repository(action: Callable[[AUPRepository], Awaitable[ResultT]]) -> ResultT:
    async def run() -> ResultT:
        async with AUPRepository(load().aws) as repository:
            return await action(repository)

    return run_async(run())


_COLUMNS: Final = (
    "policy", "version", "state", "effective", "title", "retired", "languages", "sha256",
)  # fmt: skip
_DETAILS: Final = {"title": "", "retired": "retired ", "languages": "languages ", "sha256": ""}


def _report(policies: list[Policy], *, as_json: bool, complete: bool = False) -> None:
    """Print policy versions.

    Args:
        policies: The versions.
        as_json: Whether to print JSON.
        complete: Whether these are all versions of their policies.
    """
    if as_json:
        screen.print_json([policy.model_dump(mode="json") for policy in policies])
        return
    if not policies:
        screen.stdout().print("no policies")
        return
    rows = [
        (
            policy.policy_id,
            policy.version,
            state(policy, policies if complete else None, utc_now()),
            _seconds(policy.effective_at),
            policy.title,
            _seconds(policy.retired_at),
            ", ".join(text.locale for text in policy.texts),
            policy.content_sha256,
        )
        for policy in policies
    ]
    screen.print_rows(screen.stdout(), _COLUMNS, rows, _DETAILS)


def _seconds(time: datetime | None) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if time else ""


@dataclass(frozen=True, slots=True)
class TextOptions:
    """Options that name a text to publish."""

    file: Annotated[
        Path | None, typer.Option(help="File with the text exactly as shown to users.")
    ] = None
    sha256: Annotated[str | None, typer.Option(help="SHA-256 of the text, instead of --file.")] = (
        None
    )
    locale: Annotated[
        str | None,
        typer.Option(help="Language of the text, such as es-ES, to add to a published version."),
    ] = None


@app.command()
@expand_options
def publish(
    policy: PolicyId,
    version: PolicyVersion,
    options: TextOptions,
    title: Annotated[str, typer.Option(help="Title (default: the policy id).")] = "",
    effective_at: Annotated[
        str | None, typer.Option(help="Effective time, RFC 3339 (default: now).")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Publish a policy version, or its text in another language.

    Stores the text of --file, so that evidence contains it. Publishing the same text again changes
    nothing; another text for the same version and language is refused.

    Example: aup-worker policy publish --policy aup --version 7 --file aup.html
    """
    check_policy(policy, version)
    if (options.file is None) == (options.sha256 is None):
        raise UsageError("pass either --file or --sha256")
    content = _read(options.file) if options.file else None
    sha256 = content.sha256 if content else str(options.sha256).lower()
    if options.locale is not None:
        if title or effective_at:
            raise UsageError(
                "--title and --effective-at: not allowed with --locale, which adds a text to a "
                "published version"
            )
        text = _text(sha256, options.locale)
        published = _with_repository(
            lambda repository: repository.publish_text(policy, version, text, content)
        )
    else:
        requested = _requested(policy, version, sha256, title, effective_at)
        published = _with_repository(
            lambda repository: repository.publish_policy(requested, content)
        )
    _report([published], as_json=as_json)


def _requested(
    policy: str, version: str, sha256: str, title: str, effective_at: str | None
) -> Policy:
    now = utc_now()
    fields: dict[str, Any] = {
        "policy_id": policy,
        "version": version,
        "title": title or policy,
        "content_sha256": sha256,
        "published_at": now,
        "effective_at": _time(effective_at) if effective_at else now,
    }
    try:
        return Policy(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{first['loc'][0]}: {describe(first)}") from None


def _text(sha256: str, locale: str) -> PolicyText:
    if not locale:
        raise UsageError("--locale: must not be empty")
    try:
        return PolicyText(sha256, locale)
    except ValueError as error:
        raise UsageError(f"--{error}") from None


def _read(file: Path) -> TextContent:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    if not content:
        raise UsageError(f"{file}: empty")
    media_type = mimetypes.guess_type(file.name)[0]
    return TextContent(content, media_type or "application/octet-stream")


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
    found = _with_repository(lambda repository: repository.policies(policy))
    _report(found, as_json=as_json, complete=True)


Id = Annotated[str, typer.Argument(metavar="ID", help="Policy id.")]
Locale = Annotated[
    str | None, typer.Option(help="Language of the text (default: the default text).")
]


@app.command()
def show(
    policy: Id,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Policy version.")],
    locale: Locale = None,
    text: Annotated[
        bool, typer.Option("--text", help="Write the text, as published, to stdout.")
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """Show a policy version and its texts, or one text.

    On a terminal --text leaves out the markup of HTML.

    Example: aup-worker policy show aup 7 --locale es-ES --text > aup.es.html
    """
    check_policy(policy, version, options=("ID", "VERSION"))
    if text and as_json:
        raise UsageError("--text and --json: pass only one of them")

    async def read(
        repository: AUPRepository,
    ) -> tuple[Policy, list[PublishedText], list[Policy]]:
        found, contents = await version_texts(repository, policy, version, locale)
        others = [] if text or as_json else await repository.policies(policy)
        return found, contents, others

    found, contents, policies = _with_repository(read)
    if text:
        _print_text(contents[0])
    elif as_json:
        stored = [_stored_text(each) for each in contents]
        screen.print_json({**found.model_dump(mode="json"), "stored_texts": stored})
    else:
        _show(found, contents, policies)


@app.command()
def diff(
    policy: Id,
    first: Annotated[str, typer.Argument(metavar="VERSION", help="Policy version.")],
    second: Annotated[str, typer.Argument(metavar="VERSION", help="Version to compare with.")],
    locale: Locale = None,
) -> None:
    """Compare the texts of two versions, without the markup of HTML.

    Example: aup-worker policy diff aup 6 7
    """
    for each in (first, second):
        check_policy(policy, each, options=("ID", "VERSION"))

    async def read(repository: AUPRepository) -> list[PublishedText]:
        found = [await version_texts(repository, policy, each, locale) for each in (first, second)]
        return [contents[0] for _, contents in found]

    before, after = _with_repository(read)
    if before.text.sha256 == after.text.sha256:
        screen.note(f"the texts of {policy} {first} and {second} are equal")
        return
    names = (f"{policy} {first}", f"{policy} {second}")
    lines = differences(before, after, names)
    styles = {"+": "green", "-": "red", "@": "cyan"}
    out = screen.stdout()
    for line in lines:
        shown = screen.plain(line, styles.get(line[:1], ""))
        out.print(shown, soft_wrap=not sys.stdout.isatty())
    if not lines:
        screen.note("the texts differ only in markup")


def _show(found: Policy, contents: list[PublishedText], policies: list[Policy]) -> None:
    out = screen.stdout()
    fields = {
        "policy": found.policy_id,
        "version": found.version,
        "title": found.title,
        "state": state(found, policies, utc_now()),
        "published": _seconds(found.published_at),
        "effective": _seconds(found.effective_at),
        "retired": _seconds(found.retired_at),
    }
    out.print(screen.table(("", ""), [each for each in fields.items() if each[1]]))
    rows = [(each.text.locale or "default", *_size(each), each.text.sha256) for each in contents]
    out.print()
    screen.print_rows(out, ("text", "type", "bytes", "sha256"), rows, {"sha256": ""})


def _size(text: PublishedText) -> tuple[str, str]:
    if text.content is None:
        return "not stored", ""
    return text.content.media_type, f"{len(text.content.content):,}"


def _stored_text(text: PublishedText) -> dict[str, Any]:
    content = text.content
    return {
        "locale": text.text.locale,
        "sha256": text.text.sha256,
        "media_type": content.media_type if content else None,
        "size_bytes": len(content.content) if content else None,
    }


def _print_text(text: PublishedText) -> None:
    if sys.stdout.isatty():
        for line in readable(text).splitlines():
            screen.stdout().print(screen.plain(line))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(stored(text).content)
    sys.stdout.buffer.flush()


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
