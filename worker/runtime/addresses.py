"""URLs of endpoints, and names and URLs of queues, as settings state them."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import urlsplit

# User name and password of a URL.
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]*@")
_HOST: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*\.?", re.ASCII)
_QUEUE_NAME: Final = re.compile(r"[\w-]{1,80}|[\w-]{1,75}\.fifo", re.ASCII)
_QUEUE_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):sqs:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):"
    r"(?P<name>[\w-]{1,80}(\.fifo)?)",
    re.ASCII,
)


def check_url(url: str) -> str:
    """Return an endpoint URL unchanged.

    Raises:
        ValueError: The SDK cannot use the URL.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    if not url.isprintable() or " " in url:
        raise ValueError("must not contain white space or control characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:  # unbalanced brackets, or a wrong port
        raise ValueError(f"not a valid URL: {error}") from None
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("the port must be between 1 and 65535")
    if not host:
        raise ValueError("must name a host, such as http://127.0.0.1:4566")
    # The SDK rejects any other host, such as one with an underscore. IPv6 addresses have brackets.
    if "[" not in parts.netloc and not _HOST.fullmatch(host):
        raise ValueError("the host must contain only letters, digits, dots and hyphens")
    return url


def check_queue(name: str) -> str:
    """Return a queue name or URL unchanged.

    Raises:
        ValueError: It is neither a name nor a URL. The text says what to use instead of an ARN.
    """
    if name.startswith("arn:"):
        raise ValueError(f"must be a name or URL, not an ARN{_instead_of_arn(name)}")
    if not name.startswith(("http://", "https://")):
        if not _QUEUE_NAME.fullmatch(name):
            raise ValueError(
                "must be a URL, or a name of at most 80 letters, digits, hyphens and underscores"
            )
        return name
    check_url(name)
    if name.endswith("/"):
        bare = name.rstrip("/")
        instead = f"; use {shown(bare)}" if urlsplit(bare).path else ""
        raise ValueError(f"must not end with a slash{instead}")
    if not urlsplit(name).path:
        raise ValueError("must end with the queue name, as in https://HOST/ACCOUNT/NAME")
    return name


def _instead_of_arn(arn: str) -> str:
    found = _QUEUE_ARN.fullmatch(arn)
    if found is None:
        return ""
    suffix = ".cn" if found["partition"] == "aws-cn" else ""
    return (
        f"; use {found['name']} or "
        f"https://sqs.{found['region']}.amazonaws.com{suffix}/{found['account']}/{found['name']}"
    )


def shown(value: Any) -> str:
    """Return a value as one line, as a variable states it, without credentials of a URL."""
    if isinstance(value, bool):
        return str(value).lower()
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    text = _CREDENTIALS.sub("***@", str(number))
    return text if text.isprintable() else json.dumps(text)
