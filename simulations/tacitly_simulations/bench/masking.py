"""What masking costs, beside Flower's SecAgg+: `python -m tacitly_simulations.bench.masking`.

A cohort runs in groups of up to a hundred, all neighbours of each other, so one group is played
and the server's time is that of all groups. Ours is played whole: every device, a tenth of which
vanishes after it has shared. Of Flower's SecAgg+ (`secaggplus_mod`, `SecAggPlusWorkflow`) its own
functions do the same work, with as many neighbours: one device's whole, and the server's parts
once each, counted as often as its workflow does them. Processor seconds.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import ceil
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec
import numpy as np
from flwr.app import ConfigRecord
from flwr.common import bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import encrypt, generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    parameters_addition,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import (
    pseudo_rand_gen,
    share_keys_plaintext_concat,
)
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key
from rich.console import Console
from rich.table import Table

from tacitly_client.node.masking import DeviceRound
from tacitly_common.secagg.members import read_certificate
from tacitly_common.secagg.terms import GroupTerms
from tacitly_server.aggregation.masking import GroupRound
from tacitly_simulations.bench.masked_group import NOW, authority, device, make_terms

COHORTS: Final = (16, 64, 256, 1_024)
PARAMETERS: Final = (100_000, 1_000_000)
GROUP: Final = 100
_FIELD_BITS: Final = 20
_GONE: Final = 10  # one in so many
_MODULUS: Final = 2**32
_T = TypeVar("_T")

# Its package hides this module behind a function of the same name.
_FLOWER: Final[Any] = import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
_setup, _share_keys, _collect_masked_vectors, _unmask = (
    getattr(_FLOWER, name)
    for name in ("_setup", "_share_keys", "_collect_masked_vectors", "_unmask")
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor seconds and bytes of one round with so many devices and parameters.

    Ours, and Flower's as `flower_...`. `device` and `masking` (the part of it that touches the
    vector) are for one device, `server` for all groups together.
    """

    cohort: int
    group: int
    parameters: int
    device_seconds: float
    masking_seconds: float
    server_seconds: float
    device_up_bytes: int
    device_down_bytes: int
    flower_device_seconds: float
    flower_masking_seconds: float
    flower_server_seconds: float
    flower_device_up_bytes: int


class _Clock:
    """Sums processor seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, name: str, action: Callable[..., _T], *arguments: object) -> _T:
        began = time.process_time()
        result = action(*arguments)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - began
        return result


def measure(cohort: int, parameters: int) -> Cost:
    """One row."""
    groups = ceil(cohort / GROUP)
    size = ceil(cohort / groups)
    terms = make_terms(coordinates=parameters, field_bits=_FIELD_BITS, minimum=max(2, size // 2))
    ours, up, down = _play_ours(terms, size)
    theirs, their_up = _play_flower(size, parameters)
    return Cost(
        cohort=cohort,
        group=size,
        parameters=parameters,
        device_seconds=ours["device"],
        masking_seconds=ours["masking"],
        server_seconds=groups * ours["server"],
        device_up_bytes=up,
        device_down_bytes=down,
        flower_device_seconds=theirs["device"],
        flower_masking_seconds=theirs["masking"],
        flower_server_seconds=groups * theirs["server"],
        flower_device_up_bytes=their_up,
    )


def _play_ours(terms: GroupTerms, size: int) -> tuple[dict[str, float], int, int]:
    """Seconds of the last device, which meets every certificate for the first time, and bytes."""
    rng = np.random.default_rng(0)
    vector = rng.integers(0, 1 << terms.field_bits, terms.coordinates).astype(np.uint32)
    clock, nodes = _Clock(), range(100, 100 + size)
    vanished = range(100, 100 + size // _GONE)
    last = nodes[-1]
    identities = {node: device(node) for node in nodes}
    server = GroupRound(terms, authority().certificate, now=NOW)
    devices = {node: DeviceRound(terms, identities[node], now=NOW) for node in nodes}
    up = down = 0

    def step(node: int, name: str, action: Callable[..., bytes], *arguments: object) -> bytes:
        nonlocal up, down
        if node != last:
            return action(*arguments)
        result = clock.time(name, action, *arguments)
        up += len(result or b"")
        down += sum(len(each) for each in arguments if isinstance(each, bytes))
        return result

    read_certificate.cache_clear()
    for node in nodes:
        advert = step(node, "device", devices[node].advertise)
        clock.time("server", server.advertised, node, advert)
    roster = clock.time("server", server.close_adverts)
    for node in nodes:
        if node == last:
            read_certificate.cache_clear()
        clock.time("server", server.shared, node, step(node, "device", devices[node].share, roster))
    clock.time("server", server.close_shares)
    for node in nodes:
        delivery = clock.time("server", server.delivery, node)
        if node not in vanished:
            step(node, "device", devices[node].accept, delivery)  # type: ignore[arg-type]
            masked = step(node, "masking", devices[node].mask, vector)
            clock.time("server", server.uploaded, node, masked)
    survivors = clock.time("server", server.close_uploads)
    for node in server.survivors:
        confirmation = step(node, "device", devices[node].confirm, survivors)
        clock.time("server", server.confirmed, node, confirmation)
    clock.time("server", server.close_confirmations)
    for node in server.confirmers:
        confirmations = clock.time("server", server.confirmations, node)
        unmasking = step(node, "device", devices[node].unmask, confirmations)
        clock.time("server", server.unmasked, node, unmasking)
    total = clock.time("server", server.finish).total
    expected = vector * np.uint32(len(server.survivors)) & np.uint32((1 << terms.field_bits) - 1)
    if not np.array_equal(total, expected):
        raise RuntimeError("the masked sum is not the plain one")
    clock.seconds["device"] += clock.seconds["masking"]
    return clock.seconds, up, down


def _play_flower(size: int, parameters: int) -> tuple[dict[str, float], int]:
    """Seconds and bytes up of one device of Flower's, and of its server, for one group."""
    clock = _Clock()
    settings = ConfigRecord(
        {
            Key.SAMPLE_NUMBER: size,
            Key.SHARE_NUMBER: size,
            Key.THRESHOLD: size // 2 + 1,
            Key.CLIPPING_RANGE: 8.0,
            Key.TARGET_RANGE: 2**22,
            Key.MOD_RANGE: _MODULUS,
            Key.MAX_WEIGHT: 1_000.0,
        }
    )
    states = [_FLOWER.SecAggPlusState(nid=node) for node in range(size)]
    own, keys = states[0], ConfigRecord()
    for state in states:
        name = "device" if state is own else "others"
        answer = clock.time(name, _setup, state, settings)
        keys[str(state.nid)] = [answer[Key.PUBLIC_KEY_1], answer[Key.PUBLIC_KEY_2]]
    shared = clock.time("device", _share_keys, own, keys)
    # What the others would have sealed for it; only their shares' content is not theirs.
    share = own.rd_seed_share_dict[own.nid]
    sealed = [_seal_for(own, state, share) for state in states[1:]]
    delivered = ConfigRecord({Key.CIPHERTEXT_LIST: sealed, Key.SOURCE_LIST: list(range(1, size))})
    update = ndarrays_to_parameters([np.zeros(parameters, dtype=np.float32)])
    masked = clock.time("masking", _collect_masked_vectors, own, delivered, 10, update)
    alive = list(range(size // _GONE, size))
    told = ConfigRecord(
        {
            Key.ACTIVE_NODE_ID_LIST: [0, *alive[1:]],
            Key.DEAD_NODE_ID_LIST: list(range(1, size // _GONE + 1)),
        }
    )
    clock.time("device", _unmask, own, told)
    clock.seconds["device"] += clock.seconds["masking"]
    clock.seconds["server"] = _flower_server_seconds(own, masked, size)
    sent = [*masked[Key.MASKED_PARAMETERS], *shared[Key.CIPHERTEXT_LIST]]
    up = sum(len(each) for each in sent if isinstance(each, bytes))
    return clock.seconds, up


def _seal_for(own: Any, other: Any, share: bytes) -> bytes:
    key = generate_shared_key(bytes_to_private_key(other.sk2), bytes_to_public_key(own.pk2))
    return encrypt(key, share_keys_plaintext_concat(other.nid, own.nid, share, share))


def _flower_server_seconds(own: Any, masked: Mapping[str, Any], size: int) -> float:
    """Each part once, times how often `SecAggPlusWorkflow` does it."""
    clock, vanished = _Clock(), size // _GONE
    documents = masked[Key.MASKED_PARAMETERS]
    arrays = [bytes_to_ndarray(each) for each in documents]
    shapes = [each.shape for each in arrays]
    clock.time("add", parameters_addition, arrays, arrays)
    shares = create_shares(own.rd_seed, size // 2 + 1, size)
    clock.time("combine", combine_shares, shares[: size - vanished])
    mask = clock.time("mask", pseudo_rand_gen, own.rd_seed, _MODULUS, shapes)
    clock.time("mask", parameters_subtraction, arrays, mask)
    masks = size - vanished + vanished * (size - 1)
    seconds = clock.seconds
    return seconds["add"] * (size - vanished) + seconds["combine"] * size + seconds["mask"] * masks


def show_masking(console: Console, costs: Sequence[Cost]) -> None:
    """Print the table; Flower's in brackets."""
    table = Table(title="A masked round: processor seconds (Flower's SecAgg+ in the same run)")
    for heading in ("devices", "groups of", "parameters", "a device", "masking", "server", "kB up"):
        table.add_column(heading, justify="right")
    for cost in costs:
        table.add_row(
            str(cost.cohort),
            str(cost.group),
            str(cost.parameters),
            f"{cost.device_seconds:.2f} ({cost.flower_device_seconds:.2f})",
            f"{cost.masking_seconds:.3f} ({cost.flower_masking_seconds:.2f})",
            f"{cost.server_seconds:.1f} ({cost.flower_server_seconds:.1f})",
            f"{cost.device_up_bytes / 1e3:.0f} ({cost.flower_device_up_bytes / 1e3:.0f})",
        )
    console.print(table)


def measure_masking(report: Callable[[str], None] = lambda _line: None) -> list[Cost]:
    """Every cohort with every number of parameters."""
    costs = []
    for parameters in PARAMETERS:
        for cohort in COHORTS:
            costs.append(measure(cohort, parameters))
            report(f"masking: {cohort} devices, {parameters} parameters")
    return costs


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
def main(out: Path | None) -> None:
    """Measure masking beside Flower's SecAgg+."""
    console = Console(highlight=False, width=110)
    costs = measure_masking(console.print)
    show_masking(console, costs)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(msgspec.json.format(msgspec.json.encode(costs)))


if __name__ == "__main__":
    main()
