"""Who keeps the store's key: a file, and a real login keyring (gnome-keyring on a bus of its own).

The keyring's tests run where gnome-keyring and dbus-daemon are installed.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacitly_client.store import EventStore, StoreError
from tacitly_client.store.keys import (
    Custody,
    FileKeys,
    KeyCustody,
    KeyringKeys,
    best_custody,
)
from tacitly_client.store.layout import Vault, read_layout
from tacitly_client.store.segment import key_id
from tacitly_common.events import Event, EventKind

_PATIENCE_SECONDS = 30


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A session bus that nothing is on yet."""
    if sys.platform != "linux" or not shutil.which("dbus-daemon"):
        pytest.skip("dbus-daemon is not installed")
    address = f"unix:path={tmp_path}/bus"
    with subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", f"--address={address}", "--print-address"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # It would start a person's services for whoever asks for them.
        env={"PATH": os.environ["PATH"], "XDG_DATA_DIRS": str(tmp_path), "HOME": str(tmp_path)},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
            yield
        finally:
            process.terminate()


@pytest.fixture
def keyring(
    bus: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[subprocess.Popen[bytes]]:
    """A login keyring, open."""
    if not shutil.which("gnome-keyring-daemon"):
        pytest.skip("gnome-keyring is not installed")
    for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    with subprocess.Popen(
        ["gnome-keyring-daemon", "--unlock", "--foreground", "--components=secrets"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"password")
        process.stdin.close()
        until = time.monotonic() + _PATIENCE_SECONDS
        try:
            # Asked before it has made its keyring, it never makes one.
            made = tmp_path / "keyrings" / "login.keyring"
            while not made.exists() or best_custody() is not Custody.KEYRING:
                assert time.monotonic() < until, "the keyring did not open"
                time.sleep(0.05)
            yield process
        finally:
            process.terminate()


@pytest.fixture(params=[Custody.FILE, Custody.KEYRING])
def custody(request: pytest.FixtureRequest, tmp_path: Path) -> KeyCustody:
    if request.param is Custody.FILE:
        return FileKeys(tmp_path)
    request.getfixturevalue("keyring")
    return KeyringKeys("a-store")


def test_a_key_is_kept_found_and_destroyed(custody: KeyCustody) -> None:
    key = X25519PrivateKey.generate()
    named = key_id(key.public_key())
    assert custody.find(named) is None
    custody.destroy(named)
    custody.keep(key)
    found = custody.find(named)
    assert found is not None
    assert found.private_bytes_raw() == key.private_bytes_raw()
    other = X25519PrivateKey.generate()
    custody.keep(other)
    custody.destroy(named)
    assert custody.find(named) is None
    assert custody.find(key_id(other.public_key())) is not None
    assert named.hex() in custody.place(named)


def test_without_a_session_the_key_is_in_a_file_and_the_person_is_told(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        assert "in a file that only you can read" in store.protection
        assert "not safe from programs that you run" in store.protection
    [key] = tmp_path.glob("*.key")
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_bus_without_a_keyring_is_no_keyring(bus: None) -> None:
    assert best_custody() is Custody.FILE


def test_with_a_keyring_no_key_is_in_any_file_and_an_erasure_changes_it(
    keyring: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    directory = tmp_path / "agent" / "store"
    event = Event(EventKind.KEY_DOWN, 0, 0, key="a")
    with EventStore.create(directory) as store:
        assert "login keyring" in store.protection
        assert "not safe from programs that you run" in store.protection
        store.append([event, event])
        before = Vault.of(directory)
        named = key_id(before.layout.sealing_key())
        raw = before.key(named).private_bytes_raw()
        assert not list(directory.glob("*.key"))
        assert not [p for p in directory.rglob("*") if p.is_file() and raw in p.read_bytes()]
        store.erase(0, 0)
        assert before.custody.find(named) is None
        assert store.count() == 2
        assert read_layout(directory).public_key != before.layout.public_key


def test_while_the_keyring_is_locked_capture_goes_on_and_reading_says_what_to_do(
    keyring: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    import secretstorage

    directory = tmp_path / "agent" / "store"
    EventStore.create(directory).close()
    bus = secretstorage.dbus_init()
    try:
        secretstorage.Collection(bus).lock()
    finally:
        bus.close()
    with EventStore.open_to_append(directory) as capture:
        capture.append([Event(EventKind.KEY_DOWN, 0, 0, key="a")])
    with pytest.raises(StoreError, match="keyring is locked; unlock it"):
        EventStore.open(directory).count()
    assert best_custody() is Custody.FILE


def test_when_the_keyring_is_gone_reading_says_where_to_run_it(
    keyring: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    directory = tmp_path / "agent" / "store"
    with EventStore.create(directory) as store:
        store.append([Event(EventKind.KEY_DOWN, 0, 0, key="a")])
        keyring.terminate()
        keyring.wait(_PATIENCE_SECONDS)
        with pytest.raises(StoreError, match="desktop session"):
            store.count()
