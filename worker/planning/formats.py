"""Numbers as text."""

from __future__ import annotations


def figure(number: float) -> str:
    """Return a number with three significant digits, or as an integer."""
    if number >= 100 or number == int(number):  # noqa: PLR2004 - three digits
        return f"{number:,.0f}"
    return f"{number:.3g}"


def money(amount: float) -> str:
    """Return an amount of money, with cents below 1,000."""
    return f"{amount:,.2f}" if amount < 1000 else f"{amount:,.0f}"  # noqa: PLR2004 - see above
