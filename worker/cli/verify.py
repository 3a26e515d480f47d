"""Verb that verifies an exported evidence file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from worker.cli import screen
from worker.cli.evidence import show_verified
from worker.cli.options import AsJSON
from worker.domain.strict_json import read_text
from worker.errors import UsageError
from worker.operations.evidence.document import VerifiedDocument, verify_document
from worker.operations.evidence.verification import CLOCK_SKEW_SECONDS, Verdict
from worker.runtime.quantities import counted

_PROVED: Final = (
    "Proved: every record and every text in this file matches its hash, each record names the text "
    "that was accepted, and edits by operators are listed."
)
_NOT_PROVED: Final = (
    "Not proved: that the file contains all records of the user, and that it was not altered by a "
    "person who computed the hashes again. To prove it, compare each record_sha256 with the table "
    "(aup-worker accepted USER --json). The times are those of the clocks of the application, of "
    "Amazon SQS and of the worker."
)


def verify(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File written by accepted --export FILE.json.")
    ],
    as_json: AsJSON = False,
) -> None:
    """Verify an exported evidence file without AWS.

    Recomputes the hashes of records, texts and private fields. Exit codes: 0 success, 1 a record or
    text was altered, 2 not an evidence file.

    Example: aup-worker verify u-42.json
    """
    try:
        content = read_text(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{file}: not JSON: {error}; pass a file written by accepted USER --export FILE.json"
        ) from None
    try:
        with screen.counting("verifying") as progress:
            verified = verify_document(content, CLOCK_SKEW_SECONDS, progress)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    if as_json:
        screen.print_json(
            {
                "user_id": verified.user_id,
                "exported_at": verified.exported_at,
                "sound": verified.sound,
                "problems": verified.problems,
                "verification": [
                    {"policy_version": each.item.get("policy_version"), **each.result()}
                    for each in verified.verifications
                ],
            }
        )
    else:
        _show(verified)
    if not verified.sound:
        screen.note(f"{file}: verification failed")
        raise typer.Exit(1)


def _show(verified: VerifiedDocument) -> None:
    out = screen.stdout()
    for problem in verified.problems:
        out.print(screen.plain(problem))
    if not verified.verifications:
        return
    show_verified(out, verified.verifications)
    counts = dict.fromkeys(Verdict, 0)
    for each in verified.verifications:
        counts[each.verdict] += 1
    shown = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)
    records = counted(len(verified.verifications), "record")
    out.print(screen.plain(f"{records} of {verified.user_id}: {shown}"))
    if verified.sound:
        screen.print_paragraph(_PROVED)
        screen.print_paragraph(_NOT_PROVED)
