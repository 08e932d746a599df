from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentMessage(_message.Message):
    __slots__ = ("hello", "dictionary", "batch", "resent")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    RESENT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    dictionary: Dictionary
    batch: bytes
    resent: bool
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., dictionary: _Optional[_Union[Dictionary, _Mapping]] = ..., batch: _Optional[bytes] = ..., resent: _Optional[bool] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("agent", "epoch", "node", "version", "schema_version")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    agent: str
    epoch: int
    node: str
    version: str
    schema_version: int
    def __init__(self, agent: _Optional[str] = ..., epoch: _Optional[int] = ..., node: _Optional[str] = ..., version: _Optional[str] = ..., schema_version: _Optional[int] = ...) -> None: ...

class Dictionary(_message.Message):
    __slots__ = ("strings_base", "strings", "endpoints_base", "endpoints")
    STRINGS_BASE_FIELD_NUMBER: _ClassVar[int]
    STRINGS_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_BASE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    strings_base: int
    strings: _containers.RepeatedScalarFieldContainer[str]
    endpoints_base: int
    endpoints: bytes
    def __init__(self, strings_base: _Optional[int] = ..., strings: _Optional[_Iterable[str]] = ..., endpoints_base: _Optional[int] = ..., endpoints: _Optional[bytes] = ...) -> None: ...

class MicroBatch(_message.Message):
    __slots__ = ("group", "rows", "columns", "close")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    group: int
    rows: int
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    close: bool
    def __init__(self, group: _Optional[int] = ..., rows: _Optional[int] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., close: _Optional[bool] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("id", "data")
    ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    id: int
    data: bytes
    def __init__(self, id: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class RelayMessage(_message.Message):
    __slots__ = ("welcome", "ack")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    ack: Ack
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("stored_group", "version")
    STORED_GROUP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    stored_group: int
    version: str
    def __init__(self, stored_group: _Optional[int] = ..., version: _Optional[str] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("group", "batch_interval_ms", "group_interval_ms")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    BATCH_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    GROUP_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    group: int
    batch_interval_ms: int
    group_interval_ms: int
    def __init__(self, group: _Optional[int] = ..., batch_interval_ms: _Optional[int] = ..., group_interval_ms: _Optional[int] = ...) -> None: ...
