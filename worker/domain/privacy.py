"""Reduction of personal data in acceptances, by the settings."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

from worker.domain.acceptance import Acceptance
from worker.domain.evidence import NO_REDUCTIONS
from worker.settings import AWSSettings

_IPV4_PREFIX_BITS: Final = 24
_IPV6_PREFIX_BITS: Final = 48


def reduce(
    acceptance: Acceptance, aws_settings: AWSSettings
) -> tuple[Acceptance, Mapping[str, str]]:
    """Reduce the personal data of an acceptance.

    Returns:
        The reduced acceptance, and the kind of reduction by field name.
    """
    if aws_settings.ip == aws_settings.user_agent == "full":
        return acceptance, NO_REDUCTIONS
    changes: dict[str, str | None] = {}
    if acceptance.ip is not None and aws_settings.ip != "full":
        changes["ip"] = network(acceptance.ip) if aws_settings.ip == "truncated" else None
    if acceptance.user_agent is not None and aws_settings.user_agent != "full":
        changes["user_agent"] = None
    reductions = {
        name: "omitted" if kept is None else "truncated" for name, kept in changes.items()
    }
    return acceptance.model_copy(update=changes), reductions


def network(text: str) -> str | None:
    """Return the network of an IP address (/24 of IPv4, /48 of IPv6); None if it is invalid.

    An IPv4-mapped IPv6 address counts as IPv4.
    """
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((int(address), _IPV6_PREFIX_BITS), strict=False))
        address = address.ipv4_mapped
    return str(ipaddress.IPv4Network((int(address), _IPV4_PREFIX_BITS), strict=False))
