"""The verbs for the evidence of one user: accepted, erase."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from worker.cli import screen
from worker.cli.names import check_recorded
from worker.cli.running import run_async
from worker.domain.evidence import ERASABLE
from worker.errors import AUPError, PolicyNotFoundError, UsageError
from worker.operations.evidence.erasure import Erasure, plan
from worker.operations.evidence.erasure import erase as erase_one
from worker.operations.evidence.page import page
from worker.operations.evidence.verification import (
    Verification,
    document,
    readable,
    verify_record,
    verify_records,
)
from worker.repository import AUPRepository
from worker.settings import load

AsJSON = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
User = Annotated[str, typer.Argument(help="The user's id.")]
FileFormat = Literal["json", "html"]
_HOW: Final = ("method", "channel", "locale")


def accepted(
    user: User,
    policy: Annotated[str | None, typer.Option(help="Only this policy.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Recompute each hash; compare the policy's.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write a file to keep: .json, or .html to print.")
    ] = None,
    format_: Annotated[
        FileFormat | None, typer.Option("--format", help="Of the file; by its name, if absent.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Show what a user accepted; verify it, or keep it in a file.

    With --policy, also whether the version in force now is among it. Exit codes: 0 done, 1 some of
    it does not verify (asked with --verify or --export).

    Example: aup-worker accepted u-42 --verify --export u-42.html
    """
    check_recorded(user, policy)
    file_format = _format_of(export, format_, force=force)
    verified = verify or export is not None
    proofs, current = run_async(_accepted(user, policy, verified=verified))
    if export is not None:
        _export(export, document(user, proofs, datetime.now(UTC)), file_format, force=force)
    if as_json:
        screen.print_json(_report(user, policy, proofs, current, verified=verified))
    else:
        _show(user, policy, proofs, current, verified=verified)
    unsound = sum(not proof.sound for proof in proofs)
    if export is not None:
        screen.note(
            f"wrote {export}: {_counted(len(proofs), 'record')}, {len(proofs) - unsound} verified"
        )
    if verified and unsound:
        screen.note(f"does not verify: {unsound} of {_counted(len(proofs), 'record')}")
        raise typer.Exit(1)


def _format_of(
    export: Path | None, stated: FileFormat | None, *, force: bool
) -> Literal["json", "html"]:
    if export is None:
        if stated or force:
            raise UsageError("--format and --force are for --export FILE")
        return "json"
    if os.path.lexists(export) and not force:
        raise UsageError(f"{export}: exists; --force replaces it")
    if not export.parent.is_dir():
        raise UsageError(f"{export}: no such directory as {export.parent}")
    suffixes: dict[str, FileFormat] = {".json": "json", ".html": "html", ".htm": "html"}
    found = stated or suffixes.get(export.suffix.lower())
    if found is None:
        raise UsageError(f"{export}: ends in neither .json nor .html; say which with --format")
    return found


async def _accepted(
    user: str, policy: str | None, *, verified: bool
) -> tuple[list[Verification], bool | None]:
    settings = load()
    async with AUPRepository(settings.aws) as repository:
        items = [item async for item in repository.acceptances(user, policy)]
        if verified:
            proofs = await verify_records(repository, items, settings.clock_skew_seconds)
        else:
            proofs = [verify_record(item, None) for item in items]
        if policy is None:
            return proofs, None
        try:
            return proofs, await repository.has_accepted(user, policy)
        except PolicyNotFoundError:
            return proofs, None


def _export(path: Path, content: dict[str, Any], file_format: FileFormat, *, force: bool) -> None:
    if file_format == "html":
        text = page(content)
    else:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    temporary = ""
    try:
        # Readable by its owner alone: it holds addresses. There whole or not at all.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
        if not force and os.path.lexists(path):
            raise UsageError(f"{path}: exists; --force replaces it")
        Path(temporary).replace(path)
        temporary = ""
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _report(
    user: str,
    policy: str | None,
    proofs: list[Verification],
    current: bool | None,
    *,
    verified: bool,
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "user_id": user,
        "acceptances": [readable(proof.item) for proof in proofs],
    }
    if policy is not None:
        report["accepted_version_in_force"] = current
    if verified:
        report["verification"] = [
            {"policy_version": proof.item.get("policy_version"), **proof.result()}
            for proof in proofs
        ]
        report["sound"] = all(proof.sound for proof in proofs)
    return report


def _show(
    user: str,
    policy: str | None,
    proofs: list[Verification],
    current: bool | None,
    *,
    verified: bool,
) -> None:
    out = screen.stdout()
    if proofs:
        how = ["record", "text", "erased"] if verified else ["recorded", "how"]
        table = screen.table("policy", "version", "accepted", *how, "text sha256")
        for proof in proofs:
            table.add_row(*map(screen.plain, _cells(proof, verified=verified)))
        out.print(table)
    else:
        of_policy = f" of {policy}" if policy else ""
        out.print(screen.plain(f"no acceptance{of_policy} by {user} is recorded"))
    if verified:
        for proof in proofs:
            remarks = [f"remark: {each}" for each in proof.remarks]
            for line in (*proof.problems, *remarks):
                out.print(screen.plain(f"{proof.item.get('policy_version')}: {line}"))
    if policy is not None:
        answers = {True: "accepted", False: "not accepted", None: "no version is in force"}
        out.print(screen.plain(f"version of {policy} in force now: {answers[current]}"))


def _cells(proof: Verification, *, verified: bool) -> list[str]:
    item = proof.item
    cells = [str(item.get(name, "")) for name in ("policy_id", "version", "accepted_at")]
    if verified:
        cells.append(proof.verdict)
        cells += [proof.text.value, ", ".join(proof.erased)]
    else:
        cells.append(str(item.get("recorded_at", "")))
        cells.append(" ".join(str(item[name]) for name in _HOW if name in item))
    return [*cells, str(item.get("content_sha256", ""))]


def _complete_fields(incomplete: str) -> list[str]:
    """Complete a list of fields, joined by commas."""
    before, comma, last = incomplete.rpartition(",")
    chosen = set(before.split(","))
    return [
        f"{before}{comma}{each}"
        for each in ERASABLE
        if each.startswith(last) and each not in chosen
    ]


def erase(
    user: User,
    fields: Annotated[
        str, typer.Option(autocompletion=_complete_fields, help=f"Which, of {','.join(ERASABLE)}.")
    ],
    policy: Annotated[str | None, typer.Option(help="Only of this policy,")] = None,
    version: Annotated[str | None, typer.Option(help="only of this version of it.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what, erase nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Erase private fields of a user; the rest stays provable.

    The values and their salts go, their commitments stay. It takes
    dynamodb:PartiQLUpdate (with AUP_WRITE_API=put dynamodb:UpdateItem) and dynamodb:Query on the
    users' table, which the worker's own role should not have. Not touched:
    the same values under `extra`, in dead letters, in backups and in files that were exported.
    Exit codes: 0 done, also where nothing was left to erase; 1 some of it failed.

    Example: aup-worker erase u-42 --fields ip,user_agent,session_id --dry-run
    """
    check_recorded(user, policy, version)
    chosen = _chosen(fields)
    if version is not None and policy is None:
        raise UsageError("--version needs --policy")
    if not (yes or dry_run) and not sys.stdin.isatty():
        raise UsageError("nobody to ask: --yes erases without asking, --dry-run says what")
    count, erasures = run_async(_planned(user, policy, version, chosen))
    if count == 0:
        raise AUPError(f"no acceptance by {user} is recorded there; nothing was erased")
    _tell_elsewhere(erasures)
    if erasures and not dry_run:
        _confirm(user, erasures, yes=yes)
        run_async(_erase(erasures))
    if as_json:
        summaries = [each.summary() for each in erasures]
        screen.print_json(
            {"user_id": user, "dry_run": dry_run, "records": count, "erasures": summaries}
        )
    else:
        _show_erasures(erasures)
    _tell(count, erasures, dry_run=dry_run)
    if any(each.problem for each in erasures):
        raise typer.Exit(1)


def _chosen(text: str) -> list[str]:
    chosen = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in chosen if name not in ERASABLE]
    if unknown or not chosen:
        raise UsageError(f"--fields {text}: must be of {','.join(ERASABLE)}")
    return chosen


async def _planned(
    user: str, policy: str | None, version: str | None, fields: Sequence[str]
) -> tuple[int, list[Erasure]]:
    async with AUPRepository(load().aws) as repository:
        items = [
            item
            async for item in repository.acceptances(user, policy)
            if version is None or item["policy_version"] == f"{policy}#{version}"
        ]
    return len(items), plan(items, fields)


async def _erase(erasures: list[Erasure]) -> None:
    async with AUPRepository(load().aws) as repository:
        for erasure in erasures:
            await erase_one(repository, erasure)


def _confirm(user: str, erasures: list[Erasure], *, yes: bool) -> None:
    if yes:
        return
    screen.note(f"{_amount(erasures)} will be erased, for ever")
    typed = typer.prompt("type the user's id to go on", err=True, default="", show_default=False)
    if typed != user:
        raise UsageError("that is another id; nothing was erased")


def _amount(erasures: list[Erasure]) -> str:
    fields = sum(len(each.fields) for each in erasures)
    return f"{_counted(fields, 'field')} of {_counted(len(erasures), 'record')}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _tell_elsewhere(erasures: list[Erasure]) -> None:
    for each in erasures:
        if each.elsewhere:
            names = ", ".join(each.elsewhere)
            screen.note(
                f"{each.item['policy_version']}: the value of {names} stands in another field too "
                "(such as `extra`), which is proven as it is and not touched"
            )


def _show_erasures(erasures: list[Erasure]) -> None:
    if not erasures:
        return
    table = screen.table("record", "fields", "state")
    for each in erasures:
        state = each.problem or ("erased, verified" if each.done else "to be erased")
        cells = (each.item["policy_version"], ", ".join(each.fields), state)
        table.add_row(*map(screen.plain, cells))
    screen.stdout().print(table)


def _tell(count: int, erasures: list[Erasure], *, dry_run: bool) -> None:
    if not erasures:
        screen.note(f"nothing to erase: none of these fields is in {_counted(count, 'record')}")
    elif dry_run:
        sound = [each for each in erasures if not each.problem]
        screen.note(f"{_amount(sound)} would be erased; nothing was")
    else:
        screen.note(f"erased {_amount([each for each in erasures if each.done])}")
