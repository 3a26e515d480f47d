"""Number of processes for `AUP_PROCESSES=auto`: one for each CPU that the service may use."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal
from urllib.parse import urlsplit

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUPS: Final = Path("/proc/self/cgroup")
_AGENT_SECONDS: Final = 1.0
_RESPONSE_MAX_BYTES: Final = 1_048_576


def process_count(processes: int | Literal["auto"]) -> int:
    """Return the number of processes that a setting means.

    `auto` is the lowest of the CPU limits of the cgroup and of the ECS task and the number of
    usable cores, rounded to the nearest number, and at least 1. A limit of 1.5 gives 2: the second
    process uses the half that a single one cannot use. A limit of 1.4 gives 1: less than half a CPU
    is not worth the memory of a process.
    """
    if processes != "auto":
        return processes
    limits = [float(len(os.sched_getaffinity(0))), *cgroup_limits(), *_task_limit(os.environ)]
    return max(1, int(min(limits) + 0.5))


def cgroup_limits(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUPS) -> Iterator[float]:
    """Yield the CPU limits of the cgroup of this process and of those around it.

    Args:
        cgroups: where the cgroup file systems are mounted.
        own: file that names the cgroups of this process.
    """
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount = cgroups
        elif "cpu" in controllers.split(","):
            mount = cgroups / "cpu"
        else:
            continue
        folder = PurePosixPath(path)
        # In a container the path may be that of the host, and its own cgroup is the root.
        for each in (folder, *folder.parents):
            if ".." not in each.parts:
                yield from _limit(mount / str(each).lstrip("/"))


def _limit(folder: Path) -> Iterator[float]:
    """Yield the CPU limit of a cgroup, if it has one.

    Source: Linux documentation, "Control Group v2", cpu.max, and "CFS Bandwidth Control".
    """
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota = _read(folder / "cpu.cfs_quota_us").strip()
        period = _read(folder / "cpu.cfs_period_us").strip()
    if quota.isdecimal() and period.isdecimal() and int(period):
        yield int(quota) / int(period)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _task_limit(environment: Mapping[str, str]) -> Iterator[float]:
    """Yield the vCPU of the ECS task, which Fargate does not limit by the container's cgroup.

    Source: Amazon ECS developer guide, "Task metadata endpoint version 4", `Limits`.
    """
    uri = environment.get("ECS_CONTAINER_METADATA_URI_V4")
    if uri:
        try:
            limit: Any = _get_json(f"{uri}/task")["Limits"]["CPU"]
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
            return
        if isinstance(limit, int | float) and limit > 0:
            yield float(limit)


def _get_json(url: str) -> Any:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_AGENT_SECONDS)
    with closing(connection):
        connection.request("GET", parts.path)
        return json.loads(connection.getresponse().read(_RESPONSE_MAX_BYTES))
