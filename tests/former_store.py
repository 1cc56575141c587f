"""Makes a store of the first form, as its own program did: `store.key`, `store.pub`, "TACITLY1".

Kept apart from the store's code on purpose: what reads the form today must not have written it.
"""

import hashlib
import os
import struct
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tacitly_common.events import Event, to_json_line


def make_former_store(store: Path, frames: Sequence[Sequence[Event]]) -> None:
    """A store with these frames; the frames of a day in one segment. A frame is of one day."""
    key = X25519PrivateKey.generate()
    public = key.public_key()
    (store / "segments").mkdir(mode=0o700, parents=True)
    for name, raw in (
        ("store.key", key.private_bytes_raw()),
        ("store.pub", public.public_bytes_raw()),
    ):
        (store / name).write_bytes(raw)
        (store / name).chmod(0o600)
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    for day, of_day in groupby(frames, key=lambda frame: _day(frame[0])):
        segment_key = os.urandom(32)
        sealed = suite.encrypt(segment_key, public, info=b"tacitly event segment 1")
        header = b"TACITLY1" + hashlib.sha256(public.public_bytes_raw()).digest()[:8] + sealed
        content = header
        for number, frame in enumerate(of_day):
            plain = b"\n".join(to_json_line(event) for event in frame)
            nonce, bound = number.to_bytes(12, "big"), header + number.to_bytes(8, "big")
            ciphertext = AESGCM(segment_key).encrypt(nonce, plain, bound)
            content += struct.pack("<I", len(ciphertext)) + ciphertext
        directory = store / "segments" / day
        directory.mkdir(mode=0o700)
        (directory / f"{uuid.uuid4().hex}.seg").write_bytes(content)


def _day(event: Event) -> str:
    return f"{datetime.fromtimestamp(event.wall_ns // 10**9, UTC):%Y-%m-%d}"
