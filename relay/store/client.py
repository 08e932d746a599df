"""What the store needs of a client."""

from __future__ import annotations

from typing import Any, Protocol


class Client(Protocol):
    """Of one server, or of a cluster."""

    def command(self, sql: str, /, *, settings: dict[str, Any] | None = None) -> Any: ...

    def query(self, sql: str, parameters: dict[str, Any] | None = None, /) -> Any: ...
