"""The agent's end of the browser extension: native messaging, and how browsers find it.

A browser starts the host and writes frames to its standard input: four bytes, the length in the
machine's byte order, then JSON (developer.chrome.com, "Native messaging"). The one message is

    {"sensitive": bool, "private": bool}

Anything else ends the host, and with it everything that is known of that browser's field. The host
never answers.
"""

import shlex
import struct
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from tacitly_client.capture.clock import Clock
from tacitly_client.capture.gate.browsers import PageNote
from tacitly_common.errors import UNDECODABLE, ValidationError

HOST_NAME: Final = "org.tacitly.agent"
CHROMIUM_EXTENSION: Final = "pndomndhbcnhpkpkpebmhenhpilhpoda"  # of webextension's key
FIREFOX_EXTENSION: Final = "field-guard@tacitly.org"
_LONGEST_MESSAGE: Final = 64
_FIREFOX: Final = "firefox"
_CHROMIUMS: Final = (
    "chromium",
    "google-chrome",
    "BraveSoftware/Brave-Browser",
    "microsoft-edge",
    "vivaldi",
)


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """All that an extension may say."""

    sensitive: bool
    private: bool


def serve(messages: BinaryIO, directory: Path, browser: int, clock: Clock) -> None:
    """Note what the extension says until it leaves.

    Args:
        messages: frames.
        directory: where browsers' notes are.
        browser: the browser's process.
        clock: this machine's.

    Raises:
        ValidationError: something else was said; its content is not quoted.
    """
    note = PageNote(directory, browser, clock)
    try:
        while (message := _next(messages)) is not None:
            note.tell(sensitive=message.sensitive, private=message.private)
    finally:
        note.close()


def install(root: Path, command: list[str], user: Path) -> list[Path]:
    """Let this user's browsers find the host: the files written.

    Args:
        root: the agent's directory, which gets the script that browsers start.
        command: what the script runs.
        user: the user's own directory.
    """
    script = root / "browser-host"
    script.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
    script.chmod(0o700)
    common = {
        "name": HOST_NAME,
        "description": "Tells the Tacitly agent when a field is secret",
        "path": str(script),
        "type": "stdio",
    }
    origin = f"chrome-extension://{CHROMIUM_EXTENSION}/"
    written = [script]
    for browser, path in manifests(user).items():
        if browser == _FIREFOX:
            allowed = {"allowed_extensions": [FIREFOX_EXTENSION]}
        else:
            allowed = {"allowed_origins": [origin]}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(common | allowed)))
        written.append(path)
    return written


def manifests(user: Path) -> dict[str, Path]:
    """Where each browser looks for the host in the user's own directory."""
    name = f"{HOST_NAME}.json"
    found = {
        browser: user / ".config" / browser / "NativeMessagingHosts" / name
        for browser in _CHROMIUMS
    }
    return {**found, _FIREFOX: user / ".mozilla" / "native-messaging-hosts" / name}


def _next(messages: BinaryIO) -> Message | None:
    """The next message; None at the end."""
    head = messages.read(4)
    if not head:
        return None
    (length,) = struct.unpack("=I", head.ljust(4, b"\xff"))
    if length > _LONGEST_MESSAGE:
        raise ValidationError(
            f"the browser sent {length} bytes, and the one message has at most {_LONGEST_MESSAGE}; "
            "install the extension of this version"
        )
    try:
        return msgspec.json.decode(messages.read(length), type=Message)
    except UNDECODABLE:
        raise ValidationError(
            "the browser sent something else than sensitive and private; install the extension "
            "of this version"
        ) from None
