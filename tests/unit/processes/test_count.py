"""Number of processes from the limits of the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from worker.processes import count
from worker.processes.count import cgroup_limits, process_count


def _tree(root: Path, files: Mapping[str, str]) -> tuple[Path, Path]:
    """Write files below a root, and return the paths of the cgroups and of `/proc/self/cgroup`."""
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root / "cgroup", root / "own"


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        ({"own": "0::/\n", "cgroup/cpu.max": "150000 100000\n"}, [1.5]),
        ({"own": "0::/\n", "cgroup/cpu.max": "max 100000\n"}, []),
        ({"own": "0::/\n"}, []),
        ({}, []),
        (
            {
                "own": "0::/system.slice/aup-worker@1.service\n",
                "cgroup/system.slice/aup-worker@1.service/cpu.max": "400000 100000\n",
                "cgroup/system.slice/cpu.max": "200000 100000\n",
            },
            [4.0, 2.0],
        ),
        ({"own": "0::/../other\n", "cgroup/cpu.max": "100000 100000\n"}, [1.0]),
        (
            {
                "own": "5:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n",
                "cgroup/cpu/cpu.cfs_quota_us": "50000\n",
                "cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            [0.5],
        ),
        (
            {
                "own": "5:cpuacct,cpu:/\n",
                "cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            [],
        ),
        ({"own": "0::/\n", "cgroup/cpu.max": "unreadable\n"}, []),
    ],
)  # fmt: skip
def test_limits_of_a_cgroup_and_those_around_it_are_read(
    tmp_path: Path, files: Mapping[str, str], limits: list[float]
) -> None:
    assert list(cgroup_limits(*_tree(tmp_path, files))) == limits


@pytest.mark.parametrize(
    ("cores", "limits", "expected"),
    [
        (8, [], 8), (8, [4.0], 4), (2, [4.0], 2), (8, [1.5], 2), (8, [1.4], 1), (8, [2.5, 4.0], 3),
        (8, [0.25], 1), (1, [], 1),
    ],
)  # fmt: skip
def test_auto_is_the_lowest_limit_rounded_to_the_nearest_number(
    monkeypatch: pytest.MonkeyPatch, cores: int, limits: list[float], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(count, "cgroup_limits", lambda: iter(limits))
    assert process_count("auto") == expected
    assert process_count(5) == 5


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ({"Limits": {"CPU": 0.25, "Memory": 512}}, 1), ({"Limits": {"CPU": 4}}, 4),
        ({}, 8), ({"Limits": {"CPU": "4"}}, 8), ([], 8), (OSError(), 8), (ValueError(), 8),
    ],
)  # fmt: skip
def test_auto_respects_the_limit_of_an_ecs_task(
    monkeypatch: pytest.MonkeyPatch, response: Any, expected: int
) -> None:
    def get(url: str) -> Any:
        assert url == "http://169.254.170.2/v4/x/task"
        if isinstance(response, Exception):
            raise response
        return response

    monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4/x")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(count, "cgroup_limits", lambda: iter(()))
    monkeypatch.setattr(count, "_get_json", get)
    assert process_count("auto") == expected
