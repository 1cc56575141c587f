from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("capture", "reason", "paused", "paused_until_unix_ns", "training", "training_waits_for", "processes")
    CAPTURE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    PAUSED_UNTIL_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    TRAINING_WAITS_FOR_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    capture: str
    reason: str
    paused: bool
    paused_until_unix_ns: int
    training: str
    training_waits_for: _containers.RepeatedScalarFieldContainer[str]
    processes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, capture: _Optional[str] = ..., reason: _Optional[str] = ..., paused: bool = ..., paused_until_unix_ns: _Optional[int] = ..., training: _Optional[str] = ..., training_waits_for: _Optional[_Iterable[str]] = ..., processes: _Optional[_Iterable[str]] = ...) -> None: ...

class PauseRequest(_message.Message):
    __slots__ = ("seconds",)
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    seconds: float
    def __init__(self, seconds: _Optional[float] = ...) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExcludeRequest(_message.Message):
    __slots__ = ("application", "remove")
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    application: str
    remove: bool
    def __init__(self, application: _Optional[str] = ..., remove: bool = ...) -> None: ...

class ExcludeResponse(_message.Message):
    __slots__ = ("excluded",)
    EXCLUDED_FIELD_NUMBER: _ClassVar[int]
    excluded: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, excluded: _Optional[_Iterable[str]] = ...) -> None: ...

class SuggestRequest(_message.Message):
    __slots__ = ("typed", "most", "without_habits")
    TYPED_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_HABITS_FIELD_NUMBER: _ClassVar[int]
    typed: str
    most: int
    without_habits: bool
    def __init__(self, typed: _Optional[str] = ..., most: _Optional[int] = ..., without_habits: bool = ...) -> None: ...

class SuggestResponse(_message.Message):
    __slots__ = ("suggestions", "plan_hash", "round")
    SUGGESTIONS_FIELD_NUMBER: _ClassVar[int]
    PLAN_HASH_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    suggestions: _containers.RepeatedCompositeFieldContainer[Suggestion]
    plan_hash: str
    round: int
    def __init__(self, suggestions: _Optional[_Iterable[_Union[Suggestion, _Mapping]]] = ..., plan_hash: _Optional[str] = ..., round: _Optional[int] = ...) -> None: ...

class Suggestion(_message.Message):
    __slots__ = ("kind", "text", "probability")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    kind: str
    text: str
    probability: float
    def __init__(self, kind: _Optional[str] = ..., text: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...
