"""One masked round as a device goes through it: bytes in, bytes out, and nothing on a disk.

    with DeviceRound(terms, identity, now=now) as masked:
        advert = masked.advertise()
        shares = masked.share(roster)
        masked.accept(delivery)               # all is checked before anybody trains or charges
        packed = masked.mask(residues)
        confirmation = masked.confirm(survivors)
        unmasking = masked.unmask(confirmations)

Each step is taken once and in this order. Whatever is wrong with what the server sent ends the
round for this device: `MaskingRefusedError` says why in a code, and the secrets are dropped, as
they are at the end. They are only ever in this process's memory: if it dies in a round, the
device has vanished from it. (Python cannot promise that no copy is left in freed memory.)

What protects the person does not depend on the server:

    the terms          from the device's own plan; every signature, key and message is bound to them
    the roster         everybody's keys are signed by certified devices, its own are in there as it
                       made them, nobody is there twice, and there are at least `terms.minimum`
    the neighbours     derived from the roster, by itself
    the sharers        enough of its neighbours hold its shares, or it does not send a vector
    the survivors      have shared, are at least `terms.minimum`, and enough of its neighbours, each
                       of whom signed the same sets, before it gives away a single share
    the shares         one for each neighbour, of this or of that secret, never both, and once
"""

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Self, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from tacitly_common.errors import TacitlyError
from tacitly_common.secagg.graph import Graph, graph_parameters, make_graph
from tacitly_common.secagg.keys import agree, pair_mask_key, seal, self_mask_key, unseal
from tacitly_common.secagg.masks import Mask, apply_masks, pair_sign, reduce_to_field
from tacitly_common.secagg.members import (
    BadSignatureError,
    DuplicateMemberError,
    Identity,
    Member,
    NotCertifiedError,
    check_advert,
    check_different,
    make_advert,
    session_of,
    sign_survivors,
    verify_survivors,
)
from tacitly_common.secagg.messages import (
    Advert,
    Confirmation,
    Confirmations,
    Delivery,
    Roster,
    Shares,
    Survivors,
    Unmasking,
    encode,
    from_bitmap,
    parse,
)
from tacitly_common.secagg.packing import pack
from tacitly_common.secagg.sharing import SECRET_BYTES, SHARE_BYTES, split
from tacitly_common.secagg.terms import GroupTerms, GroupTooSmallError, SecaggError, digest
from tacitly_common.wire.codes import ReplyCode

_M = TypeVar("_M", Roster, Delivery, Survivors, Confirmations)


class MaskingRefusedError(TacitlyError):
    """This device takes no further part in the round. `code` is all that may leave it."""

    def __init__(self, code: ReplyCode) -> None:
        super().__init__(f"masked round refused: {code.name}")
        self.code = code


class DevicePhase(IntEnum):
    """The step that is next."""

    ADVERTISE = 0
    SHARE = 1
    ACCEPT = 2
    MASK = 3
    CONFIRM = 4
    UNMASK = 5
    OVER = 6


@dataclass(slots=True, repr=False)
class _Secrets:
    """What must not outlive the round."""

    seal_key: X25519PrivateKey
    mask_key: X25519PrivateKey
    self_seed: bytes
    advert: Advert
    # By neighbour: its share of the self-mask seed, and of its masking key.
    held: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    masks: list[Mask] = field(default_factory=list)


@dataclass(frozen=True, slots=True, repr=False)
class _Group:
    """The roster, once checked."""

    session: bytes
    members: tuple[Member, ...]
    graph: Graph
    # This device's number, and its neighbours'.
    own: int
    neighbours: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.members)

    @property
    def threshold(self) -> int:
        return self.graph.parameters.threshold


class DeviceRound:
    """The state machine of the module's text."""

    def __init__(self, terms: GroupTerms, identity: Identity, *, now: datetime) -> None:
        """`now` decides whether certificates are in their dates."""
        self.terms = terms
        self._identity = identity
        self._now = now
        self._phase = DevicePhase.ADVERTISE
        self._secrets: _Secrets | None = None
        self._group: _Group | None = None
        self._sharers: frozenset[int] = frozenset()
        self._survivors: frozenset[int] = frozenset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def phase(self) -> DevicePhase:
        """What is next."""
        return self._phase

    def close(self) -> None:
        """Drop all secrets. The round is over, however far it came."""
        self._phase = DevicePhase.OVER
        self._secrets = None
        self._group = None

    def advertise(self) -> bytes:
        """Make this round's keys; the signed `Advert`."""
        if self._phase is not DevicePhase.ADVERTISE:
            raise self._refuse(ReplyCode.MASKING_OUT_OF_PHASE)
        seal_key, mask_key = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        self_seed = secrets.token_bytes(SECRET_BYTES)
        advert = make_advert(
            self._identity,
            self.terms.context,
            seal_key.public_key().public_bytes_raw(),
            mask_key.public_key().public_bytes_raw(),
            digest(self_seed),
        )
        self._secrets = _Secrets(seal_key, mask_key, self_seed, advert)
        self._phase = DevicePhase.SHARE
        return encode(advert)

    def share(self, roster: bytes) -> bytes:
        """Check a `Roster`; the sealed `Shares` for this device's neighbours."""
        kept = self._expect(DevicePhase.SHARE)
        group = self._checked_group(self._parse(Roster, roster), kept)
        points = [neighbour + 1 for neighbour in group.neighbours]
        of_seed = split(kept.self_seed, points, group.threshold)
        of_key = split(kept.mask_key.private_bytes_raw(), points, group.threshold)
        sealed = tuple(
            seal(
                self._agreed(kept.seal_key, group.members[neighbour].advert.seal_key),
                group.session,
                group.own,
                neighbour,
                seed_share + key_share,
            )
            for neighbour, seed_share, key_share in zip(
                group.neighbours, of_seed, of_key, strict=True
            )
        )
        self._group = group
        self._phase = DevicePhase.ACCEPT
        return encode(Shares(group.session, sealed))

    def accept(self, delivery: bytes) -> None:
        """Check a `Delivery`, and keep the shares in it.

        A share that is not its sender's is as good as none: a single device that sends rubbish
        must not end the round for its neighbours.
        """
        kept = self._expect(DevicePhase.ACCEPT)
        group = self._checked()
        message = self._in_session(Delivery, delivery)
        sharers = self._members(message.sharers)
        present = [each for each in group.neighbours if each in sharers]
        if group.own not in sharers or len(message.sealed) != len(present):
            raise self._refuse(ReplyCode.MASKING_MALFORMED)
        if len(sharers) < self.terms.minimum:
            raise self._refuse(ReplyCode.MASKING_GROUP_TOO_SMALL)
        if len(present) < group.threshold:
            raise self._refuse(ReplyCode.MASKING_TOO_FEW_NEIGHBOURS)
        kept.masks.append(Mask(self_mask_key(kept.self_seed, group.session, group.own), 1))
        for neighbour, sealed in zip(present, message.sealed, strict=True):
            advert = group.members[neighbour].advert
            try:
                pair = unseal(
                    agree(kept.seal_key, advert.seal_key),
                    group.session,
                    neighbour,
                    group.own,
                    sealed,
                )
            except SecaggError:
                pass
            else:
                kept.held[neighbour] = pair[:SHARE_BYTES], pair[SHARE_BYTES:]
            agreed = self._agreed(kept.mask_key, advert.mask_key)
            key = pair_mask_key(agreed, group.session, group.own, neighbour)
            kept.masks.append(Mask(key, pair_sign(group.own, neighbour)))
        self._sharers = sharers
        self._phase = DevicePhase.MASK

    def mask(self, residues: NDArray[np.uint32]) -> bytes:
        """The packed masked vector. `residues`: uint32[coordinates], each below 2^field_bits.

        Raises:
            ValueError: they are not; the round is over.
        """
        kept = self._expect(DevicePhase.MASK)
        terms = self.terms
        if (
            residues.dtype != np.uint32
            or residues.shape != (terms.coordinates,)
            or int(residues.max()) >> terms.field_bits
        ):
            self.close()
            raise ValueError("what is masked is uint32[coordinates] of the plan's field")
        masked = residues.copy()
        apply_masks(masked, kept.masks)
        kept.masks.clear()
        reduce_to_field(masked, terms.field_bits)
        self._phase = DevicePhase.CONFIRM
        return pack(masked, terms.field_bits)

    def confirm(self, survivors: bytes) -> bytes:
        """Check `Survivors`; this device's signed `Confirmation` of them."""
        self._expect(DevicePhase.CONFIRM)
        group = self._checked()
        survived = self._members(self._in_session(Survivors, survivors).survivors)
        if group.own not in survived or not survived <= self._sharers:
            raise self._refuse(ReplyCode.MASKING_WRONG_SURVIVORS)
        if len(survived) < self.terms.minimum:
            raise self._refuse(ReplyCode.MASKING_GROUP_TOO_SMALL)
        if len(survived.intersection(group.neighbours)) < group.threshold:
            raise self._refuse(ReplyCode.MASKING_TOO_FEW_NEIGHBOURS)
        signature = sign_survivors(
            self._identity.signing_key, group.session, self._sharers, survived, group.size
        )
        self._survivors = survived
        self._phase = DevicePhase.UNMASK
        return encode(Confirmation(group.session, signature))

    def unmask(self, confirmations: bytes) -> bytes:
        """Check the neighbours' `Confirmations`; one share for each neighbour: `Unmasking`."""
        kept = self._expect(DevicePhase.UNMASK)
        group = self._checked()
        message = self._in_session(Confirmations, confirmations)
        confirmed = [number for number, _ in message.signatures]
        if confirmed != sorted(set(confirmed)) or not self._survivors.intersection(
            group.neighbours
        ).issuperset(confirmed):
            raise self._refuse(ReplyCode.MASKING_MALFORMED)
        if len(confirmed) < group.threshold:
            raise self._refuse(ReplyCode.MASKING_UNCONFIRMED)
        try:
            for number, signature in message.signatures:
                verify_survivors(
                    group.members[number],
                    group.session,
                    self._sharers,
                    self._survivors,
                    group.size,
                    signature,
                )
        except BadSignatureError:
            raise self._refuse(ReplyCode.MASKING_UNCONFIRMED) from None
        shares = []
        for neighbour in group.neighbours:
            if neighbour in self._sharers:
                of_seed, of_key = kept.held.get(neighbour, (b"", b""))
                shares.append(of_seed if neighbour in self._survivors else of_key)
        self.close()
        return encode(Unmasking(group.session, tuple(shares)))

    def _expect(self, phase: DevicePhase) -> _Secrets:
        """The secrets, in this phase alone. Asking out of turn ends the round."""
        if self._phase is not phase or self._secrets is None:
            raise self._refuse(ReplyCode.MASKING_OUT_OF_PHASE)
        return self._secrets

    def _checked(self) -> _Group:
        if self._group is None:
            raise self._refuse(ReplyCode.MASKING_OUT_OF_PHASE)
        return self._group

    def _refuse(self, code: ReplyCode) -> MaskingRefusedError:
        self.close()
        return MaskingRefusedError(code)

    def _agreed(self, private: X25519PrivateKey, public: bytes) -> bytes:
        try:
            return agree(private, public)
        except SecaggError:
            raise self._refuse(ReplyCode.MASKING_MALFORMED) from None

    def _parse(self, kind: type[_M], data: bytes) -> _M:
        try:
            return parse(kind, data)
        except SecaggError:
            raise self._refuse(ReplyCode.MASKING_MALFORMED) from None

    def _in_session(self, kind: type[_M], data: bytes) -> _M:
        message = self._parse(kind, data)
        if isinstance(message, Roster) or message.session != self._checked().session:
            raise self._refuse(ReplyCode.MASKING_OTHER_SESSION)
        return message

    def _members(self, bitmap: bytes) -> frozenset[int]:
        try:
            return from_bitmap(bitmap, self._checked().size)
        except SecaggError:
            raise self._refuse(ReplyCode.MASKING_MALFORMED) from None

    def _checked_group(self, roster: Roster, kept: _Secrets) -> _Group:
        """What is cheap is looked at before what is not."""
        terms = self.terms
        if roster.context != terms.context or any(
            each.context != terms.context for each in roster.members
        ):
            raise self._refuse(ReplyCode.MASKING_OTHER_SESSION)
        if roster.members.count(kept.advert) != 1:
            raise self._refuse(ReplyCode.MASKING_NOT_IN_ROSTER)
        size, own = len(roster.members), roster.members.index(kept.advert)
        try:
            parameters = graph_parameters(size, terms.dropout, terms.corruption, terms.failure_bits)
        except GroupTooSmallError:
            raise self._refuse(ReplyCode.MASKING_GROUP_TOO_SMALL) from None
        if size < terms.minimum:
            raise self._refuse(ReplyCode.MASKING_GROUP_TOO_SMALL)
        try:
            members = tuple(
                check_advert(each, terms, self._identity.authority, now=self._now)
                for each in roster.members
            )
            check_different(members)
        except NotCertifiedError:
            raise self._refuse(ReplyCode.MASKING_NOT_CERTIFIED) from None
        except BadSignatureError:
            raise self._refuse(ReplyCode.MASKING_BAD_SIGNATURE) from None
        except DuplicateMemberError:
            raise self._refuse(ReplyCode.MASKING_DUPLICATE_MEMBER) from None
        except SecaggError:
            raise self._refuse(ReplyCode.MASKING_MALFORMED) from None
        session = session_of(roster)
        graph = make_graph(session, size, parameters)
        return _Group(session, members, graph, own, graph.neighbours(own))
