"""Building blocks for asyncio programs that know nothing of AWS."""
