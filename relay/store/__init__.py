"""The flow store: records in ClickHouse, embedded (chdb) or on a server."""

from relay.store.engine import Limits
from relay.store.errors import QueryTimeout, StoreError
from relay.store.reader import Reader, Table
from relay.store.store import Store, StoreStats

__all__ = ["Limits", "QueryTimeout", "Reader", "Store", "StoreError", "StoreStats", "Table"]
