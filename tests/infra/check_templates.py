"""Checks of the CloudFormation templates: `python -m tests.infra.check_templates`.

cfn-lint validates the properties of resources, and checkov their security. The metadata of a
resource contains its exceptions from checkov with reasons.
"""

import sys
from pathlib import Path
from typing import Final

from tests.infra.security_audit import audit, report, run
from tests.infra.stacks import NAMES

TEMPLATES: Final = [f"infra/{name}.yaml" for name in NAMES]


def main() -> int:
    """Run both, and return the exit code."""
    return 0 if all([_lint(), audit("cloudformation", TEMPLATES)]) else 1


def _lint() -> bool:
    done = run(str(Path(sys.executable).with_name("cfn-lint")), *TEMPLATES)
    findings = done.stdout.strip() or f"{len(TEMPLATES)} templates without a warning"
    report(f"cfn-lint: {findings}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
