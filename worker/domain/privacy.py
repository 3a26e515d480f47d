"""What of an acceptance is kept less exactly than it was stated, by the settings."""

from __future__ import annotations

import ipaddress
from typing import Final

from worker.domain.acceptance import Acceptance
from worker.settings import AWSSettings

_IPV4_PREFIX_BITS: Final = 24
_IPV6_PREFIX_BITS: Final = 48
TRUNCATED: Final = "truncated"
OMITTED: Final = "omitted"

# How each field that was stated is kept, of those that are not kept as stated.
Reductions = dict[str, str]


def reduces(aws_settings: AWSSettings) -> bool:
    """Say whether the settings ask for anything but keeping all as it was stated."""
    return aws_settings.ip != "full" or aws_settings.user_agent != "full"


def reduce(acceptance: Acceptance, aws_settings: AWSSettings) -> tuple[Acceptance, Reductions]:
    """Take out of an acceptance what is not to be kept.

    Returns:
        What may be written, and how each field that was changed is kept.
    """
    kept: dict[str, str | None] = {}
    reductions: Reductions = {}
    if acceptance.ip is not None and aws_settings.ip != "full":
        kept["ip"] = network(acceptance.ip) if aws_settings.ip == TRUNCATED else None
        reductions["ip"] = OMITTED if kept["ip"] is None else TRUNCATED
    if acceptance.user_agent is not None and aws_settings.user_agent != "full":
        kept["user_agent"] = None
        reductions["user_agent"] = OMITTED
    return (acceptance.model_copy(update=kept) if kept else acceptance), reductions


def network(text: str) -> str | None:
    """Give the network of an address: /24 of IPv4, /48 of IPv6; none where it is no address.

    An IPv4 address that is mapped into IPv6 counts as IPv4.
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
