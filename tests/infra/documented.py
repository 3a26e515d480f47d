"""Commands of the documents, run on an emulator as they stand there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from tests.infra.forked_commands import program_directory
from tests.process.environment import COMMAND, DEADLINE_SECONDS

ROOT: Final = Path(__file__).parents[2]
# Version 1 of the AWS CLI ignores AWS_ENDPOINT_URL for SQS.
_PRELUDE: Final = 'aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }'


def variables(url: str, home: Path, *programs: Path) -> dict[str, str]:
    """Return the environment of a shell with `aws` and `aup-worker` and the keys of a server.

    Args:
        url: Endpoint URL of the server.
        home: Home directory.
        programs: Directories of other programs, which take precedence.
    """
    programs = (*programs, program_directory(), Path(COMMAND).parent)
    return {
        "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
        "HOME": str(home),
        "USER": "operator",
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def run(
    commands: list[str],
    environment: dict[str, str],
    directory: Path = ROOT,
    seconds: float = 4 * DEADLINE_SECONDS,
) -> subprocess.CompletedProcess[str]:
    """Run commands in one shell until the first that fails; its stderr is their trace.

    Args:
        commands: Commands as documented.
        environment: Environment variables.
        directory: Working directory.
        seconds: Time limit.

    Raises:
        AssertionError: A command failed.
    """
    done = subprocess.run(  # noqa: S603 - commands of the documents
        ["/bin/sh", "-exc", "\n".join([_PRELUDE, *commands])],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done
