"""The device's half of secure aggregation.

See `round.py`; the protocol is in docs/secure-aggregation.md.
"""

from tacitly_client.node.masking.round import DevicePhase, DeviceRound, MaskingRefusedError

__all__ = ["DevicePhase", "DeviceRound", "MaskingRefusedError"]
