"""One masked round of one group as the server goes through it: bytes in, bytes out.

    group = GroupRound(terms, authority, now=now)
    group.advertised(node_id, data)     for every answer; None, or the fault that it costs its node
    roster = group.close_adverts()      the same for every member
    group.shared(node_id, data)
    group.close_shares()
    group.delivery(node_id)             what goes to each of `group.sharers`
    group.uploaded(node_id, data)       added to the sum at once, and forgotten
    survivors = group.close_uploads()   the same for each of `group.survivors`
    group.confirmed(node_id, data)
    group.close_confirmations()
    group.confirmations(node_id)        what goes to each survivor
    group.unmasked(node_id, data)
    total = group.finish()

What comes from a device never raises: it is taken, or it is a `MaskingFault`. A `close_` step ends
a phase; whoever has not answered until then has vanished. With too few left it raises
`GroupLostError`, and nothing is known of anybody. Memory: one word for each coordinate, and for
each member what it sent but its vector.
"""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Final, TypeVar

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from tacitly_common.errors import TacitlyError
from tacitly_common.secagg.graph import Graph, graph_parameters, make_graph
from tacitly_common.secagg.keys import agree, pair_mask_key, self_mask_key
from tacitly_common.secagg.masks import Mask, apply_masks, pair_sign, reduce_to_field
from tacitly_common.secagg.members import (
    BadSignatureError,
    Member,
    NotCertifiedError,
    check_advert,
    check_different,
    check_usable,
    session_of,
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
    parse,
    to_bitmap,
)
from tacitly_common.secagg.packing import unpack
from tacitly_common.secagg.sharing import SHARE_BYTES, combine, fits
from tacitly_common.secagg.terms import GroupTerms, GroupTooSmallError, SecaggError, digest

# With one liar in ten and a threshold of half a hundred, one try in forty is without.
_TRIES: Final = 200
_M = TypeVar("_M", Shares, Confirmation, Unmasking)


class MaskingFault(StrEnum):
    """Why an answer counts for nothing. None holds a value from the wire."""

    OUT_OF_PHASE = "masking_out_of_phase"
    NOT_A_MEMBER = "masking_not_a_member"
    ANSWERED_TWICE = "masking_answered_twice"
    MALFORMED = "masking_malformed"
    OTHER_SESSION = "masking_other_session"
    WRONG_NODE = "masking_wrong_node"
    NOT_CERTIFIED = "masking_not_certified"
    BAD_SIGNATURE = "masking_bad_signature"
    DUPLICATE_KEY = "masking_duplicate_key"


class LostReason(StrEnum):
    """Why a group gives no sum."""

    GROUP_TOO_SMALL = "group_too_small"
    TOO_FEW_SHARERS = "too_few_sharers"
    TOO_FEW_SURVIVORS = "too_few_survivors"
    TOO_FEW_CONFIRMATIONS = "too_few_confirmations"
    TOO_FEW_SHARES = "too_few_shares"
    WRONG_SHARES = "wrong_shares"


class GroupLostError(TacitlyError):
    """The group's round gives nothing; nobody's vector can be unmasked any more."""

    def __init__(self, reason: LostReason) -> None:
        super().__init__(f"a masked group was lost: {reason.value}")
        self.reason = reason


class GroupPhase(IntEnum):
    """What the group waits for."""

    ADVERTS = 0
    SHARES = 1
    UPLOADS = 2
    CONFIRMATIONS = 3
    UNMASKINGS = 4
    OVER = 5


@dataclass(frozen=True, slots=True)
class GroupSum:
    """The sum: uint32[coordinates] modulo 2^field_bits, and whose vectors it is of."""

    total: NDArray[np.uint32]
    contributors: tuple[int, ...]


class GroupRound:
    """The state machine of the module's text."""

    def __init__(self, terms: GroupTerms, authority: x509.Certificate, *, now: datetime) -> None:
        """`now` decides whether certificates are in their dates."""
        self.terms = terms
        self._authority = authority
        self._now = now
        self._phase = GroupPhase.ADVERTS
        self._adverts: dict[int, Member] = {}
        self._keys: set[bytes] = set()
        # From here on members go by their number in the roster.
        self._members: tuple[Member, ...] = ()
        self._number: dict[int, int] = {}
        self._session = b""
        self._graph: Graph | None = None
        self._sealed: dict[int, Mapping[int, bytes]] = {}
        self._sharers: frozenset[int] = frozenset()
        self._total = np.zeros(0, dtype=np.uint32)
        self._uploaded: set[int] = set()
        self._survivors: frozenset[int] = frozenset()
        self._signatures: dict[int, bytes] = {}
        # By whose secret it is of, then by who holds the share.
        self._shares: dict[int, dict[int, bytes]] = {}
        self._answered: set[int] = set()
        self._liars: set[int] = set()

    @property
    def phase(self) -> GroupPhase:
        """What is waited for."""
        return self._phase

    @property
    def members(self) -> tuple[int, ...]:
        """The node ids in the roster, ascending."""
        return tuple(member.node_id for member in self._members)

    @property
    def sharers(self) -> tuple[int, ...]:
        """The node ids that have shared: who is asked for a vector."""
        return self._nodes(self._sharers)

    @property
    def survivors(self) -> tuple[int, ...]:
        """The node ids whose vectors are in the sum: who is asked to confirm and to unmask."""
        return self._nodes(self._survivors)

    @property
    def liars(self) -> tuple[int, ...]:
        """The node ids that gave, in `unmasked`, a share other than they were given."""
        return self._nodes(frozenset(self._liars))

    def advertised(self, node_id: int, data: bytes) -> MaskingFault | None:
        """Take an `Advert`."""
        if self._phase is not GroupPhase.ADVERTS:
            return MaskingFault.OUT_OF_PHASE
        if node_id in self._adverts:
            return MaskingFault.ANSWERED_TWICE
        try:
            advert = parse(Advert, data)
            if advert.context != self.terms.context:
                return MaskingFault.OTHER_SESSION
            member = check_advert(advert, self.terms, self._authority, now=self._now)
            check_usable(advert)
        except NotCertifiedError:
            return MaskingFault.NOT_CERTIFIED
        except BadSignatureError:
            return MaskingFault.BAD_SIGNATURE
        except SecaggError:
            return MaskingFault.MALFORMED
        if member.node_id != node_id:
            return MaskingFault.WRONG_NODE
        keys = {
            member.signing_key.public_bytes_raw(),
            advert.seal_key,
            advert.mask_key,
            advert.self_commitment,
        }
        if len(keys) != 4 or keys & self._keys:
            return MaskingFault.DUPLICATE_KEY
        self._keys |= keys
        self._adverts[node_id] = member
        return None

    def close_adverts(self) -> bytes:
        """The `Roster` for every member."""
        self._end(GroupPhase.ADVERTS)
        terms, size = self.terms, len(self._adverts)
        if size < terms.minimum:
            raise self._lost(LostReason.GROUP_TOO_SMALL)
        try:
            parameters = graph_parameters(size, terms.dropout, terms.corruption, terms.failure_bits)
        except GroupTooSmallError:
            raise self._lost(LostReason.GROUP_TOO_SMALL) from None
        self._members = tuple(self._adverts[node_id] for node_id in sorted(self._adverts))
        check_different(self._members)
        self._number = {each.node_id: number for number, each in enumerate(self._members)}
        roster = Roster(terms.context, tuple(member.advert for member in self._members))
        self._session = session_of(roster)
        self._graph = make_graph(self._session, size, parameters)
        return encode(roster)

    def shared(self, node_id: int, data: bytes) -> MaskingFault | None:
        """Take a member's `Shares`."""
        number = self._expected(GroupPhase.SHARES, node_id, self._sealed)
        if isinstance(number, MaskingFault):
            return number
        message = self._parse(Shares, data)
        if isinstance(message, MaskingFault):
            return message
        neighbours = self._neighbours(number)
        if len(message.sealed) != len(neighbours):
            return MaskingFault.MALFORMED
        self._sealed[number] = dict(zip(neighbours, message.sealed, strict=True))
        return None

    def close_shares(self) -> None:
        """Nobody can share any more: `sharers` are who is asked for a vector."""
        self._end(GroupPhase.SHARES)
        self._sharers = frozenset(self._sealed)
        if len(self._sharers) < self.terms.minimum:
            raise self._lost(LostReason.TOO_FEW_SHARERS)
        self._total = np.zeros(self.terms.coordinates, dtype=np.uint32)

    def delivery(self, node_id: int) -> bytes:
        """The `Delivery` for one of `sharers`."""
        self._require(GroupPhase.UPLOADS)
        number = self._number[node_id]
        present = [each for each in self._neighbours(number) if each in self._sharers]
        sealed = tuple(self._sealed[each][number] for each in present)
        return encode(Delivery(self._session, to_bitmap(self._sharers, self._size), sealed))

    def uploaded(self, node_id: int, data: bytes) -> MaskingFault | None:
        """Add a sharer's packed masked vector to the sum."""
        number = self._expected(GroupPhase.UPLOADS, node_id, self._uploaded, self._sharers)
        if isinstance(number, MaskingFault):
            return number
        try:
            vector = unpack(data, self.terms.coordinates, self.terms.field_bits)
        except SecaggError:
            return MaskingFault.MALFORMED
        np.add(self._total, vector, out=self._total)
        self._uploaded.add(number)
        return None

    def close_uploads(self) -> bytes:
        """The `Survivors` for each of `survivors`."""
        self._end(GroupPhase.UPLOADS)
        self._sealed.clear()
        self._survivors = frozenset(self._uploaded)
        if len(self._survivors) < self.terms.minimum:
            raise self._lost(LostReason.TOO_FEW_SURVIVORS)
        return encode(Survivors(self._session, to_bitmap(self._survivors, self._size)))

    def confirmed(self, node_id: int, data: bytes) -> MaskingFault | None:
        """Take a survivor's `Confirmation`."""
        number = self._expected(
            GroupPhase.CONFIRMATIONS, node_id, self._signatures, self._survivors
        )
        if isinstance(number, MaskingFault):
            return number
        message = self._parse(Confirmation, data)
        if isinstance(message, MaskingFault):
            return message
        try:
            verify_survivors(
                self._members[number],
                self._session,
                self._sharers,
                self._survivors,
                self._size,
                message.signature,
            )
        except BadSignatureError:
            return MaskingFault.BAD_SIGNATURE
        self._signatures[number] = message.signature
        return None

    def close_confirmations(self) -> None:
        """Nobody can confirm any more: those who have are who is asked to unmask."""
        self._end(GroupPhase.CONFIRMATIONS)
        if len(self._signatures) < self._threshold:
            raise self._lost(LostReason.TOO_FEW_CONFIRMATIONS)

    @property
    def confirmers(self) -> tuple[int, ...]:
        """The node ids that have confirmed: who is asked to unmask."""
        return self._nodes(frozenset(self._signatures))

    def confirmations(self, node_id: int) -> bytes:
        """The `Confirmations` for one of `confirmers`."""
        self._require(GroupPhase.UNMASKINGS)
        neighbours = self._neighbours(self._number[node_id])
        signed = tuple(
            (each, self._signatures[each]) for each in neighbours if each in self._signatures
        )
        return encode(Confirmations(self._session, signed))

    def unmasked(self, node_id: int, data: bytes) -> MaskingFault | None:
        """Take a confirmer's `Unmasking`."""
        number = self._expected(
            GroupPhase.UNMASKINGS, node_id, self._answered, frozenset(self._signatures)
        )
        if isinstance(number, MaskingFault):
            return number
        message = self._parse(Unmasking, data)
        if isinstance(message, MaskingFault):
            return message
        present = [each for each in self._neighbours(number) if each in self._sharers]
        if len(message.shares) != len(present):
            return MaskingFault.MALFORMED
        for neighbour, share in zip(present, message.shares, strict=True):
            if len(share) == SHARE_BYTES:
                self._shares.setdefault(neighbour, {})[number] = share
        self._answered.add(number)
        return None

    def finish(self) -> GroupSum:
        """The sum, once every survivor's own mask and every mask of a vanished one are taken off.

        All secrets are put together and checked before the sum is touched.
        """
        self._end(GroupPhase.UNMASKINGS)
        vanished = {
            number
            for number in self._sharers - self._survivors
            if self._survivors.intersection(self._neighbours(number))
        }
        found = {number: self._secret(number) for number in (*self._survivors, *vanished)}
        apply_masks(self._total, self._left_over(found, vanished))
        reduce_to_field(self._total, self.terms.field_bits)
        self._shares.clear()
        total, self._total = self._total, np.zeros(0, dtype=np.uint32)
        return GroupSum(total, self.survivors)

    def _left_over(self, found: Mapping[int, bytes], vanished: set[int]) -> Iterator[Mask]:
        for number in self._survivors:
            yield Mask(self_mask_key(found[number], self._session, number), -1)
        for number in vanished:
            private = X25519PrivateKey.from_private_bytes(found[number])
            for survivor in self._survivors.intersection(self._neighbours(number)):
                agreed = agree(private, self._members[survivor].advert.mask_key)
                key = pair_mask_key(agreed, self._session, survivor, number)
                # The survivor has added pair_sign(survivor, number) times the mask.
                yield Mask(key, pair_sign(number, survivor))

    def _secret(self, number: int) -> bytes:
        """A survivor's self-mask seed, or a vanished member's masking key, checked.

        While some holders lie, other holders' shares are tried; who lied is known once the secret
        is, and is not believed again.
        """
        given = self._shares.get(number, {})
        shares = {holder: given[holder] for holder in given if holder not in self._liars}
        if len(shares) < self._threshold:
            raise self._lost(LostReason.TOO_FEW_SHARES)
        holders = sorted(shares)
        for _ in range(_TRIES):
            chosen = {holder + 1: shares[holder] for holder in holders[: self._threshold]}
            try:
                secret = combine(chosen)
                right = self._is_secret(number, secret)
            except SecaggError:
                right = False
            if right:
                # The first try is as good as always right, and then nobody is looked for.
                self._liars.update(
                    holder
                    for holder in (shares if holders != sorted(shares) else ())
                    if not fits(chosen, holder + 1, shares[holder])
                )
                return secret
            secrets.SystemRandom().shuffle(holders)
        raise self._lost(LostReason.WRONG_SHARES)

    def _is_secret(self, number: int, secret: bytes) -> bool:
        advert = self._members[number].advert
        if number in self._survivors:
            return digest(secret) == advert.self_commitment
        public = X25519PrivateKey.from_private_bytes(secret).public_key()
        return public.public_bytes_raw() == advert.mask_key

    @property
    def _size(self) -> int:
        return len(self._members)

    @property
    def _threshold(self) -> int:
        return self._checked_graph().parameters.threshold

    def _neighbours(self, number: int) -> tuple[int, ...]:
        return self._checked_graph().neighbours(number)

    def _checked_graph(self) -> Graph:
        if self._graph is None:
            raise RuntimeError("there is no roster yet")
        return self._graph

    def _nodes(self, numbers: frozenset[int]) -> tuple[int, ...]:
        return tuple(self._members[number].node_id for number in sorted(numbers))

    def _end(self, phase: GroupPhase) -> None:
        """On to the next phase."""
        self._require(phase)
        self._phase = GroupPhase(phase + 1)

    def _require(self, phase: GroupPhase) -> None:
        """A caller that comes out of turn is wrong, whatever was sent."""
        if self._phase is not phase:
            raise RuntimeError(f"the group is at {self._phase.name}, not at {phase.name}")

    def _lost(self, reason: LostReason) -> GroupLostError:
        self._phase = GroupPhase.OVER
        self._total = np.zeros(0, dtype=np.uint32)
        self._shares.clear()
        return GroupLostError(reason)

    def _expected(
        self,
        phase: GroupPhase,
        node_id: int,
        answered: Mapping[int, object] | set[int],
        asked: frozenset[int] | None = None,
    ) -> int | MaskingFault:
        """The number of a node whose first answer in this phase is due."""
        if self._phase is not phase:
            return MaskingFault.OUT_OF_PHASE
        number = self._number.get(node_id)
        if number is None or (asked is not None and number not in asked):
            return MaskingFault.NOT_A_MEMBER
        return MaskingFault.ANSWERED_TWICE if number in answered else number

    def _parse(self, kind: type[_M], data: bytes) -> _M | MaskingFault:
        try:
            message = parse(kind, data)
        except SecaggError:
            return MaskingFault.MALFORMED
        return message if message.session == self._session else MaskingFault.OTHER_SESSION
