"""Masked rounds in one process: certified devices, honest or not, and what happened in between."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from numpy.typing import NDArray

from tacitly_client.node.masking import DeviceRound
from tacitly_common.secagg.members import Identity
from tacitly_common.secagg.terms import GroupTerms
from tacitly_server.aggregation.masking import GroupRound, GroupSum
from tacitly_server.certificate_parts import issued_by, new_authority

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Certifier:
    """An enrolment authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certify(
        self, node_id: int, key: Ed25519PrivateKey, *, since: datetime = NOW, days: int = 365
    ) -> bytes:
        """A certificate as `tacitly-server` issues it."""
        builder = issued_by(
            self.certificate,
            str(node_id),
            key.public_key(),
            now=since,
            end=since + timedelta(days=days),
        )
        return builder.sign(self.key, hashes.SHA384()).public_bytes(Encoding.DER)

    def device(self, node_id: int) -> Identity:
        """A new device."""
        key = Ed25519PrivateKey.generate()
        return Identity(self.certify(node_id, key), key, self.certificate)


@lru_cache
def authority() -> Certifier:
    """The one that all devices of the tests have."""
    return Certifier(*new_authority("Tacitly enrolment authority", now=NOW))


@lru_cache(maxsize=2_048)
def device(node_id: int) -> Identity:
    """The device with that node id."""
    return authority().device(node_id)


def make_terms(**changes: object) -> GroupTerms:
    """Terms for a small group that may lose a third."""
    fields: dict[str, object] = {
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
    return GroupTerms(**(fields | changes))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Gone:
    """The node ids that vanish instead of answering in each phase."""

    adverts: frozenset[int] = frozenset()
    shares: frozenset[int] = frozenset()
    uploads: frozenset[int] = frozenset()
    confirmations: frozenset[int] = frozenset()
    unmaskings: frozenset[int] = frozenset()


@dataclass
class Played:
    """A round on its way; each step plays one phase with everybody who has not vanished."""

    terms: GroupTerms
    vectors: dict[int, NDArray[np.uint32]]
    gone: Gone = field(default_factory=Gone)
    heard: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.group = GroupRound(self.terms, authority().certificate, now=NOW)
        self.devices = {
            node: DeviceRound(self.terms, device(node), now=NOW) for node in self.vectors
        }

    def advertise(self) -> bytes:
        for node, each in self.devices.items():
            if node not in self.gone.adverts:
                assert self.group.advertised(node, self.hear(each.advertise())) is None
        return self.group.close_adverts()

    def share(self, roster: bytes) -> None:
        for node in self.group.members:
            if node not in self.gone.shares:
                data = self.hear(self.devices[node].share(roster))
                assert self.group.shared(node, data) is None
        self.group.close_shares()

    def upload(self) -> bytes:
        for node in self.group.sharers:
            if node not in self.gone.uploads:
                self.devices[node].accept(self.group.delivery(node))
                data = self.hear(self.devices[node].mask(self.vectors[node]))
                assert self.group.uploaded(node, data) is None
        return self.group.close_uploads()

    def confirm(self, survivors: bytes) -> None:
        for node in self.group.survivors:
            if node not in self.gone.confirmations:
                data = self.hear(self.devices[node].confirm(survivors))
                assert self.group.confirmed(node, data) is None
        self.group.close_confirmations()

    def unmask(self) -> GroupSum:
        for node in self.group.confirmers:
            if node not in self.gone.unmaskings:
                data = self.hear(self.devices[node].unmask(self.group.confirmations(node)))
                assert self.group.unmasked(node, data) is None
        return self.group.finish()

    def hear(self, data: bytes) -> bytes:
        """What the server hears and could have kept."""
        self.heard.append(data)
        return data

    def play(self) -> GroupSum:
        self.share(self.advertise())
        self.confirm(self.upload())
        return self.unmask()


def random_vectors(terms: GroupTerms, nodes: int, seed: int = 0) -> dict[int, NDArray[np.uint32]]:
    """A vector for each of node ids 100, 101, ..."""
    rng = np.random.default_rng(seed)
    shape = (nodes, terms.coordinates)
    drawn = rng.integers(0, 1 << terms.field_bits, shape, dtype=np.uint32)
    return {100 + number: drawn[number] for number in range(nodes)}


def plain_sum(terms: GroupTerms, vectors: list[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """The sum without any masks."""
    total = np.sum([vector.astype(np.uint64) for vector in vectors], axis=0)
    return (total % np.uint64(1 << terms.field_bits)).astype(np.uint32)
