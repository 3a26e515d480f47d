"""The option that writes golden files anew, and the comparison for each test."""

from __future__ import annotations

import pytest

from tests.golden.golden import Golden

_OPTION = "--update-golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        _OPTION, action="store_true", help="write tests/golden/expected instead of comparing"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    # Without a path on the command line pytest loads this file too late to know the option.
    return Golden(update=request.config.getoption(_OPTION, default=False))
