"""Write the bill of materials of the service to stdout, as CycloneDX JSON.

Run by `make sbom`, in the environment of cyclonedx-py. The components are those of
infra/locks/requirements-run.lock on Linux, with the hashes that their archives are checked against.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement

_ROOT: Final = Path(__file__).resolve().parents[1]
_LOCK: Final = _ROOT / "infra/locks/requirements-run.lock"
_LINUX: Final = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}


def main() -> None:
    """Convert the lock with cyclonedx-py, without the package sources of this machine."""
    command = [str(Path(sys.executable).with_name("cyclonedx-py")), "requirements"]
    command += ["--pyproject", str(_ROOT / "pyproject.toml"), "--mc-type", "application"]
    command += ["--output-reproducible", "--output-format", "JSON", "--validate", "-"]
    done = subprocess.run(  # noqa: S603 - the program next to this Python
        command, input=_on_linux(_LOCK.read_text()), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr.strip())
    bill = json.loads(done.stdout)
    _complete(bill)
    json.dump(bill, sys.stdout, indent=2, sort_keys=True)
    sys.stdout.write("\n")


def _on_linux(lock: str) -> str:
    """Return the entries of a lock that are installed on Linux."""
    kept = []
    for entry in re.split(r"^(?=\S)", lock, flags=re.MULTILINE):
        requirement = entry.partition("\\")[0].strip()
        marker = Requirement(requirement).marker if requirement else None
        if marker is None or marker.evaluate(dict(_LINUX)):
            kept.append(entry)
    return "".join(kept)


def _complete(bill: dict[str, Any]) -> None:
    """Set references and versions, and the direct dependencies of the service."""
    for tool in bill["metadata"]["tools"]["components"]:
        tool.pop("externalReferences", None)
    service = bill["metadata"]["component"]
    version = re.search(r'__version__ = "(.+)"', (_ROOT / "worker/__init__.py").read_text())
    service["version"] = version[1] if version else "unknown"
    service.pop("externalReferences", None)
    for component in bill["components"]:
        component["bom-ref"] = component["purl"]
        component.pop("description", None)  # the line of the lock with its hashes
        for reference in component.get("externalReferences", []):
            reference["url"] = component["purl"]
            reference.pop("comment", None)
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["otel"]
    direct = {Requirement(each).name for each in asked}
    bill["dependencies"] = [
        {
            "ref": service["bom-ref"],
            "dependsOn": [each["purl"] for each in bill["components"] if each["name"] in direct],
        }
    ]


if __name__ == "__main__":
    main()
