"""Prices, quotas and measured values, and where each comes from."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from tests.bench.results import Results
from tests.bench.stub import messages
from worker.aws.prices import Prices, Quotas, shipped, with_prices
from worker.domain.dead_letter import body_sha256
from worker.domain.envelope import decode
from worker.domain.evidence import build_item
from worker.domain.origin import Origin
from worker.domain.policy import PolicyText
from worker.errors import UsageError

ROOT = Path(__file__).parents[3]
FIGURES = shipped()
PRICES = set(Prices.model_fields) - {"region", "date", "currency"}


def test_overhead_of_a_record_is_that_of_the_benchmarks_message() -> None:
    measured, now = FIGURES.measured, datetime.now(UTC)
    text = messages.body(measured.body_bytes)
    item = build_item(
        decode(text, now=now, clock_skew_seconds=0),
        PolicyText(messages.CONTENT_SHA256),
        Origin.at(now, str(UUID(int=0)), body_sha256(text)),
        recorded_at=now,
    )
    record_bytes = sum(
        len(name) + len(value.encode() if isinstance(value, str) else value)
        for name, value in item.items()
    )
    assert len(text) == measured.body_bytes
    assert record_bytes == measured.body_bytes + measured.record_overhead_bytes == 801


def test_it_matches_the_benchmark() -> None:
    """Update prices.toml when a new benchmark differs by more than a tenth."""
    results = Results.model_validate_json((ROOT / "tests/bench/results.json").read_text())
    worker, tls, measured = results.scenarios["D"], results.scenarios["D-tls"], FIGURES.measured
    calls = worker.calls_by_operation
    assert {
        "cpu": measured.cpu_us_per_message,
        "receives": measured.receives_per_message,
        "deletes": measured.deletes_per_message,
        "writes": measured.writes_per_message,
        "rss": measured.rss_mb,
        "p50": measured.settling_ms,
        "start": measured.start_seconds,
        "units": 1,
    } == pytest.approx(
        {
            "cpu": max(worker.cpu_us_per_message, tls.cpu_us_per_message),
            "receives": calls["ReceiveMessage"],
            "deletes": calls["DeleteMessageBatch"],
            "writes": calls["BatchExecuteStatement"],
            "rss": tls.rss_mb,
            "p50": worker.p50_ms,
            "start": tls.start_seconds,
            "units": worker.write_units_per_message,
        },
        rel=0.1,
    )
    small, larger = (case.measured.cpu_us_per_message for case in results.sizes[:2])
    assert measured.cpu_us_per_further_kib == pytest.approx((larger - small) / 3.6, rel=0.3)


def test_prices_of_a_file_override_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('region = "eu-west-1"\ndynamodb_million_write_units = 0.705\n')
    prices = with_prices(FIGURES, file).prices
    assert (prices.region, prices.dynamodb_million_write_units) == ("eu-west-1", 0.705)
    assert prices.sqs_million_requests == FIGURES.prices.sqs_million_requests
    file.write_text("[prices]\nnat_gb = 0.05\n")
    assert with_prices(FIGURES, file).prices.nat_gb == 0.05


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sqs_million_request = 1",
            r"unknown price sqs_million_request \(did you mean sqs_",
        ),
        ("nat_gb = -1", "nat_gb = -1: must be greater than or equal to 0"),
        ("nat_gb = nan", "nat_gb = nan: "),
        ("prices = 3", "prices must be lines of NAME = NUMBER"),
        ("nat_gb", "invalid TOML"),
    ],
)
def test_invalid_price_is_reported_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:  # fmt: skip
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as raised:
        with_prices(FIGURES, file)
    assert "\n" not in str(raised.value)
    assert str(file) in str(raised.value)


def test_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        with_prices(FIGURES, tmp_path / "none.toml")


def test_every_price_and_quota_has_one_source_with_a_date() -> None:
    named = [name for each in FIGURES.sources for name in each.figures]
    assert sorted(named) == sorted(PRICES | set(Quotas.model_fields))
    assert all(re.fullmatch("20[0-9]{2}-[01][0-9]", each.date) for each in FIGURES.sources)
    assert all(
        "AWS" in each.title or "Amazon" in each.title or "Savings Plans" in each.title
        for each in FIGURES.sources
    )


def test_unconfirmed_figures_are_named() -> None:
    assert FIGURES.unconfirmed(["nat_gb", "dynamodb_export_gb", "fargate_spot_share"]) == [
        "dynamodb_export_gb",
        "fargate_spot_share",
    ]
    assert FIGURES.unconfirmed(PRICES & {"sqs_million_requests", "fargate_arm64_gb_hour"}) == []


def test_overridden_price_has_the_file_as_its_source(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('date = "2027-01"\ndynamodb_export_gb = 0.11\n')
    figures = with_prices(FIGURES, file)
    source = figures.source("dynamodb_export_gb")
    assert (source.title, source.date, source.figures) == (
        str(file),
        "2027-01",
        ("dynamodb_export_gb",),
    )
    assert figures.unconfirmed(["dynamodb_export_gb"]) == []
    assert figures.source("nat_gb") == FIGURES.source("nat_gb")
    assert not figures.source("dynamodb_warm_write_unit").confirmed
