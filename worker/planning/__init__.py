"""How many tasks a rate of messages takes, what they cost, and how their number follows it."""
