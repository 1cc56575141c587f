"""A masked group in one process: certified devices, the server, and who vanishes when.

    group = MaskedGroup(terms, vectors, gone)
    total = group.play()
    (total.total == plain_sum(terms, [vectors[node] for node in total.contributors])).all()

The devices and the server are the ones that run anywhere else; only what carries their bytes is
missing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from numpy.typing import NDArray

from tacitly_client.node.masking import DeviceRound, MaskingRefusedError
from tacitly_common.secagg.members import Identity
from tacitly_common.secagg.terms import GroupTerms
from tacitly_server.aggregation.masking import GroupRound, GroupSum
from tacitly_server.certificate_parts import issued_by, new_authority

NOW: Final = datetime(2026, 11, 29, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Certifier:
    """An enrolment authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certify(
        self, node_id: int, key: Ed25519PrivateKey, *, since: datetime = NOW, days: int = 365
    ) -> bytes:
        """A certificate, DER, as the enrolment desk issues it."""
        end = since + timedelta(days=days)
        builder = issued_by(self.certificate, str(node_id), key.public_key(), now=since, end=end)
        return builder.sign(self.key, hashes.SHA384()).public_bytes(Encoding.DER)

    def device(self, node_id: int) -> Identity:
        """A new device."""
        key = Ed25519PrivateKey.generate()
        return Identity(self.certify(node_id, key), key, self.certificate)


@lru_cache(maxsize=1)
def authority() -> Certifier:
    """The one that has certified every `device`."""
    return Certifier(*new_authority("Tacitly enrolment authority", now=NOW))


@lru_cache(maxsize=2_048)
def device(node_id: int) -> Identity:
    """The device with that node id."""
    return authority().device(node_id)


def make_terms(**changes: Any) -> GroupTerms:
    """Terms of a small group of which three in ten may vanish."""
    fields: dict[str, Any] = {
        "plan_hash": "ab" * 32,
        "round": 3,
        "attempt": 1,
        "group": 0,
        "minimum": 2,
        "coordinates": 50,
        "field_bits": 20,
        "dropout": Decimal("0.3"),
        "corruption": Decimal("0.1"),
        "failure_bits": 40,
    }
    return GroupTerms(**(fields | changes))


@dataclass(frozen=True, slots=True)
class Gone:
    """The node ids that vanish instead of answering in each phase."""

    adverts: frozenset[int] = frozenset()
    shares: frozenset[int] = frozenset()
    uploads: frozenset[int] = frozenset()
    confirmations: frozenset[int] = frozenset()
    unmaskings: frozenset[int] = frozenset()


class MaskedGroup:
    """A round on its way. `play` is the steps that stand before it, in their order."""

    def __init__(
        self, terms: GroupTerms, vectors: dict[int, NDArray[np.uint32]], gone: Gone | None = None
    ) -> None:
        """`vectors`: what each node id has to give, uint32[coordinates]."""
        self.vectors = vectors
        self.gone = gone or Gone()
        self.server = GroupRound(terms, authority().certificate, now=NOW)
        self.devices = {node: DeviceRound(terms, device(node), now=NOW) for node in vectors}
        # Every message that a device has sent, and the code of every refusal.
        self.heard: dict[str, dict[int, bytes]] = {}
        self.refused: dict[int, str] = {}

    def advertise(self) -> bytes:
        """Everybody's adverts; the roster."""
        for node in self._present(self.devices, self.gone.adverts):
            self._tell("advertised", node, self.devices[node].advertise())
        return self.server.close_adverts()

    def share(self, roster: bytes) -> None:
        """The members' shares."""
        for node in self._present(self.server.members, self.gone.shares):
            self._tell("shared", node, self.devices[node].share(roster))
        self.server.close_shares()

    def upload(self) -> bytes:
        """The sharers' masked vectors; the survivors."""
        for node in self._present(self.server.sharers, self.gone.uploads):
            try:
                self.devices[node].accept(self.server.delivery(node))
            except MaskingRefusedError as refusal:
                self.refused[node] = refusal.code.name
                continue
            self._tell("uploaded", node, self.devices[node].mask(self.vectors[node]))
        return self.server.close_uploads()

    def confirm(self, survivors: bytes) -> None:
        """The survivors' signatures."""
        for node in self._present(self.server.survivors, self.gone.confirmations):
            try:
                confirmation = self.devices[node].confirm(survivors)
            except MaskingRefusedError as refusal:
                self.refused[node] = refusal.code.name
                continue
            self._tell("confirmed", node, confirmation)
        self.server.close_confirmations()

    def unmask(self) -> GroupSum:
        """The confirmers' shares; the sum."""
        for node in self._present(self.server.confirmers, self.gone.unmaskings):
            try:
                unmasking = self.devices[node].unmask(self.server.confirmations(node))
            except MaskingRefusedError as refusal:
                self.refused[node] = refusal.code.name
                continue
            self._tell("unmasked", node, unmasking)
        return self.server.finish()

    def play(self) -> GroupSum:
        """The whole round.

        Raises:
            GroupLostError: too few were left.
        """
        self.share(self.advertise())
        self.confirm(self.upload())
        return self.unmask()

    def _present(self, nodes: Iterable[int], gone: frozenset[int]) -> list[int]:
        return [node for node in nodes if node not in gone]

    def _tell(self, what: str, node: int, data: bytes) -> None:
        self.heard.setdefault(what, {})[node] = data
        fault = getattr(self.server, what)(node, data)
        if fault is not None:
            raise RuntimeError(f"an honest device's answer was a fault: {fault}")


def random_vectors(terms: GroupTerms, nodes: int, seed: int = 0) -> dict[int, NDArray[np.uint32]]:
    """A vector for each of the node ids 100, 101, ..."""
    rng = np.random.default_rng(seed)
    top = np.uint64(1) << np.uint64(terms.field_bits)
    drawn = rng.integers(0, top, (nodes, terms.coordinates), dtype=np.uint64).astype(np.uint32)
    return {100 + number: drawn[number] for number in range(nodes)}


def plain_sum(terms: GroupTerms, vectors: Iterable[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """The sum modulo 2^field_bits, without any masks: uint32[coordinates]."""
    total = np.zeros(terms.coordinates, dtype=np.uint64)
    for vector in vectors:
        total += vector
    return (total & np.uint64((1 << terms.field_bits) - 1)).astype(np.uint32)
