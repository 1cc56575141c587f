"""A hostile server against honest devices: what it tries, and the code with which each refuses.

The server here is free: it writes the bytes that devices get. What it can write with real keys it
takes from an honest round on its way.
"""

from datetime import timedelta

import msgspec
import pytest

from tacitly_client.node.masking import DevicePhase, DeviceRound, MaskingRefusedError
from tacitly_common.secagg.members import Identity, make_advert, session_of
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
from tacitly_common.secagg.packing import packed_bytes
from tacitly_common.secagg.sharing import SHARE_BYTES
from tacitly_common.wire.codes import ReplyCode
from tacitly_server.certificate_parts import new_authority
from tacitly_simulations.bench.masked_group import (
    NOW,
    Certifier,
    MaskedGroup,
    authority,
    device,
    make_terms,
    random_vectors,
)

SIZE = 8
VICTIM = 103


def group_of(nodes: int = SIZE, **changes) -> MaskedGroup:
    terms = make_terms(**changes)
    return MaskedGroup(terms, random_vectors(terms, nodes))


def refusal(action, *arguments) -> ReplyCode:
    with pytest.raises(MaskingRefusedError) as caught:
        action(*arguments)
    return caught.value.code


def roster_of(*members: Advert) -> bytes:
    return encode(Roster(members[0].context, members))


def roster_with(roster: bytes, **changed: Advert) -> bytes:
    """The roster with the adverts at some places replaced: `_2=advert`."""
    members = list(parse(Roster, roster).members)
    for place, advert in changed.items():
        members[int(place[1:])] = advert
    return roster_of(*members)


def uploaded(group: MaskedGroup) -> tuple[bytes, DeviceRound]:
    """A group whose vectors are all in, and its victim."""
    group.share(group.advertise())
    return group.upload(), group.devices[VICTIM]


def survivors_of(group: MaskedGroup, members) -> bytes:
    roster = parse(Survivors, encode(Survivors(session(group), to_bitmap(members, SIZE))))
    return encode(roster)


def session(group: MaskedGroup) -> bytes:
    data = next(iter(group.heard["shared"].values()))
    return parse(Shares, data).session


# Keys


def test_swapped_keys_of_another_device_are_refused():
    """A server in the middle: its own X25519 keys under an honest member's certificate."""
    group = group_of()
    roster = group.advertise()
    honest = parse(Roster, roster).members[5]
    for node, field in enumerate(("seal_key", "mask_key", "self_commitment"), start=100):
        swapped = msgspec.structs.replace(honest, **{field: b"\x09" * 32})
        code = refusal(group.devices[node].share, roster_with(roster, _5=swapped))
        assert code is ReplyCode.MASKING_BAD_SIGNATURE


def test_swapped_keys_of_its_own_are_refused():
    group = group_of()
    roster = group.advertise()
    own = parse(Roster, roster).members[3]
    swapped = msgspec.structs.replace(own, mask_key=b"\x09" * 32)
    code = refusal(group.devices[VICTIM].share, roster_with(roster, _3=swapped))
    assert code is ReplyCode.MASKING_NOT_IN_ROSTER


def test_a_member_whom_the_servers_own_authority_certified_is_refused():
    group = group_of()
    roster = group.advertise()
    other = Certifier(*new_authority("Tacitly enrolment authority", now=NOW)).device(105)
    forged = make_advert(other, group.devices[VICTIM].terms.context, *_three_keys())
    code = refusal(group.devices[VICTIM].share, roster_with(roster, _5=forged))
    assert code is ReplyCode.MASKING_NOT_CERTIFIED


def test_a_certificate_out_of_its_dates_is_refused():
    key = device(105).signing_key
    group = group_of()
    roster = group.advertise()
    for since, days in ((NOW - timedelta(days=30), 10), (NOW + timedelta(days=10), 30)):
        document = authority().certify(105, key, since=since, days=days)
        identity = Identity(document, key, authority().certificate)
        advert = make_advert(identity, group.devices[VICTIM].terms.context, *_three_keys())
        victim = group.devices.popitem()[1]
        code = refusal(victim.share, roster_with(roster, _5=advert))
        assert code is ReplyCode.MASKING_NOT_CERTIFIED


def test_keys_that_anybody_would_agree_on_are_refused():
    """A corrupt member signs a key of small order: the shared secret would be zero."""
    for place in range(2):
        group = group_of()
        roster = group.advertise()
        keys = list(_three_keys())
        keys[place] = bytes(32)
        weak = make_advert(device(105), group.devices[VICTIM].terms.context, *keys)
        victim, weakened = group.devices[VICTIM], roster_with(roster, _5=weak)
        if place == 0:
            assert refusal(victim.share, weakened) is ReplyCode.MASKING_MALFORMED
        else:
            parse(Shares, victim.share(weakened))
            found = session_of(parse(Roster, weakened))
            everybody = to_bitmap(range(SIZE), SIZE)
            delivery = encode(Delivery(found, everybody, (bytes(82),) * (SIZE - 1)))
            assert refusal(victim.accept, delivery) is ReplyCode.MASKING_MALFORMED


def _three_keys() -> tuple[bytes, bytes, bytes]:
    return b"\x09" * 32, b"\x0a" * 32, b"\x0b" * 32


# The roster


def test_a_member_who_is_there_twice_is_refused():
    """One device with two certificates, or a key in two roles, is one device still."""
    group = group_of()
    roster = group.advertise()
    context = group.devices[VICTIM].terms.context
    identity = device(104)
    document = authority().certify(105, identity.signing_key)
    again = Identity(document, identity.signing_key, authority().certificate)
    twice = make_advert(again, context, *_three_keys())
    same_key = make_advert(device(105), context, b"\x09" * 32, b"\x09" * 32, b"\x0b" * 32)
    for victim, advert in ((100, twice), (101, same_key)):
        code = refusal(group.devices[victim].share, roster_with(roster, _5=advert))
        assert code is ReplyCode.MASKING_DUPLICATE_MEMBER
    members = parse(Roster, roster).members
    code = refusal(group.devices[102].share, roster_of(*members, members[5]))
    assert code is ReplyCode.MASKING_DUPLICATE_MEMBER
    code = refusal(group.devices[103].share, roster_of(*reversed(members)))
    assert code is ReplyCode.MASKING_DUPLICATE_MEMBER


def test_a_roster_below_the_minimum_is_refused():
    group = group_of(minimum=6)
    members = parse(Roster, group.advertise()).members
    code = refusal(group.devices[100].share, roster_of(*members[:5]))
    assert code is ReplyCode.MASKING_GROUP_TOO_SMALL


def test_a_roster_without_this_device_is_refused():
    group = group_of()
    members = parse(Roster, group.advertise()).members
    code = refusal(group.devices[107].share, roster_of(*members[:7]))
    assert code is ReplyCode.MASKING_NOT_IN_ROSTER


def test_an_old_round_is_refused():
    """The roster of an earlier attempt, whole and signed, in answer to new keys."""
    old, new = group_of(attempt=1), group_of(attempt=2)
    replayed = old.advertise()
    new.advertise()
    code = refusal(new.devices[VICTIM].share, replayed)
    assert code is ReplyCode.MASKING_OTHER_SESSION


def test_an_old_roster_of_the_same_attempt_is_refused():
    """A device that was started anew has new keys, and the old roster is not its own."""
    old, new = group_of(), group_of()
    replayed = old.advertise()
    new.advertise()
    code = refusal(new.devices[VICTIM].share, replayed)
    assert code is ReplyCode.MASKING_NOT_IN_ROSTER


@pytest.mark.parametrize(
    "changes",
    [
        {"plan_hash": "cd" * 32},
        {"round": 4},
        {"group": 1},
        {"minimum": 3},
        {"failure_bits": 1},
        {"field_bits": 8},
        {"coordinates": 49},
    ],
)
def test_other_terms_than_the_devices_own_are_refused(changes):
    """The server chooses no threshold, minimum or field: they are the plan's, or nothing agrees."""
    theirs, ours = group_of(**changes), group_of()
    members = list(parse(Roster, theirs.advertise()).members)
    ours.advertise()
    own = parse(Advert, ours.heard["advertised"][VICTIM])
    members[3] = own
    code = refusal(ours.devices[VICTIM].share, roster_of(*members))
    assert code is ReplyCode.MASKING_OTHER_SESSION
    relabelled = [msgspec.structs.replace(each, context=own.context) for each in members]
    code = refusal(ours.devices[104].share, roster_of(*relabelled))
    assert code is ReplyCode.MASKING_NOT_IN_ROSTER
    relabelled[2] = parse(Advert, ours.heard["advertised"][102])
    code = refusal(ours.devices[102].share, roster_of(*relabelled))
    assert code is ReplyCode.MASKING_BAD_SIGNATURE


# One honest device among sybils


def test_an_honest_device_among_uncertified_sybils_refuses():
    group = group_of()
    own = parse(Advert, _advertised(group, VICTIM))
    forger = Certifier(*new_authority("Tacitly enrolment authority", now=NOW))
    sybils = [
        make_advert(forger.device(node), own.context, *(bytes([node, i]) * 16 for i in range(3)))
        for node in range(104, 111)
    ]
    code = refusal(group.devices[VICTIM].share, roster_of(own, *sybils))
    assert code is ReplyCode.MASKING_NOT_CERTIFIED


def test_an_honest_device_is_not_left_alone_with_a_few_sybils():
    """Certified sybils as the only sharers, or the only survivors: too few of its neighbours."""
    group = group_of()
    sybils = {0, 1}
    group.share(group.advertise())
    victim = group.devices[VICTIM]
    sealed = parse(Delivery, group.server.delivery(VICTIM)).sealed
    alone = encode(Delivery(session(group), to_bitmap({3} | sybils, SIZE), sealed[:2]))
    assert refusal(victim.accept, alone) is ReplyCode.MASKING_TOO_FEW_NEIGHBOURS

    group = group_of()
    _, victim = uploaded(group)
    code = refusal(victim.confirm, survivors_of(group, {3} | sybils))
    assert code is ReplyCode.MASKING_TOO_FEW_NEIGHBOURS


def test_neighbours_are_derived_and_not_told():
    """No message of the server has a place for them: only of bitmaps over the whole roster."""
    fields = {name for kind in (Roster, Delivery, Survivors) for name in kind.__struct_fields__}
    assert fields == {"context", "members", "session", "sharers", "sealed", "survivors"}


# Survivors


def test_shrinking_the_sum_below_the_minimum_is_refused():
    group = group_of(minimum=7)
    _, victim = uploaded(group)
    code = refusal(victim.confirm, survivors_of(group, range(6)))
    assert code is ReplyCode.MASKING_GROUP_TOO_SMALL


def test_survivors_who_never_shared_or_without_this_device_are_refused():
    group = MaskedGroup(make_terms(), random_vectors(make_terms(), SIZE))
    roster = group.advertise()
    for node in range(100, 107):
        assert group.server.shared(node, _said(group, "shared", node, roster)) is None
    group.server.close_shares()
    group.upload()
    # 107 never shared.
    code = refusal(group.devices[100].confirm, survivors_of(group, range(8)))
    assert code is ReplyCode.MASKING_WRONG_SURVIVORS
    code = refusal(group.devices[101].confirm, survivors_of(group, {0, 2, 3, 4, 5, 6}))
    assert code is ReplyCode.MASKING_WRONG_SURVIVORS


def test_a_server_that_lies_about_survivors_gets_no_share():
    """Equivocation: half are told that the victim survived, half that it vanished."""
    group = group_of()
    _, _ = uploaded(group)
    with_victim, without = survivors_of(group, range(8)), survivors_of(group, {0, 1, 2, 4, 5, 6, 7})
    told = {node: without if node in (100, 101, 102) else with_victim for node in group.devices}
    signed = {
        node: parse(Confirmation, each.confirm(told[node])).signature
        for node, each in group.devices.items()
    }
    for node, each in group.devices.items():
        everybody = [(other - 100, signed[other]) for other in signed if other != node]
        believed = [pair for pair in everybody if told[pair[0] + 100] == told[node]]
        allowed = [pair for pair in everybody if told[node] == with_victim or pair[0] != 3]
        offered = believed if node % 2 else allowed
        message = encode(Confirmations(session(group), tuple(offered)))
        if told[node] == with_victim and node % 2:
            # Five of eight were told the same: more than the threshold, and it is the only set.
            each.unmask(message)
        else:
            assert refusal(each.unmask, message) is ReplyCode.MASKING_UNCONFIRMED


def test_confirmations_of_too_few_of_the_same_neighbour_twice_or_of_none_are_refused():
    group = group_of()
    survivors, _ = uploaded(group)
    group.confirm(survivors)
    whole = parse(Confirmations, group.server.confirmations(100)).signatures
    for node, pairs, code in (
        (100, whole[:3], ReplyCode.MASKING_UNCONFIRMED),
        (101, (), ReplyCode.MASKING_UNCONFIRMED),
        (102, (whole[5],) * 7, ReplyCode.MASKING_MALFORMED),
    ):
        message = encode(Confirmations(session(group), tuple(pairs)))
        assert refusal(group.devices[node].unmask, message) is code


def test_a_signature_of_another_round_confirms_nothing():
    old, group = group_of(), group_of()
    for each in (old, group):
        survivors, _ = uploaded(each)
        each.confirm(survivors)
    pairs = parse(Confirmations, old.server.confirmations(VICTIM)).signatures
    message = encode(Confirmations(session(group), pairs))
    assert refusal(group.devices[VICTIM].unmask, message) is ReplyCode.MASKING_UNCONFIRMED
    code = refusal(group.devices[104].unmask, old.server.confirmations(104))
    assert code is ReplyCode.MASKING_OTHER_SESSION


# Shares


def test_both_shares_of_one_device_are_never_given():
    """Flower's SecAgg+ gives both to who asks twice: here there is one answer, and one set."""
    group = group_of()
    survivors, victim = uploaded(group)
    group.confirm(survivors)
    other = group.devices[100]
    unmasking = parse(Unmasking, other.unmask(group.server.confirmations(100)))
    assert [len(share) for share in unmasking.shares] == [SHARE_BYTES] * (SIZE - 1)
    # Once more, as if the victim had vanished: by another set, or with the same confirmations.
    assert refusal(other.confirm, survivors_of(group, {0, 1, 2, 4, 5, 6, 7})) is (
        ReplyCode.MASKING_OUT_OF_PHASE
    )
    assert refusal(other.unmask, group.server.confirmations(100)) is ReplyCode.MASKING_OUT_OF_PHASE
    # A second set before the shares are given is one too many as well.
    assert refusal(victim.confirm, survivors) is ReplyCode.MASKING_OUT_OF_PHASE


def test_a_share_is_of_the_survivors_own_mask_or_of_the_vanished_ones_key():
    terms = make_terms()
    group = MaskedGroup(terms, random_vectors(terms, SIZE))
    group.share(group.advertise())
    for node in group.server.sharers:
        group.devices[node].accept(group.server.delivery(node))
        data = group.devices[node].mask(group.vectors[node])
        if node != VICTIM:
            assert group.server.uploaded(node, data) is None
    # What 100 holds of the victim, before it says anything.
    held = group.devices[100]._secrets.held[3]
    kept = group.devices[100]._secrets.held[4]
    group.confirm(group.server.close_uploads())
    shares = parse(Unmasking, group.devices[100].unmask(group.server.confirmations(100))).shares
    assert (shares[2], shares[3]) == (held[1], kept[0])
    assert held[0] not in shares
    assert kept[1] not in shares


# Phases, malformed messages, state


STEPS = ("share", "accept", "confirm", "unmask")


@pytest.mark.parametrize("phase", [phase for phase in DevicePhase if phase is not DevicePhase.OVER])
def test_every_step_out_of_turn_is_refused_and_ends_the_round(phase):
    for step in ("advertise", *STEPS, "mask"):
        if step.upper() == phase.name:
            continue
        each = _at(phase)
        arguments = () if step == "advertise" else (b"",)
        assert refusal(getattr(each, step), *arguments) is ReplyCode.MASKING_OUT_OF_PHASE
        assert each.phase is DevicePhase.OVER
        assert each._secrets is None


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("data", [b"", b"\x90", bytes(100)])
def test_malformed_messages_are_refused_and_end_the_round(step, data):
    each = _at(DevicePhase[step.upper()])
    assert refusal(getattr(each, step), data) is ReplyCode.MASKING_MALFORMED
    assert each._secrets is None


def test_messages_of_another_group_are_refused():
    other, group = group_of(group=1), group_of()
    other.share(other.advertise())
    group.share(group.advertise())
    delivery, survivors = other.server.delivery(100), other.upload()
    code = refusal(group.devices[100].accept, delivery)
    assert code is ReplyCode.MASKING_OTHER_SESSION
    group = group_of()
    uploaded(group)
    assert refusal(group.devices[100].confirm, survivors) is ReplyCode.MASKING_OTHER_SESSION


def test_sets_that_do_not_fit_the_roster_are_refused():
    group = group_of()
    group.share(group.advertise())
    sealed = parse(Delivery, group.server.delivery(100)).sealed
    for node, sharers, count in ((100, b"\xff\x01", 7), (101, b"\xff", 6), (102, b"\xfb", 7)):
        message = encode(Delivery(session(group), sharers, sealed[:count]))
        assert refusal(group.devices[node].accept, message) is ReplyCode.MASKING_MALFORMED


def test_nothing_secret_is_left_when_a_round_is_over():
    group = group_of()
    group.play()
    for each in group.devices.values():
        assert each.phase is DevicePhase.OVER
        assert each._secrets is None
        assert each._group is None
    with _at(DevicePhase.MASK) as left:
        pass
    assert left._secrets is None


def test_a_device_that_refuses_shows_nothing_in_its_words():
    each = _at(DevicePhase.CONFIRM)
    with pytest.raises(MaskingRefusedError) as caught:
        each.confirm(b"")
    assert str(caught.value) == "masked round refused: MASKING_MALFORMED"
    assert "key" not in repr(group_of().devices[100])


def test_a_rotten_share_costs_its_sender_and_nobody_else():
    group = group_of()
    group.share(group.advertise())
    message = parse(Delivery, group.server.delivery(100))
    rotten = encode(Delivery(message.session, message.sharers, (bytes(82), *message.sealed[1:])))
    group.devices[100].accept(rotten)
    assert set(group.devices[100]._secrets.held) == set(range(2, 8))


def test_what_leaves_has_the_same_length_whatever_is_in_it():
    """No example count, no metric rides along, nor can: Flower's SecAgg+ sends both in clear."""
    lengths = set()
    for value in (0, 2**20 - 1):
        terms = make_terms()
        vectors = random_vectors(terms, SIZE)
        vectors[VICTIM][:] = value
        group = MaskedGroup(terms, vectors)
        group.play()
        assert len(group.heard["uploaded"][VICTIM]) == packed_bytes(50, 20)
        lengths.add(
            tuple(len(group.heard[kind][VICTIM]) for kind in group.heard if kind != "advertised")
        )
    assert len(lengths) == 1


@pytest.mark.parametrize("bad", ["shape", "type", "field"])
def test_a_vector_that_is_not_of_the_plans_field_is_not_masked(bad):
    each, vector = _at(DevicePhase.MASK), random_vectors(make_terms(), 1)[100]
    wrong = {"shape": vector[1:], "type": vector.astype("i4"), "field": vector + (1 << 20)}[bad]
    with pytest.raises(ValueError, match="field"):
        each.mask(wrong)
    assert each._secrets is None


def _advertised(group: MaskedGroup, node: int) -> bytes:
    group.advertise()
    return group.heard["advertised"][node]


def _said(group: MaskedGroup, kind: str, node: int, roster: bytes) -> bytes:
    data = group.devices[node].share(roster)
    group.heard.setdefault(kind, {})[node] = data
    return data


def _at(phase: DevicePhase) -> DeviceRound:
    """A device of an honest group for which that step is next."""
    group = group_of(4)
    each = group.devices[100]
    if phase is DevicePhase.ADVERTISE:
        return each
    roster = group.advertise()
    if phase is DevicePhase.SHARE:
        return each
    group.share(roster)
    if phase is DevicePhase.ACCEPT:
        return each
    if phase is DevicePhase.MASK:
        each.accept(group.server.delivery(100))
        return each
    survivors = group.upload()
    if phase is DevicePhase.UNMASK:
        group.confirm(survivors)
    return each
