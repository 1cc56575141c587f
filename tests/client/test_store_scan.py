"""The proof of an erasure finds every trace that is planted for it, and nothing else."""

import base64
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tacitly_client.store import Erased, EventStore, Span
from tacitly_client.store.scan import Proof, prove
from tacitly_common.events import Event, EventKind, to_json_line

SECOND_NS = 10**9
NOON_NS = 20_000 * 86_400 * SECOND_NS + 43_200 * SECOND_NS


def typed(*keys: str, start_ns: int = NOON_NS, app: str = "editor") -> list[Event]:
    """A key a second."""
    return [
        Event(EventKind.KEY_DOWN, 0, start_ns + n * SECOND_NS, key=key, app=app)
        for n, key in enumerate(keys)
    ]


def private_key(directory: Path) -> Path:
    [path] = directory.glob("*.key")
    return path


@pytest.fixture
def erased(tmp_path: Path) -> tuple[Path, EventStore, Erased]:
    """A home with a store of which one application was erased, and copies of what there was."""
    home = tmp_path / "home"
    home.mkdir()
    with EventStore.create(home / "store") as store:
        store.append(typed(*"secret", app="mail"))
        store.append(typed(*"harmless", start_ns=NOON_NS + 60 * SECOND_NS))
        shutil.copytree(home / "store", tmp_path / "before")
        return tmp_path, store, store.erase(app="mail")


def proof_of(erased: tuple[Path, EventStore, Erased]) -> Proof:
    place, store, done = erased
    return prove(place / "home", store, Span(app="mail"), done.traces)


def test_a_proof_holds_and_says_what_was_read(erased: tuple[Path, EventStore, Erased]) -> None:
    place, _, _ = erased
    (place / "home" / "recording.jsonl").write_bytes(to_json_line(typed("a", app="editor")[0]))
    proof = proof_of(erased)
    files = [path for path in (place / "home").rglob("*") if path.is_file()]
    assert proof.holds
    assert proof.files == len(files)
    assert proof.size_bytes == sum(path.stat().st_size for path in files)


def ciphertext(before: Path) -> bytes:
    [segment] = before.rglob("*.seg")
    return segment.read_bytes()[100:300]


@pytest.mark.parametrize(
    "trace",
    [
        lambda before: to_json_line(typed("s", app="mail")[0]),
        lambda before: b"x" * (16 * 2**20 - 50) + to_json_line(typed("s", app="mail")[0]),
        lambda before: b"odd" + ciphertext(before),
        lambda before: b"x" * (16 * 2**20 - 3) + ciphertext(before),
        lambda before: private_key(before).read_bytes(),
        lambda before: b"key: " + private_key(before).read_bytes().hex().encode(),
        lambda before: b"key: " + base64.b64encode(private_key(before).read_bytes()),
    ],
)
def test_a_proof_finds_a_trace_in_any_file(
    erased: tuple[Path, EventStore, Erased], trace: Callable[[Path], bytes]
) -> None:
    place, _, _ = erased
    planted = place / "home" / "somewhere"
    planted.write_bytes(trace(place / "before"))
    proof = proof_of(erased)
    assert proof.found == (planted,)
    assert not proof.holds


def test_a_proof_finds_the_old_key_and_the_old_segments_put_back(
    erased: tuple[Path, EventStore, Erased],
) -> None:
    place, store, _ = erased
    [segment] = (place / "before").rglob("*.seg")
    back = store.directory / segment.relative_to(place / "before").with_name(f"{'0' * 32}.seg")
    shutil.copy(segment, back)
    key = private_key(place / "before")
    shutil.copy(key, store.directory)
    proof = proof_of(erased)
    assert proof.segments_left == (back,)
    assert proof.keys_left == (str(store.directory / key.name),)
    assert proof.events_left == len("secret")
    assert not proof.holds
