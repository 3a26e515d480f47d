"""Verbs for the evidence of one user: accepted, erase."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from rich.console import Console

from worker.cli import screen
from worker.cli.options import AnyPolicy, AsJSON, Force, Yes, expand_options
from worker.cli.output import OutputDir, output_path
from worker.cli.running import run_async
from worker.cli.tables import Column, Kind
from worker.domain.evidence import ERASABLE
from worker.errors import AUPError, PolicyNotFoundError, UsageError
from worker.operations.evidence.document import as_json, document, readable
from worker.operations.evidence.erasure import Erasure, plan
from worker.operations.evidence.erasure import erase as erase_one
from worker.operations.evidence.page import page
from worker.operations.evidence.sentences import edits
from worker.operations.evidence.verification import (
    Verification,
    accepted_sha256,
    verify_record,
    verify_records,
)
from worker.operations.names import check_recorded
from worker.repository import AUPRepository
from worker.runtime.atomic_file import atomic_file, check_destination
from worker.runtime.clock import utc_now
from worker.runtime.quantities import counted
from worker.settings import load

User = Annotated[str, typer.Argument(help="User id.")]
FileFormat = Literal["json", "html"]
_KEY_COLUMNS: Final = (Column("policy"), Column("version"))
_VERIFIED_COLUMNS: Final = (
    *_KEY_COLUMNS,
    Column("accepted", 2),
    Column("record"),
    Column("text", 1),
    Column("erased", 3, Kind.TEXT),
    Column("text sha256", 4, Kind.HASH),
)
_RECORDED_COLUMNS: Final = (
    *_KEY_COLUMNS,
    Column("accepted"),
    Column("recorded", 3),
    Column("method", 2, Kind.TEXT),
    Column("text sha256", 1, Kind.HASH),
)
_METHOD_FIELDS: Final = ("method", "channel", "locale")


@dataclass(frozen=True, slots=True)
class _Accepted:
    """What a user accepted.

    Attributes:
        policy: The only policy to report; None for all.
        verified: Whether the records were compared with their policies.
        current: Whether the user accepted the version in force; None if unknown.
    """

    user: str
    policy: str | None
    verified: bool
    verifications: list[Verification]
    current: bool | None


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Options for the file that the evidence is exported to."""

    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File to export to: .json, or .html to print."),
    ] = None
    output_dir: OutputDir = None
    format_: Annotated[
        FileFormat | None, typer.Option("--format", help="Export format (default: by file name).")
    ] = None
    force: Force = False


@expand_options
def accepted(
    user: User,
    policy: AnyPolicy = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Recompute all hashes; compare with the policy's.")
    ] = False,
    *,
    exporting: ExportOptions,
    as_json: AsJSON = False,
) -> None:
    """Show, verify or export what a user accepted.

    With --policy, also reports whether the user accepted the version in force. --export implies
    --verify. Exit codes: 0 success, 1 a record does not verify.

    Example: aup-worker accepted u-42 --verify --export u-42.html
    """
    check_recorded(user, policy)
    export, file_format = _destination(exporting)
    verified = verify or export is not None
    found = run_async(_accepted(user, policy, verified=verified))
    if export is not None:
        _write(
            export,
            document(user, found.verifications, utc_now()),
            file_format,
            force=exporting.force,
        )
    if as_json:
        screen.print_json(_report(found))
    else:
        _show(found)
    count = len(found.verifications)
    failed = sum(not each.sound for each in found.verifications)
    if export is not None:
        records = counted(count, "record")
        screen.note(f"wrote {export}: {records}, {count - failed} verified")
    if verified and failed:
        screen.note(f"verification failed for {failed} of {counted(count, 'record')}")
        raise typer.Exit(1)


def _destination(options: ExportOptions) -> tuple[Path | None, FileFormat]:
    """Return the file to write and its format.

    Raises:
        UsageError: The options do not fit each other, or the file cannot be written.
    """
    if options.export is None:
        if options.format_ or options.force or options.output_dir:
            raise UsageError("--format, --force and --output-dir require --export")
        return None, "json"
    suffixes: dict[str, FileFormat] = {".json": "json", ".html": "html", ".htm": "html"}
    found = options.format_ or suffixes.get(options.export.suffix.lower())
    if found is None:
        raise UsageError(
            f"{options.export}: unknown file type; pass --format json or --format html"
        )
    export = output_path(options.export, options.output_dir, "")
    check_destination(export, overwrite=options.force)
    return export, found


async def _accepted(user: str, policy: str | None, *, verified: bool) -> _Accepted:
    settings = load()
    async with AUPRepository(settings.aws) as repository:
        with screen.counting("reading records") as progress:
            items = []
            async for item in repository.acceptances(user, policy):
                items.append(item)
                progress(len(items), None)
        if verified:
            with screen.counting("verifying") as progress:
                verifications = await verify_records(
                    repository, items, settings.clock_skew_seconds, progress
                )
        else:
            verifications = [verify_record(item, None) for item in items]
        current = None
        if policy is not None:
            with suppress(PolicyNotFoundError):
                current = await repository.has_accepted(user, policy)
    return _Accepted(user, policy, verified, verifications, current)


def _write(path: Path, content: dict[str, Any], file_format: FileFormat, *, force: bool) -> None:
    text = page(content) if file_format == "html" else as_json(content)
    with atomic_file(path, overwrite=force, errors="backslashreplace") as stream:
        stream.write(text)


def _report(found: _Accepted) -> dict[str, Any]:
    report: dict[str, Any] = {
        "user_id": found.user,
        "acceptances": [readable(each.item) for each in found.verifications],
    }
    if found.policy is not None:
        report["accepted_version_in_force"] = found.current
    if found.verified:
        report["verification"] = [
            {"policy_version": each.item.get("policy_version"), **each.result()}
            for each in found.verifications
        ]
        report["sound"] = all(each.sound for each in found.verifications)
    return report


def _show(found: _Accepted) -> None:
    out, policy, verified = screen.stdout(), found.policy, found.verified
    if not found.verifications:
        of_policy = f" of {policy}" if policy else ""
        out.print(screen.plain(f"no acceptance{of_policy} by {found.user} recorded"))
    else:
        (show_verified if verified else _show_records)(out, found.verifications)
    if policy is not None:
        results = {True: "accepted", False: "not accepted", None: "no version in force"}
        out.print(screen.plain(f"version of {policy} in force: {results[found.current]}"))


def show_verified(out: Console, verifications: Sequence[Verification]) -> None:
    """Print the results of verified records, then their problems and remarks."""
    cells = [
        (
            *_key(each),
            each.verdict.value,
            each.text.value,
            ", ".join(each.erased),
            accepted_sha256(each.item) or "",
        )
        for each in verifications
    ]
    screen.print_rows(out, screen.table(_VERIFIED_COLUMNS, cells))
    for each in verifications:
        for line in (*each.problems, *(f"remark: {remark}" for remark in each.remarks)):
            out.print(screen.plain(f"{each.item.get('policy_version')}: {line}"))


def _show_records(out: Console, verifications: Sequence[Verification]) -> None:
    cells = [
        (
            *_key(each),
            str(each.item.get("recorded_at", "")),
            " ".join(str(each.item[name]) for name in _METHOD_FIELDS if name in each.item),
            accepted_sha256(each.item) or "",
        )
        for each in verifications
    ]
    screen.print_rows(out, screen.table(_RECORDED_COLUMNS, cells))
    for each in verifications:
        for line in edits(each.item):
            out.print(screen.plain(f"{each.item.get('policy_version')}: {line}"))


def _key(verification: Verification) -> tuple[str, str, str]:
    policy_id, version, accepted_at = (
        str(verification.item.get(name, "")) for name in ("policy_id", "version", "accepted_at")
    )
    return policy_id, version, accepted_at


def _complete_fields(incomplete: str) -> list[str]:
    """Return the comma-separated lists of fields that complete a prefix."""
    before, comma, last = incomplete.rpartition(",")
    selected = set(before.split(","))
    return [
        f"{before}{comma}{each}"
        for each in ERASABLE
        if each.startswith(last) and each not in selected
    ]


def erase(
    user: User,
    fields: Annotated[
        str,
        typer.Option(
            autocompletion=_complete_fields,
            help=f"Fields to erase, separated by commas: {','.join(ERASABLE)}.",
        ),
    ],
    policy: AnyPolicy = None,
    version: Annotated[
        str | None, typer.Option(help="Policy version (default: all); requires --policy.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would be erased.")
    ] = False,
    yes: Yes = False,
    as_json: AsJSON = False,
) -> None:
    """Erase private fields of a user; records stay verifiable.

    Removes the values and their salts, and keeps their commitments. Requires
    dynamodb:PartiQLUpdate (with AUP_WRITE_API=put: dynamodb:UpdateItem) and dynamodb:Query on the
    users' table, which the worker's role should not have. Copies of the values under `extra`, in
    dead letters, backups and exported files are not erased. Exit codes: 0 success, even if nothing
    was left to erase; 1 partial failure.

    Example: aup-worker erase u-42 --fields ip,user_agent,session_id --dry-run
    """
    check_recorded(user, policy, version)
    selected = _parse_fields(fields)
    if version is not None and policy is None:
        raise UsageError("--version requires --policy")
    if not (yes or dry_run) and not sys.stdin.isatty():
        raise UsageError("stdin is not a terminal; pass --yes to confirm, or --dry-run")
    count, erasures = run_async(_plan(user, policy, version, selected))
    _note_copies(erasures)
    if erasures and not dry_run:
        if not yes:
            _confirm(user, erasures)
        run_async(_erase(erasures))
    _report_erasures(user, count, erasures, dry_run=dry_run, as_json=as_json)


def _report_erasures(
    user: str, count: int, erasures: list[Erasure], *, dry_run: bool, as_json: bool
) -> None:
    if as_json:
        summaries = [each.summary() for each in erasures]
        screen.print_json(
            {"user_id": user, "dry_run": dry_run, "records": count, "erasures": summaries}
        )
    elif erasures:
        _show_erasures(erasures)
    _note_result(count, erasures, dry_run=dry_run)


def _parse_fields(text: str) -> list[str]:
    selected = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in selected if name not in ERASABLE]
    if unknown or not selected:
        raise UsageError(f"--fields {text}: expected one or more of {','.join(ERASABLE)}")
    return selected


async def _plan(
    user: str, policy: str | None, version: str | None, fields: Sequence[str]
) -> tuple[int, list[Erasure]]:
    """Return the number of matching records, and what to erase in those with these fields.

    Raises:
        AUPError: No record matches.
    """
    async with AUPRepository(load().aws) as repository:
        items = [
            item
            async for item in repository.acceptances(user, policy)
            if version is None or item["policy_version"] == f"{policy}#{version}"
        ]
    if not items:
        raise AUPError(f"no matching acceptance by {user} recorded; nothing was erased")
    return len(items), plan(items, fields)


async def _erase(erasures: list[Erasure]) -> None:
    async with AUPRepository(load().aws) as repository:
        for erasure in erasures:
            await erase_one(repository, erasure)


def _confirm(user: str, erasures: list[Erasure]) -> None:
    screen.note(f"{_amount(erasures)} will be erased permanently")
    typed = typer.prompt("Type the user id to continue", err=True, default="", show_default=False)
    if typed != user:
        raise UsageError("the id does not match; nothing was erased")


def _amount(erasures: list[Erasure]) -> str:
    fields = sum(len(each.fields) for each in erasures)
    return f"{counted(fields, 'field')} of {counted(len(erasures), 'record')}"


def _note_copies(erasures: list[Erasure]) -> None:
    for each in erasures:
        if each.elsewhere:
            names = ", ".join(each.elsewhere)
            screen.note(
                f"{each.item['policy_version']}: the value of {names} also occurs in another field "
                "(such as `extra`), which is not erased"
            )


def _show_erasures(erasures: list[Erasure]) -> None:
    rows = (
        (
            str(each.item["policy_version"]),
            ", ".join(each.fields),
            each.problem or ("erased, verified" if each.done else "to be erased"),
        )
        for each in erasures
    )
    prose = (Column(name, kind=Kind.PROSE) for name in ("fields", "state"))
    screen.stdout().print(screen.table(("record", *prose), rows))


def _note_result(count: int, erasures: list[Erasure], *, dry_run: bool) -> None:
    """Print the result in one sentence; exit with code 1 if an erasure failed."""
    if not erasures:
        screen.note(f"nothing to erase: {counted(count, 'record')} without these fields")
    elif dry_run:
        sound = [each for each in erasures if not each.problem]
        screen.note(f"{_amount(sound)} would be erased; nothing was erased")
    else:
        screen.note(f"erased {_amount([each for each in erasures if each.done])}")
    if any(each.problem for each in erasures):
        raise typer.Exit(1)
