"""The agent's end of the browser extension: real frames into the real program."""

import base64
import hashlib
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tacitly_client.browser_host import CHROMIUM_EXTENSION, FIREFOX_EXTENSION, install
from tacitly_client.capture.gate import told_by_browsers
from tacitly_client.capture.gate.browsers import PageField

AGENT = Path(sys.executable).parent / "tacitly-agent"


def frame(message: object) -> bytes:
    content = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack("=I", len(content)) + content


@contextmanager
def host(home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [AGENT, "browser-host", "--home", home],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def told(home: Path, wanted: Callable[[PageField | None], bool]) -> PageField | None:
    """What is noted of the browser, which is this process, as soon as it is as wanted."""
    until = time.monotonic() + 10
    while True:
        page = told_by_browsers(home / "browsers").get(os.getpid())
        if wanted(page):
            return page
        assert time.monotonic() < until, page
        time.sleep(0.02)


def say(process: "subprocess.Popen[bytes]", content: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(content)
    process.stdin.flush()


def is_told(page: PageField | None) -> bool:
    return page is not None


def test_what_the_extension_says_is_noted_while_the_host_lives(tmp_path: Path) -> None:
    with host(tmp_path) as process:
        first = told(tmp_path, is_told)
        assert first is not None
        assert first.sensitive
        assert first.private
        say(process, frame({"sensitive": False, "private": False}))
        page = told(tmp_path, lambda page: page is not None and not page.sensitive)
        assert page is not None
        assert not page.private
        assert page.told_ns > first.told_ns
        say(process, frame({"sensitive": False, "private": True}))
        told(tmp_path, lambda page: page is not None and page.private)
    told(tmp_path, lambda page: page is None)
    assert list((tmp_path / "browsers").iterdir()) != []  # the killed one's, which counts nothing


def test_a_browser_that_leaves_takes_its_note_with_it(tmp_path: Path) -> None:
    with host(tmp_path) as process:
        told(tmp_path, is_told)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""
        process.stdin = None
    assert list((tmp_path / "browsers").iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        frame({"sensitive": False, "private": False, "url": "https://example.org"}),
        frame({"sensitive": False}),
        frame({"sensitive": 0, "private": False}),
        frame(b"secret"),
        frame(b" " * 1_000_000),
        b"\xff\xff\xff\xff",
        b"\x10",
    ],
)
def test_anything_else_ends_the_host_and_its_note(tmp_path: Path, content: bytes) -> None:
    with host(tmp_path) as process:
        told(tmp_path, is_told)
        _, error = process.communicate(content, timeout=20)
        assert process.returncode == 2
        assert error.count(b"\n") == 1
        assert b"secret" not in error
        assert b"example" not in error
        process.stdin = None
    assert told_by_browsers(tmp_path / "browsers") == {}


def test_a_note_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    notes = tmp_path / "browsers"
    assert told_by_browsers(notes) == {}
    notes.mkdir()
    (notes / "1").write_text('{"browser": 1, "sensitive": false, "private": false, "told_ns": 1}')
    (notes / "2").mkdir()
    assert told_by_browsers(notes) == {}


def test_installing_tells_browsers_where_the_host_is_and_whom_it_serves(tmp_path: Path) -> None:
    root, user = tmp_path / "home of ada", tmp_path / "user"
    root.mkdir()
    paths = install(root, ["/opt/tacitly agent", "browser-host", "--home", str(root)], user)
    script, *manifests = paths
    assert script.stat().st_mode & 0o777 == 0o700
    assert script.read_text().splitlines()[1] == (
        f"exec '/opt/tacitly agent' browser-host --home '{root}'"
    )
    contents = {path: json.loads(path.read_text()) for path in manifests}
    assert all(content["path"] == str(script) for content in contents.values())
    firefox = user / ".mozilla/native-messaging-hosts/org.tacitly.agent.json"
    assert contents.pop(firefox)["allowed_extensions"] == [FIREFOX_EXTENSION]
    assert len(contents) >= 2
    for path, content in contents.items():
        assert path.parent.name == "NativeMessagingHosts"
        assert content["allowed_origins"] == [f"chrome-extension://{CHROMIUM_EXTENSION}/"]


def test_the_extensions_ids_are_those_of_its_manifest() -> None:
    text = (Path(__file__).parents[2] / "client/webextension/manifest.json").read_text()
    manifest = json.loads(text)
    digest = hashlib.sha256(base64.b64decode(manifest["key"])).hexdigest()[:32]
    assert "".join(chr(ord("a") + int(digit, 16)) for digit in digest) == CHROMIUM_EXTENSION
    assert manifest["browser_specific_settings"]["gecko"]["id"] == FIREFOX_EXTENSION
    assert manifest["permissions"] == ["nativeMessaging"]
