"""Programs that the servers and their downloads need."""

import re
import shutil
import subprocess
from dataclasses import dataclass


class MissingToolError(Exception):
    """A program that must be installed on the system is missing."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program, its purpose, and how to install it."""

    command: str
    least_major: int
    purpose: str
    source: str

    def require(self) -> None:
        """Check that the program runs and its version is new enough.

        Raises:
            MissingToolError: The program is missing or too old; the message says how to install it.
        """
        found = self._major()
        if found is None or found < self.least_major:
            state = "is missing" if found is None else f"is too old ({found})"
            raise MissingToolError(
                f"{self.command} {state}: {self.purpose} needs {self.command}"
                f" {self.least_major} or newer; {self.source}"
            )

    def _major(self) -> int | None:
        path = shutil.which(self.command)
        if path is None:
            return None
        # macOS has a `java` that only prints where to get one, so the program must run.
        response = subprocess.run(  # noqa: S603 -- the path is the one that the shell would run
            [path, "-version" if self.command == "java" else "--version"],
            capture_output=True,
            text=True,
            check=False,
        )
        number = re.search(
            r'(?:version "|^v?)(\d+)', response.stdout or response.stderr, re.MULTILINE
        )
        return int(number[1]) if number and response.returncode == 0 else None


JAVA = Tool(
    "java", 17, "DynamoDB Local", "install a JRE (Debian: apt-get install openjdk-17-jre-headless)"
)
NODE = Tool("node", 20, "fauxqs", "install Node.js (its own site, or a version manager)")
NPM = Tool("npm", 9, "the download of DynamoDB Local, fauxqs and axe-core", "it comes with Node.js")
