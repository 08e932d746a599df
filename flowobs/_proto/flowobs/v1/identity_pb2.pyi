from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IdentityRequest(_message.Message):
    __slots__ = ("resume", "applied")
    RESUME_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    resume: Resume
    applied: int
    def __init__(self, resume: _Optional[_Union[Resume, _Mapping]] = ..., applied: _Optional[int] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("agent", "node", "epoch", "version")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    agent: str
    node: str
    epoch: int
    version: int
    def __init__(self, agent: _Optional[str] = ..., node: _Optional[str] = ..., epoch: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class IdentityMessage(_message.Message):
    __slots__ = ("snapshot", "delta", "freshness")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    snapshot: Snapshot
    delta: Delta
    freshness: Freshness
    def __init__(self, snapshot: _Optional[_Union[Snapshot, _Mapping]] = ..., delta: _Optional[_Union[Delta, _Mapping]] = ..., freshness: _Optional[_Union[Freshness, _Mapping]] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("epoch", "version", "cluster", "part", "last", "changes")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    version: int
    cluster: str
    part: int
    last: bool
    changes: bytes
    def __init__(self, epoch: _Optional[int] = ..., version: _Optional[int] = ..., cluster: _Optional[str] = ..., part: _Optional[int] = ..., last: _Optional[bool] = ..., changes: _Optional[bytes] = ...) -> None: ...

class Delta(_message.Message):
    __slots__ = ("version", "changes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    version: int
    changes: bytes
    def __init__(self, version: _Optional[int] = ..., changes: _Optional[bytes] = ...) -> None: ...

class Freshness(_message.Message):
    __slots__ = ("epoch", "version", "resources")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    version: int
    resources: _containers.RepeatedCompositeFieldContainer[ResourceFreshness]
    def __init__(self, epoch: _Optional[int] = ..., version: _Optional[int] = ..., resources: _Optional[_Iterable[_Union[ResourceFreshness, _Mapping]]] = ...) -> None: ...

class ResourceFreshness(_message.Message):
    __slots__ = ("resource", "objects", "age_ms", "stale", "problem")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    resource: str
    objects: int
    age_ms: int
    stale: bool
    problem: str
    def __init__(self, resource: _Optional[str] = ..., objects: _Optional[int] = ..., age_ms: _Optional[int] = ..., stale: _Optional[bool] = ..., problem: _Optional[str] = ...) -> None: ...
