"""Read-only scans, filters, edits, exports, replays and deletion of dead letters."""
