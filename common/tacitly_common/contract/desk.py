"""What a caller of the enrolment desk signs: the purpose of the call and its other fields.

A request is good for a few minutes of the desk's clock, so that one overheard is soon worthless.
"""

import hashlib
from typing import Final

MOST_SKEW_SECONDS: Final = 300
ENROL: Final = "enrol request"
REFRESH: Final = "refresh request"
MODEL: Final = "model request"
WITHDRAW: Final = "withdraw request"
CAMPAIGNS: Final = "campaigns request"


def signed_fields(*fields: bytes | str | int) -> bytes:
    """The fields of a request, in the order of desk.proto and without the signature, in one digest.

    Each goes in with its length, so that no two lists of fields give the same bytes.
    """
    digest = hashlib.sha256()
    for value in fields:
        content = value if isinstance(value, bytes) else str(value).encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.digest()
