"""The server's half of secure aggregation.

See `group.py`; the protocol is in docs/secure-aggregation.md.
"""

from tacitly_server.aggregation.masking.group import (
    GroupLostError,
    GroupPhase,
    GroupRound,
    GroupSum,
    LostReason,
    MaskingFault,
)

__all__ = [
    "GroupLostError",
    "GroupPhase",
    "GroupRound",
    "GroupSum",
    "LostReason",
    "MaskingFault",
]
