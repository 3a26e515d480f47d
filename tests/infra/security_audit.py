"""Audits by checkov, installed from its lock into an environment of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.servers.download import DownloadError, bring, exclusive_download, virtual_environment
from tests.servers.parts import Part

ROOT: Final = Path(__file__).resolve().parents[2]
_HERE: Final = Path(__file__).parent


def tools(name: str) -> Path:
    """Return the environment of the tools of a lock of this directory, installed if necessary.

    Raises:
        DownloadError: The installation failed.
    """
    lock = _HERE / f"{name}.lock"
    part = Part(name, hashlib.sha256(lock.read_bytes()).hexdigest())
    with exclusive_download():
        if not part.is_complete:
            bring(part, virtual_environment(lock))
    return part.directory


def audit(framework: str, files: Iterable[str]) -> bool:
    """Audit files, print what checkov found, and return whether it found nothing.

    Args:
        framework: Framework of checkov.
        files: Paths from the root of the repository, or absolute ones.
    """
    try:
        checkov = tools("checkov") / "bin" / "checkov"
    except DownloadError as error:
        report(f"checkov: {error}")
        return False
    arguments = [argument for path in files for argument in ("-f", path)]
    options = ["--framework", framework, "--skip-download", "--compact", "-o", "json"]
    done = run(str(checkov), *options, *arguments)
    try:
        found = json.loads(done.stdout)
        counts, results = found["summary"], found["results"]
    except (ValueError, KeyError, TypeError):
        report(f"checkov: {done.stdout.strip()}")
        return False
    for each in results["failed_checks"]:
        report(f"checkov: {each['file_path']}: {each['resource']}: {each['check_name']}")
    for each in results["skipped_checks"]:
        reason = each["check_result"]["suppress_comment"]
        report(f"checkov: {each['resource']} without {each['check_id']}: {reason}")
    report(f"checkov: {counts['passed']} passed, {counts['failed']} failed")
    return done.returncode == 0 and counts["passed"] > 0 and not counts["parsing_errors"]


def run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in the root of the repository; its stdout has its stderr as well."""
    return subprocess.run(  # noqa: S603 -- the commands are those of the checks
        command,
        cwd=ROOT,
        env={**os.environ, "AWS_REGION": "us-east-1"},
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def report(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
