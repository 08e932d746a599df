"""The question language: text to filter tree and back (docs/query.md)."""

from flowobs.query.error import QueryError
from flowobs.query.parser import parse
from flowobs.query.text import text

__all__ = ["QueryError", "parse", "text"]
