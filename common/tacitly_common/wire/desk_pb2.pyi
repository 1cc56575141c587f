from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EnrolRequest(_message.Message):
    __slots__ = ("token", "node_key", "device_key", "signature")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    NODE_KEY_FIELD_NUMBER: _ClassVar[int]
    DEVICE_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    token: str
    node_key: bytes
    device_key: bytes
    signature: str
    def __init__(self, token: _Optional[str] = ..., node_key: _Optional[bytes] = ..., device_key: _Optional[bytes] = ..., signature: _Optional[str] = ...) -> None: ...

class EnrolResponse(_message.Message):
    __slots__ = ("node_id", "certificate", "authority", "entries")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    certificate: bytes
    authority: bytes
    entries: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, node_id: _Optional[int] = ..., certificate: _Optional[bytes] = ..., authority: _Optional[bytes] = ..., entries: _Optional[_Iterable[bytes]] = ...) -> None: ...

class RefreshRequest(_message.Message):
    __slots__ = ("certificate", "log_length", "attempts", "ledger_head", "sent_at_unix_seconds", "signature")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    LOG_LENGTH_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    LEDGER_HEAD_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    log_length: int
    attempts: int
    ledger_head: str
    sent_at_unix_seconds: int
    signature: str
    def __init__(self, certificate: _Optional[bytes] = ..., log_length: _Optional[int] = ..., attempts: _Optional[int] = ..., ledger_head: _Optional[str] = ..., sent_at_unix_seconds: _Optional[int] = ..., signature: _Optional[str] = ...) -> None: ...

class RefreshResponse(_message.Message):
    __slots__ = ("entries", "certificate")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedScalarFieldContainer[bytes]
    certificate: bytes
    def __init__(self, entries: _Optional[_Iterable[bytes]] = ..., certificate: _Optional[bytes] = ...) -> None: ...

class ModelRequest(_message.Message):
    __slots__ = ("certificate", "plan_hash", "offset", "most_bytes", "sent_at_unix_seconds", "signature")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    PLAN_HASH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    MOST_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    plan_hash: str
    offset: int
    most_bytes: int
    sent_at_unix_seconds: int
    signature: str
    def __init__(self, certificate: _Optional[bytes] = ..., plan_hash: _Optional[str] = ..., offset: _Optional[int] = ..., most_bytes: _Optional[int] = ..., sent_at_unix_seconds: _Optional[int] = ..., signature: _Optional[str] = ...) -> None: ...

class ModelResponse(_message.Message):
    __slots__ = ("receipt", "part")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    receipt: bytes
    part: bytes
    def __init__(self, receipt: _Optional[bytes] = ..., part: _Optional[bytes] = ...) -> None: ...

class WithdrawRequest(_message.Message):
    __slots__ = ("certificate", "sent_at_unix_seconds", "signature")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    sent_at_unix_seconds: int
    signature: str
    def __init__(self, certificate: _Optional[bytes] = ..., sent_at_unix_seconds: _Optional[int] = ..., signature: _Optional[str] = ...) -> None: ...

class WithdrawResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadLogRequest(_message.Message):
    __slots__ = ("first",)
    FIRST_FIELD_NUMBER: _ClassVar[int]
    first: int
    def __init__(self, first: _Optional[int] = ...) -> None: ...

class ReadLogResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, entries: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("entry", "model")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    entry: bytes
    model: bytes
    def __init__(self, entry: _Optional[bytes] = ..., model: _Optional[bytes] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("log_length",)
    LOG_LENGTH_FIELD_NUMBER: _ClassVar[int]
    log_length: int
    def __init__(self, log_length: _Optional[int] = ...) -> None: ...

class CampaignsRequest(_message.Message):
    __slots__ = ("officer", "sent_at_unix_seconds", "signature")
    OFFICER_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    officer: str
    sent_at_unix_seconds: int
    signature: str
    def __init__(self, officer: _Optional[str] = ..., sent_at_unix_seconds: _Optional[int] = ..., signature: _Optional[str] = ...) -> None: ...

class CampaignsResponse(_message.Message):
    __slots__ = ("campaigns", "alarms")
    CAMPAIGNS_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    campaigns: _containers.RepeatedCompositeFieldContainer[CampaignState]
    alarms: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, campaigns: _Optional[_Iterable[_Union[CampaignState, _Mapping]]] = ..., alarms: _Optional[_Iterable[str]] = ...) -> None: ...

class CampaignState(_message.Message):
    __slots__ = ("plan_hash", "released_rounds", "lost_attempts", "refusals", "granted_until")
    class RefusalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PLAN_HASH_FIELD_NUMBER: _ClassVar[int]
    RELEASED_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    LOST_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    GRANTED_UNTIL_FIELD_NUMBER: _ClassVar[int]
    plan_hash: str
    released_rounds: int
    lost_attempts: int
    refusals: _containers.ScalarMap[str, int]
    granted_until: str
    def __init__(self, plan_hash: _Optional[str] = ..., released_rounds: _Optional[int] = ..., lost_attempts: _Optional[int] = ..., refusals: _Optional[_Mapping[str, int]] = ..., granted_until: _Optional[str] = ...) -> None: ...
