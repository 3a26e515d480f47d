"""Workers that are killed for minutes on end, on servers that fail, and the count afterwards."""
