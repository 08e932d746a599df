"""The relay's HTTP API (docs/api.md)."""
