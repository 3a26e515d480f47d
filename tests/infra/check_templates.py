"""Checks of the CloudFormation templates: `python -m tests.infra.check_templates`.

cfn-lint validates the properties of resources, and checkov their security. The metadata of a
resource contains its exceptions from checkov with reasons.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.infra.stacks import NAMES
from tests.servers.download import DownloadError, bring, exclusive_download, virtual_environment
from tests.servers.parts import Part

ROOT: Final = Path(__file__).resolve().parents[2]
TEMPLATES: Final = [f"infra/{name}.yaml" for name in NAMES]
_LOCK: Final = Path(__file__).with_name("checkov.lock")
_CHECKOV: Final = Part("checkov", hashlib.sha256(_LOCK.read_bytes()).hexdigest())


def main() -> int:
    """Run both, and return the exit code."""
    return 0 if all([_lint(), _audit()]) else 1


def _lint() -> bool:
    done = _run(str(Path(sys.executable).with_name("cfn-lint")), *TEMPLATES)
    findings = done.stdout.strip() or f"{len(TEMPLATES)} templates without a warning"
    _print(f"cfn-lint: {findings}")
    return done.returncode == 0


def _audit() -> bool:
    try:
        with exclusive_download():
            if not _CHECKOV.is_complete:
                bring(_CHECKOV, virtual_environment(_LOCK))
    except DownloadError as error:
        _print(f"checkov: {error}")
        return False
    files = [argument for path in TEMPLATES for argument in ("-f", path)]
    options = ["--framework", "cloudformation", "--skip-download", "--compact", "-o", "json"]
    done = _run(str(_CHECKOV.directory / "bin" / "checkov"), *options, *files)
    try:
        report = json.loads(done.stdout)
        counts, results = report["summary"], report["results"]
    except (ValueError, KeyError, TypeError):
        _print(f"checkov: {done.stdout.strip()}")
        return False
    for each in results["failed_checks"]:
        _print(f"checkov: {each['file_path']}: {each['resource']}: {each['check_name']}")
    for each in results["skipped_checks"]:
        reason = each["check_result"]["suppress_comment"]
        _print(f"checkov: {each['resource']} without {each['check_id']}: {reason}")
    _print(f"checkov: {counts['passed']} passed, {counts['failed']} failed")
    return done.returncode == 0 and counts["passed"] > 0 and not counts["parsing_errors"]


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- the commands are those of this module
        command,
        cwd=ROOT,
        env={**os.environ, "AWS_REGION": "us-east-1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
