"""The signed caller against the SDK's own way: the same requests, answers and errors."""
