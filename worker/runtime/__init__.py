"""Building blocks of asyncio programs, independent of AWS."""
