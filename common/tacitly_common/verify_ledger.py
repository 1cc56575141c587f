"""Check an export of Tacitly's population ledger. One file: copy it, install nothing of Tacitly.

    python verify_ledger.py export.jsonl --public-key HEX [--checkpoint FILE]

Needs Python 3.11 and, for the signatures, the package `cryptography`. Prints each problem with
its place and exits with 5, or prints what was checked and exits with 0. `--checkpoint` is a
checkpoint that somebody kept (JSON): the export must still hold it.

What it proves: nothing was changed, taken out or put in before the last signed checkpoint; no
subject went beyond the caps that were in force; nothing was released that was not charged.

The server writes its journal with the functions of this file, so there is one definition of every
digest. These never change meaning; a reader refuses types and versions it does not know.

    canonical JSON      sorted keys, no white space, ASCII
    entry hash          SHA-256 of the canonical JSON of an entry's fields, among them the
                        previous entry's hash
    charges' digest     SHA-256 of the sorted lines ["subject","epoch",cost] of a charge
    checkpoint          Ed25519 over a domain line and the canonical JSON of hash, sequence, time

An export is JSON Lines, each line canonical: header; every entry, each followed by its charges and
its checkpoint; the state of each attempt; the total of each scope; the counts of all these.
"""

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

FORMAT: Final = "tacitly ledger export 1"
GENESIS: Final = "0" * 64
# The epoch of a charge that an older Tacitly made, which kept none: it counts in every month.
EVERY_EPOCH: Final = "every"

_DOMAIN: Final = b"tacitly ledger checkpoint 1\n"
_HEX_64: Final = re.compile(r"[0-9a-f]{64}")
_HEX_128: Final = re.compile(r"[0-9a-f]{128}")
_NAMED: Final = 20

_ATTEMPT: Final = {"plan_hash": str, "round": int, "attempt": int}
_OPTIONAL: Final = {  # what an entry that is not about an attempt, or no charge, leaves null
    **_ATTEMPT,
    "cost_nano_rho": int,
    "lifetime_cap_nano_rho": int,
    "epoch_cap_nano_rho": int,
    "campaign_cap_nano_rho": int,
    "epochs": str,
    "subjects": int,
    "digest": str,
}
_ALWAYS: Final = {"sequence": int, "time": str, "kind": str, "previous": str}
ENTRY_FIELDS: Final = (*_ALWAYS, *_OPTIONAL)
COUNTED: Final = ("entry", "charge", "checkpoint", "attempt", "total")
_SHAPES: Final[Mapping[str, Mapping[str, type]]] = {
    "header": {"format": str},
    "entry": {**_ALWAYS, **_OPTIONAL, "hash": str},
    "charge": {"entry": int, "subject": str, "epoch": str, "cost_nano_rho": int},
    "checkpoint": {
        "sequence": int,
        "hash": str,
        "time": str,
        "public_key": str,
        "signature": str,
    },
    "attempt": {**_ATTEMPT, "state": str, "cost_nano_rho": int},
    "total": {"kind": str, "name": str, "subject": str, "spent_nano_rho": int},
    "end": dict.fromkeys(COUNTED, int),
}
# Where a record stands in an export.
_PARTS: Final = {
    "header": 0,
    "entry": 1,
    "charge": 1,
    "checkpoint": 1,
    "attempt": 2,
    "total": 3,
    "end": 4,
}
# kind of an entry -> the state an attempt must be in, the state it is in afterwards.
_STEPS: Final = {
    "planned": (None, "planned"),
    "charged": ("planned", "charged"),
    "released": ("charged", "released"),
    "lost": ("charged", "lost"),
    "void": ("planned", "void"),
}
_WITHOUT_ATTEMPT: Final = ("restored", "reconciled")

Record = Mapping[str, Any]


def canonical(value: object) -> bytes:
    """The one way to write a value: sorted keys, no white space, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def entry_hash(entry: Record) -> str:
    """SHA-256, hex, of an entry's `ENTRY_FIELDS`."""
    return hashlib.sha256(canonical({name: entry[name] for name in ENTRY_FIELDS})).hexdigest()


def charges_digest(rows: Iterable[tuple[str, str, int]]) -> str:
    """SHA-256, hex, of the charges (subject, epoch, nano-ρ) of an attempt, in any order."""
    digest = hashlib.sha256()
    for line in sorted(canonical(row) for row in rows):
        digest.update(line + b"\n")
    return digest.hexdigest()


def checkpoint_message(sequence: int, head: str, time: str) -> bytes:
    """The bytes that a checkpoint's signature covers."""
    return _DOMAIN + canonical({"sequence": sequence, "hash": head, "time": time})


def checkpoint_problem(checkpoint: Record, public_keys: Collection[str]) -> str | None:
    """What is wrong with a checkpoint's signature, or None. Keys are 64 hex digits each."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key, signature = checkpoint["public_key"], checkpoint["signature"]
    if key not in public_keys:
        return f"signed by the key {key!r:.80}, which is not among the {len(public_keys)} given"
    if not _HEX_64.fullmatch(key) or not _HEX_128.fullmatch(signature):
        return "its key or signature is no lower-case hex of 32 and 64 bytes"
    message = checkpoint_message(checkpoint["sequence"], checkpoint["hash"], checkpoint["time"])
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(
            bytes.fromhex(signature), message
        )
    except (InvalidSignature, ValueError):
        return "its signature does not match"
    return None


def shape_problem(record: Any) -> str | None:
    """Why something is no record of an export, or None."""
    if not isinstance(record, dict) or record.get("type") not in _SHAPES:
        return "no record of a known type"
    shape = _SHAPES[record["type"]]
    if set(record) != {"type", *shape}:
        return f"a {record['type']} has the fields {sorted(shape)}, this one {sorted(record)}"
    for name, kind in shape.items():
        value = record[name]
        empty = value is None and record["type"] == "entry" and name in _OPTIONAL
        if type(value) is not kind and not empty:
            return f"{name} of a {record['type']} must be {kind.__name__}, got {value!r:.80}"
    return None


class Replay:
    """The ledger lived through again, record by record; `problems` name what does not fit.

    `public_keys` are those the auditor trusts: with none, every checkpoint is a problem.
    `witnessed` are checkpoints from elsewhere that the journal must hold.
    """

    def __init__(self, public_keys: Collection[str], witnessed: Iterable[Record] = ()) -> None:
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        self.signed_to = 0
        self._keys = public_keys
        self._kept: dict[int, list[Record]] = {}
        for checkpoint in witnessed:
            self._kept.setdefault(checkpoint["sequence"], []).append(checkpoint)
        self._head = GENESIS
        self._entry: Record = {"sequence": 0, "hash": GENESIS, "kind": None}
        self._charges: list[tuple[str, str, int]] = []
        self._states: dict[tuple[str, int, int], tuple[str, int]] = {}
        self._totals: Counter[tuple[str, str, str]] = Counter()
        self._part = -1

    def take(self, record: Any) -> None:
        """The next record, in the order of an export."""
        if problem := shape_problem(record):
            self.problems.append(problem)
            return
        kind = record["type"]
        part = _PARTS[kind]
        if part < self._part or (part == 0) != (self._part < 0) or self._part == _PARTS["end"]:
            self.problems.append(f"a {kind} in the wrong place")
        self._part = max(part, self._part)
        if kind not in ("charge", "header"):
            self._close_charges()
        self.counts[kind] += 1
        getattr(self, f"_take_{kind}")(record)

    def finish(self) -> None:
        """After the last record: what is missing."""
        if self._part < _PARTS["end"]:
            self.problems.append("the end is missing: it was cut off")
        for key, (state, _) in sorted(self._states.items()):
            self.problems.append(f"{_name(key)}: the journal says {state}, its record is missing")
        for (kind, name, subject), spent in sorted(self._totals.items()):
            self.problems.append(
                f"total of {_scope(kind, name, subject)}: {spent} nano-ρ charged, its record is "
                "missing"
            )
        self.problems += [
            f"checkpoint at entry {sequence}: the journal ends before it; this is an older copy"
            for sequence in sorted(self._kept)
        ]

    def _take_header(self, record: Record) -> None:
        if record["format"] != FORMAT:
            self.problems.append(f"header: format {record['format']!r:.80} is not {FORMAT!r}")

    def _take_entry(self, entry: Record) -> None:
        place = f"entry {entry['sequence']}"
        if entry["sequence"] != self._entry["sequence"] + 1:
            self.problems.append(f"{place}: follows entry {self._entry['sequence']}")
        if entry["previous"] != self._entry["hash"]:
            self.problems.append(f"{place}: the previous entry's hash is another")
        if entry_hash(entry) != entry["hash"]:
            self.problems.append(f"{place}: its content and its hash do not match")
        self._entry = entry
        for kept in self._kept.pop(entry["sequence"], []):
            if kept["hash"] != entry["hash"]:
                self.problems.append(f"{place}: is not the one of the checkpoint that was kept")
            elif problem := checkpoint_problem(kept, self._keys):
                self.problems.append(f"{place}: the checkpoint that was kept: {problem}")
        if entry["kind"] in _STEPS:
            self._step(place, entry)
        elif entry["kind"] not in _WITHOUT_ATTEMPT:
            self.problems.append(f"{place}: the kind {entry['kind']!r:.80} is unknown")

    def _step(self, place: str, entry: Record) -> None:
        key = _attempt(entry)
        before, after = _STEPS[entry["kind"]]
        was, cost = self._states.get(key, (None, 0))
        if was != before:
            self.problems.append(f"{place}: {_name(key)} is {was} and cannot become {after}")
        if entry["kind"] == "charged":
            cost = entry["cost_nano_rho"] or 0
        self._states[key] = (after, cost)

    def _take_charge(self, charge: Record) -> None:
        place = _charge_place(charge)
        if self._entry["kind"] != "charged" or charge["entry"] != self._entry["sequence"]:
            self.problems.append(f"{place}: it belongs to no entry that charges here")
            return
        if charge["cost_nano_rho"] != self._entry["cost_nano_rho"]:
            self.problems.append(
                f"{place}: costs {charge['cost_nano_rho']} nano-ρ, the entry says "
                f"{self._entry['cost_nano_rho']}"
            )
        if charge["epoch"] not in (self._entry["epochs"] or "").split(","):
            self.problems.append(f"{place}: the entry's epochs are {self._entry['epochs']}")
        self._charges.append((charge["subject"], charge["epoch"], charge["cost_nano_rho"]))

    def _close_charges(self) -> None:
        """All charges of an entry are there: are they those it speaks of, and within the caps?"""
        entry, rows, self._charges = self._entry, self._charges, []
        if entry["kind"] != "charged":
            return
        self._entry = {**entry, "kind": None}  # closed; its place in the chain is still needed
        place = f"charges of entry {entry['sequence']}"
        subjects = sorted({subject for subject, _, _ in rows})
        if charges_digest(rows) != entry["digest"] or len(subjects) != entry["subjects"]:
            self.problems.append(f"{place}: they are not those that it speaks of")
        cost, plan_hash = entry["cost_nano_rho"] or 0, entry["plan_hash"] or ""
        spent = [("lifetime", "", subject, cost) for subject in subjects]
        spent += [("campaign", plan_hash, subject, cost) for subject in subjects]
        spent += [("epoch", epoch, subject, cost) for subject, epoch, cost in rows]
        for kind, name, subject, amount in spent:
            scope = (kind, name, subject)
            if kind == "epoch" and scope not in self._totals:
                self._totals[scope] = self._totals[kind, EVERY_EPOCH, subject]
            self._totals[scope] += amount
            cap = entry[f"{kind}_cap_nano_rho"]
            # Older charges, which know no month, were made under caps that nobody kept.
            if entry["epochs"] != EVERY_EPOCH and (cap is None or self._totals[scope] > cap):
                self.problems.append(
                    f"{place}: {_scope(*scope)} has spent {self._totals[scope]} of {cap} nano-ρ"
                )

    def _take_checkpoint(self, checkpoint: Record) -> None:
        place = f"checkpoint at entry {checkpoint['sequence']}"
        if (checkpoint["sequence"], checkpoint["hash"]) != (
            self._entry["sequence"],
            self._entry["hash"],
        ):
            self.problems.append(f"{place}: is not of entry {self._entry['sequence']}")
        if problem := checkpoint_problem(checkpoint, self._keys):
            self.problems.append(f"{place}: {problem}")
        self.signed_to = checkpoint["sequence"]

    def _take_attempt(self, record: Record) -> None:
        key = _attempt(record)
        journaled = self._states.pop(key, None)
        if journaled != (record["state"], record["cost_nano_rho"]):
            self.problems.append(
                f"{_name(key)}: its record says {(record['state'], record['cost_nano_rho'])}, the "
                f"journal {journaled}"
            )

    def _take_total(self, record: Record) -> None:
        scope = (record["kind"], record["name"], record["subject"])
        charged = self._totals.pop(scope, None)
        if record["spent_nano_rho"] != charged:
            self.problems.append(
                f"total of {_scope(*scope)}: {record['spent_nano_rho']} nano-ρ, its charges make "
                f"{charged}"
            )

    def _take_end(self, record: Record) -> None:
        for kind in COUNTED:
            if record[kind] != self.counts[kind]:
                self.problems.append(
                    f"end: {record[kind]} records of type {kind}, there are {self.counts[kind]}"
                )


def verify_lines(
    lines: Iterable[bytes], public_keys: Collection[str], witnessed: Iterable[Record] = ()
) -> Replay:
    """Replay an export. Each problem starts with the line's number."""
    replay = Replay(public_keys, witnessed)
    for number, line in enumerate(lines, start=1):
        known = len(replay.problems)
        try:
            record = json.loads(line)
        except ValueError:
            replay.problems.append("is not JSON")
        else:
            # Other bytes for the same value are a change too.
            if canonical(record) + b"\n" != line:
                replay.problems.append("is not written canonically")
            replay.take(record)
        replay.problems[known:] = [f"line {number}: {p}" for p in replay.problems[known:]]
    replay.finish()
    return replay


def _attempt(record: Record) -> tuple[str, int, int]:
    return (record["plan_hash"] or "", record["round"] or 0, record["attempt"] or 0)


def _name(key: tuple[str, int, int]) -> str:
    return f"plan {key[0][:12]} round {key[1]} attempt {key[2]}"


def _scope(kind: str, name: str, subject: str) -> str:
    return f"{kind}{name and ' '}{name[:12]} of subject {subject}"


def _charge_place(charge: Record) -> str:
    return f"charge at entry {charge['entry']} of subject {charge['subject']}, {charge['epoch']}"


def main(arguments: list[str] | None = None) -> int:
    """The command. Exit codes: 0 in order, 2 usage, 5 a problem."""
    parser = argparse.ArgumentParser(description="Check an export of Tacitly's population ledger.")
    parser.add_argument("export", type=Path, help="what `tacitly-officer ledger export` wrote")
    parser.add_argument("--public-key", action="append", required=True, help="64 hex digits")
    parser.add_argument("--checkpoint", type=Path, help="a signed checkpoint that was kept, JSON")
    given = parser.parse_args(arguments)
    try:
        import cryptography  # noqa: F401
    except ImportError:
        parser.error("signatures need a package: pip install cryptography")
    kept = []
    try:
        if given.checkpoint:
            kept.append({"type": "checkpoint", **json.loads(given.checkpoint.read_bytes())})
        if kept and (problem := shape_problem(kept[0])):
            parser.error(f"{given.checkpoint}: {problem}")
        with given.export.open("rb") as file:
            replay = verify_lines(file, given.public_key, kept)
    except (OSError, ValueError, TypeError) as error:
        parser.error(str(error))
    for problem in replay.problems[:_NAMED]:
        print(problem)
    if replay.problems:
        print(f"{given.export}: {len(replay.problems)} problems")
        return 5
    counts = replay.counts
    print(
        f"{given.export}: in order: {counts['entry']} entries, signed up to entry "
        f"{replay.signed_to}; {counts['charge']} charges; {counts['total']} totals"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
