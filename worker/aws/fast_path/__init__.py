"""The few calls that every message needs, without what the SDK spends on them."""
