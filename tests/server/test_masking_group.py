"""A group's sum is the plain one, bit for bit, or none; a bad answer costs its sender alone."""

from decimal import Decimal
from itertools import combinations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from tacitly_client.node.masking import DeviceRound
from tacitly_common.secagg.keys import agree, pair_mask_key, self_mask_key
from tacitly_common.secagg.masks import Mask, apply_masks, pair_sign, reduce_to_field
from tacitly_common.secagg.members import Identity, make_advert
from tacitly_common.secagg.messages import (
    Advert,
    Confirmation,
    Shares,
    Unmasking,
    encode,
    parse,
)
from tacitly_common.secagg.packing import packed_bytes, unpack
from tacitly_common.secagg.sharing import combine
from tacitly_server.aggregation.masking import (
    GroupLostError,
    GroupPhase,
    GroupRound,
    LostReason,
    MaskingFault,
)
from tacitly_server.certificate_parts import new_authority
from tacitly_simulations.bench.masked_group import (
    NOW,
    Certifier,
    Gone,
    MaskedGroup,
    authority,
    device,
    make_terms,
    plain_sum,
    random_vectors,
)
from tacitly_simulations.bench.masked_rounds import run


def assert_exact(group: MaskedGroup, terms) -> None:
    result = group.play()
    gone = group.gone
    assert (
        set(result.contributors) == set(group.vectors) - gone.adverts - gone.shares - gone.uploads
    )
    expected = plain_sum(terms, (group.vectors[node] for node in result.contributors))
    assert np.array_equal(result.total, expected)


# The sum


@st.composite
def vanishing(draw, size: int) -> Gone:
    """As many as the terms allow vanish after the roster, three in ten before it, at any phase."""
    nodes = draw(st.permutations(range(100, 100 + size)))
    early = draw(st.integers(0, int(0.3 * size)))
    members = size - early
    allowed = draw(st.integers(0, int(Decimal("0.3") * members)))
    phases = ("shares", "uploads", "confirmations", "unmaskings")
    gone: dict[str, set[int]] = {phase: set() for phase in phases}
    for node in nodes[early : early + allowed]:
        gone[draw(st.sampled_from(phases))].add(node)
    sets = {phase: frozenset(chosen) for phase, chosen in gone.items()}
    return Gone(adverts=frozenset(nodes[:early]), **sets)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_sum_is_exact_while_no_more_vanish_than_agreed(data):
    size = data.draw(st.integers(3, 14))
    terms = make_terms(
        field_bits=data.draw(st.integers(1, 32)), coordinates=data.draw(st.integers(1, 40))
    )
    gone = data.draw(vanishing(size))
    vectors = random_vectors(terms, size, data.draw(st.integers(0, 2**20)))
    assert_exact(MaskedGroup(terms, vectors, gone), terms)


def test_the_sum_of_two_is_exact():
    terms = make_terms()
    assert_exact(MaskedGroup(terms, random_vectors(terms, 2)), terms)


def test_the_sum_is_exact_where_not_all_are_neighbours():
    """A ring with neighbours on both sides; a tenth vanishes in the worst phase, and some later."""
    terms = make_terms(dropout=Decimal("0.1"), corruption=Decimal("0.02"), failure_bits=20)
    vectors = random_vectors(terms, 130)
    gone = Gone(uploads=frozenset(range(100, 110)), unmaskings=frozenset((120, 121, 122)))
    group = MaskedGroup(terms, vectors, gone)
    assert_exact(group, terms)
    assert len(parse(Shares, group.heard["shared"][150]).sealed) < 129


def test_random_rounds_are_exact_or_lost_with_a_reason():
    endings = run(60, largest=10, seed=5)
    assert endings["exact"] > 30
    assert all(ending.startswith(("exact", "lost: ")) for ending in endings)


# Lost


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        (Gone(adverts=frozenset(range(100, 105))), LostReason.GROUP_TOO_SMALL),
        (Gone(shares=frozenset(range(100, 105))), LostReason.TOO_FEW_SHARERS),
        (Gone(uploads=frozenset(range(100, 105))), LostReason.TOO_FEW_SURVIVORS),
        (Gone(confirmations=frozenset(range(100, 107))), LostReason.TOO_FEW_CONFIRMATIONS),
        (Gone(unmaskings=frozenset(range(100, 107))), LostReason.TOO_FEW_SHARES),
    ],
)
def test_too_few_in_any_phase_lose_the_round_with_its_reason(gone, reason):
    terms = make_terms(minimum=6)
    group = MaskedGroup(terms, random_vectors(terms, 10), gone)
    with pytest.raises(GroupLostError) as caught:
        group.play()
    assert caught.value.reason is reason
    assert group.server.phase is GroupPhase.OVER
    assert group.server._total.size == 0


def test_a_group_too_small_for_its_bounds_is_lost():
    terms = make_terms(dropout=Decimal("0.4"), corruption=Decimal("0.3"))
    with pytest.raises(GroupLostError) as caught:
        MaskedGroup(terms, random_vectors(terms, 10)).play()
    assert caught.value.reason is LostReason.GROUP_TOO_SMALL


# Devices that lie


def with_wrong_shares(liars: range) -> MaskedGroup:
    terms = make_terms()
    group = MaskedGroup(terms, random_vectors(terms, 14))
    group.share(group.advertise())
    group.confirm(group.upload())
    for node in group.server.confirmers:
        data = group.devices[node].unmask(group.server.confirmations(node))
        if node in liars:
            message = parse(Unmasking, data)
            data = encode(Unmasking(message.session, (bytes(33),) * len(message.shares)))
        assert group.server.unmasked(node, data) is None
    return group


def test_a_few_wrong_shares_are_found_and_left_out():
    group = with_wrong_shares(range(100, 102))
    result = group.server.finish()
    assert np.array_equal(result.total, plain_sum(group.server.terms, group.vectors.values()))
    assert group.server.liars == (100, 101)


def test_too_many_wrong_shares_lose_the_round():
    with pytest.raises(GroupLostError) as caught:
        with_wrong_shares(range(100, 109)).server.finish()
    assert caught.value.reason is LostReason.WRONG_SHARES


def test_a_key_put_together_from_shares_must_be_the_advertised_one():
    """A dealer that shares another key than it masks with: its sum would come out as noise."""
    terms = make_terms()
    gone = Gone(uploads=frozenset((100,)))
    group = MaskedGroup(terms, random_vectors(terms, 8), gone)
    roster = group.advertise()
    group.devices[100]._secrets.mask_key = group.devices[101]._secrets.mask_key
    group.share(roster)
    group.confirm(group.upload())
    with pytest.raises(GroupLostError) as caught:
        group.unmask()
    assert caught.value.reason is LostReason.WRONG_SHARES


# Answers that count for nothing


def advertised(node: int, terms) -> bytes:
    return DeviceRound(terms, device(node), now=NOW).advertise()


def test_bad_adverts_are_left_out_by_name():
    terms = make_terms()
    group = GroupRound(terms, authority().certificate, now=NOW)
    good = advertised(100, terms)
    assert group.advertised(100, good) is None
    advert = parse(Advert, good)
    stranger = Certifier(*new_authority("Tacitly enrolment authority", now=NOW)).device(102)
    again = authority().certify(102, device(100).signing_key)
    key = device(100).signing_key
    twin = Identity(again, key, authority().certificate)
    keys = (b"\x09" * 32, b"\x0a" * 32, b"\x0b" * 32)
    forged = Advert(terms.context, *keys, device(102).certificate, bytes(64))
    tries = [
        (100, good, MaskingFault.ANSWERED_TWICE),
        (101, good, MaskingFault.WRONG_NODE),
        (102, b"", MaskingFault.MALFORMED),
        (102, advertised(102, make_terms(round=4)), MaskingFault.OTHER_SESSION),
        (102, encode(make_advert(stranger, terms.context, *keys)), MaskingFault.NOT_CERTIFIED),
        (102, encode(forged), MaskingFault.BAD_SIGNATURE),
        (102, encode(make_advert(twin, terms.context, *keys)), MaskingFault.DUPLICATE_KEY),
        (
            102,
            encode(make_advert(device(102), terms.context, advert.seal_key, *keys[:2])),
            MaskingFault.DUPLICATE_KEY,
        ),
        (
            102,
            encode(make_advert(device(102), terms.context, bytes(32), *keys[:2])),
            MaskingFault.MALFORMED,
        ),
    ]
    for node, data, fault in tries:
        assert group.advertised(node, data) is fault
    assert group.advertised(102, advertised(102, terms)) is None
    group.close_adverts()
    assert group.members == (100, 102)
    assert group.advertised(103, advertised(103, terms)) is MaskingFault.OUT_OF_PHASE


def test_answers_out_of_turn_twice_or_from_strangers_are_left_out():
    terms = make_terms()
    gone = Gone(shares=frozenset((107,)), uploads=frozenset((106,)))
    group = MaskedGroup(terms, random_vectors(terms, 8), gone)
    server = group.server
    assert server.shared(100, b"") is MaskingFault.OUT_OF_PHASE
    roster = group.advertise()
    late = group.devices[107].share(roster)
    group.share(roster)
    assert server.shared(107, late) is MaskingFault.OUT_OF_PHASE
    packed = bytes(packed_bytes(terms.coordinates, terms.field_bits))
    assert server.uploaded(107, packed) is MaskingFault.NOT_A_MEMBER
    assert server.uploaded(999, packed) is MaskingFault.NOT_A_MEMBER
    assert server.uploaded(100, packed[1:]) is MaskingFault.MALFORMED
    group.devices[106].accept(server.delivery(106))
    delayed = group.devices[106].mask(group.vectors[106])
    survivors = group.upload()
    assert server.uploaded(106, delayed) is MaskingFault.OUT_OF_PHASE
    assert server.confirmed(106, b"") is MaskingFault.NOT_A_MEMBER
    assert server.confirmed(100, b"") is MaskingFault.MALFORMED
    session = parse(Shares, group.heard["shared"][100]).session
    wrong = encode(Confirmation(session, bytes(64)))
    assert server.confirmed(100, wrong) is MaskingFault.BAD_SIGNATURE
    other = encode(Confirmation(bytes(32), bytes(64)))
    assert server.confirmed(100, other) is MaskingFault.OTHER_SESSION
    group.confirm(survivors)
    assert server.unmasked(100, encode(Unmasking(session, ()))) is MaskingFault.MALFORMED
    for node in server.confirmers:
        data = group.devices[node].unmask(server.confirmations(node))
        assert server.unmasked(node, data) is None
        assert server.unmasked(node, data) is MaskingFault.ANSWERED_TWICE
    result = server.finish()
    expected = plain_sum(terms, (group.vectors[node] for node in range(100, 106)))
    assert np.array_equal(result.total, expected)
    assert server.unmasked(100, data) is MaskingFault.OUT_OF_PHASE


def test_a_step_out_of_turn_is_a_fault_of_the_caller():
    group = GroupRound(make_terms(), authority().certificate, now=NOW)
    for step in (group.close_shares, group.close_uploads, group.close_confirmations, group.finish):
        with pytest.raises(RuntimeError, match="ADVERTS"):
            step()
    with pytest.raises(RuntimeError, match="ADVERTS"):
        group.delivery(100)


def test_memory_is_one_word_for_each_coordinate():
    """Vectors are added as they come: the group holds as much after ten as after one."""
    terms = make_terms(coordinates=10_000)
    group = MaskedGroup(terms, random_vectors(terms, 10))
    group.share(group.advertise())
    group.upload()
    arrays = [each for each in vars(group.server).values() if isinstance(each, np.ndarray)]
    assert sum(each.nbytes for each in arrays) == 4 * 10_000
    kept = [each for each in vars(group.server).values() if isinstance(each, bytes)]
    assert all(len(each) < 100 for each in kept)


# What the server sees


def assert_uniform(residues: np.ndarray, bits: int) -> None:
    """Chi-square of the highest and the lowest eight bits; wrong once in a billion."""
    for part in (residues >> np.uint32(bits - 8), residues & np.uint32(255)):
        counts = np.bincount(part, minlength=256)
        expected = residues.size / 256
        statistic = float(((counts - expected) ** 2).sum() / expected)
        assert statistic < chi2.isf(1e-9, 255)
        # Nor too even to be true, as a counter's words would be.
        assert statistic > chi2.ppf(1e-9, 255)


def constant_group() -> MaskedGroup:
    """Five devices; one has planted a constant, the others give nothing at all."""
    terms = make_terms(coordinates=100_000)
    vectors = {node: np.zeros(100_000, dtype=np.uint32) for node in range(100, 105)}
    vectors[102][:] = 777
    return MaskedGroup(terms, vectors)


def test_what_a_device_sends_is_uniform_over_the_field():
    group = constant_group()
    group.play()
    for data in group.heard["uploaded"].values():
        assert_uniform(unpack(data, 100_000, 20), 20)


def test_a_planted_constant_is_in_no_partial_sum_that_the_server_can_make():
    """With every self mask known, and all that was sent: only the sum of all five is not noise."""
    group = constant_group()
    result = group.play()
    assert (result.total == 777).all()
    sent = {node: unpack(data, 100_000, 20) for node, data in group.heard["uploaded"].items()}
    session = parse(Shares, group.heard["shared"][100]).session
    shares = {node: parse(Unmasking, data).shares for node, data in group.heard["unmasked"].items()}
    threshold = group.server._threshold
    for number, node in enumerate(sorted(sent)):
        holders = [each for each in range(5) if each != number][:threshold]
        seed = combine({each + 1: shares[100 + each][number - (number > each)] for each in holders})
        apply_masks(sent[node], [Mask(self_mask_key(seed, session, number), -1)])
        reduce_to_field(sent[node], 20)
    for size in range(1, 5):
        for subset in combinations(sorted(sent), size):
            partial = np.sum([sent[node] for node in subset], axis=0, dtype=np.uint64)
            assert_uniform((partial % (1 << 20)).astype(np.uint32), 20)
    total = np.sum(list(sent.values()), axis=0, dtype=np.uint64) % (1 << 20)
    assert (total == 777).all()


def test_two_rounds_of_the_same_update_have_nothing_in_common():
    sent = []
    for _ in range(2):
        group = constant_group()
        group.play()
        sent.append(unpack(group.heard["uploaded"][102], 100_000, 20))
    assert_uniform((sent[0] - sent[1]) & np.uint32((1 << 20) - 1), 20)


def test_a_late_vector_stays_masked_though_its_key_is_known():
    """A device that only seemed to have vanished: its own mask is still on its vector."""
    terms = make_terms(coordinates=100_000)
    vectors = {node: np.zeros(100_000, dtype=np.uint32) for node in range(100, 108)}
    group = MaskedGroup(terms, vectors, Gone(uploads=frozenset((100,))))
    group.share(group.advertise())
    late_one = group.devices[100]
    late_one.accept(group.server.delivery(100))
    own_mask = late_one._secrets.masks[0]
    late = unpack(late_one.mask(vectors[100]), 100_000, 20)
    group.confirm(group.upload())
    group.unmask()

    # What the server does for a vanished device, done to the vector that came too late.
    said = {node: parse(Unmasking, data) for node, data in group.heard["unmasked"].items()}
    threshold = group.server._threshold
    key_shares = {node - 99: said[node].shares[0] for node in sorted(said)[:threshold]}
    private = X25519PrivateKey.from_private_bytes(combine(key_shares))
    for number in range(1, 8):
        advert = parse(Advert, group.heard["advertised"][100 + number])
        session = said[101].session
        key = pair_mask_key(agree(private, advert.mask_key), session, 0, number)
        apply_masks(late, [Mask(key, pair_sign(number, 0))])
    reduce_to_field(late, 20)
    assert_uniform(late, 20)
    apply_masks(late, [Mask(own_mask.key, -1)])
    reduce_to_field(late, 20)
    assert not late.any()
