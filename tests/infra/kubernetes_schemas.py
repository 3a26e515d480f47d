"""Validate manifests from stdin against the schemas of Kubernetes and of the operators.

Run by check_kubernetes in the environment of tests/infra/kubernetes.lock. The schemas of KEDA and
the Prometheus operator are those of their custom resource definitions, as typed models. A field
that a schema does not know is an error.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import kubernetes_validate
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus_operator
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

# The oldest and the newest version.
VERSIONS: Final = ("1.30", "1.37")
_MODELS: Final = {
    "keda.sh/v1alpha1": keda,
    "monitoring.coreos.com/v1": prometheus_operator,
}


def main() -> int:
    """Validate every manifest, and return the exit code."""
    manifests = [each for each in yaml.safe_load_all(sys.stdin) if each]
    problems = [
        f"{each['kind']} {each['metadata']['name']}: {problem}"
        for each in manifests
        for problem in _problems(each)
    ]
    sys.stdout.write("".join(f"{line}\n" for line in problems))
    versions = " and ".join(VERSIONS)
    sys.stdout.write(f"{len(manifests)} manifests, {len(problems)} problems ({versions})\n")
    return 1 if problems or not manifests else 0


def _problems(manifest: dict[str, Any]) -> list[str]:
    models = _MODELS.get(manifest["apiVersion"])
    if models is not None:
        schema = getattr(models, manifest["kind"]).model_json_schema()
        errors = Draft202012Validator(_strict(schema)).iter_errors(manifest)
        deepest = [best_match([error]) or error for error in errors]
        return [f"{error.json_path}: {error.message}" for error in deepest]
    problems = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            problems.append(f"{version}: {'.'.join(map(str, error.path))}: {error.message}")
    return problems


def _strict(schema: Any) -> Any:
    """Return a schema that allows no other properties than those it names."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(each) for name, each in schema.items()}
    if isinstance(strict.get("properties"), dict):
        strict.setdefault("additionalProperties", False)
    return strict


if __name__ == "__main__":
    sys.exit(main())
