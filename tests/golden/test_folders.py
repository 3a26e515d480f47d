"""The folders of golden files, each compared by a test."""

from __future__ import annotations

import re
from pathlib import Path

from tests.golden.golden import EXPECTED

_CHECK = re.compile(r'golden\.check\(\s*"([^"]+)"')


def test_each_folder_is_compared_by_one_test() -> None:
    sources = [path.read_text("utf-8") for path in sorted(Path(__file__).parent.glob("test_*.py"))]
    compared = sorted(name for text in sources for name in _CHECK.findall(text))
    assert compared == sorted(path.name for path in EXPECTED.iterdir())
