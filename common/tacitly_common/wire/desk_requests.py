"""Signed requests to the desk: what is signed follows from the message itself.

    sign_request(request, device_key)           # fills in `signature`
    check_request(request, public_key)          # SignatureError if it is not that key's

The purpose goes with the kind of message, so that a signature of one is worth nothing in another.
"""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tacitly_common.contract.desk import CAMPAIGNS, ENROL, MODEL, REFRESH, WITHDRAW, signed_fields
from tacitly_common.contract.signatures import sign, verify
from tacitly_common.wire.desk_pb2 import (
    CampaignsRequest,
    EnrolRequest,
    ModelRequest,
    RefreshRequest,
    WithdrawRequest,
)

SignedRequest = EnrolRequest | RefreshRequest | ModelRequest | WithdrawRequest | CampaignsRequest

_PURPOSES: Final[dict[type, str]] = {
    EnrolRequest: ENROL,
    RefreshRequest: REFRESH,
    ModelRequest: MODEL,
    WithdrawRequest: WITHDRAW,
    CampaignsRequest: CAMPAIGNS,
}


def sign_request(request: SignedRequest, key: Ed25519PrivateKey) -> None:
    """Set `signature`, over all other fields as they are now."""
    request.signature = sign(key, _PURPOSES[type(request)], _content(request))


def check_request(request: SignedRequest, public_key: str) -> None:
    """Return if the request is signed with this key, 64 hex digits.

    Raises:
        SignatureError: it is not.
    """
    verify(public_key, _PURPOSES[type(request)], _content(request), request.signature)


def _content(request: SignedRequest) -> bytes:
    names = [field.name for field in request.DESCRIPTOR.fields if field.name != "signature"]
    return signed_fields(*(getattr(request, name) for name in names))
