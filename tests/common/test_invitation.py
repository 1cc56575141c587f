"""The invitation's file: read back as written, refused field by field, the token never shown."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tacitly_common.invitation import (
    Invitation,
    InvitationError,
    parse_invitation,
    read_invitation,
)

TOKEN = "ABCDEFGH" * 4
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def certificate() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    built = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture(scope="module")
def invitation() -> Invitation:
    return Invitation(
        server="tacitly.example.org:8000",
        desk="[2001:db8::1]:8001",
        ca=certificate(),
        genesis="a" * 64,
        token=TOKEN,
        expires=NOW,
    )


def test_it_is_read_back_as_it_was_written(invitation: Invitation, tmp_path: Path) -> None:
    file = tmp_path / "ada.invitation"
    file.write_bytes(invitation.to_json())
    assert read_invitation(file) == invitation
    assert parse_invitation(invitation.to_json()) == invitation


def test_the_token_is_not_shown(invitation: Invitation) -> None:
    assert TOKEN not in repr(invitation)
    assert TOKEN not in f"{invitation}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema_version", 2),
        ("server", "tacitly.example.org"),
        ("server", "tacitly.example.org:0"),
        ("server", "tacitly.example.org:70000"),
        ("server", "http://tacitly.example.org:8000"),
        ("desk", "2001:db8::1:8001"),
        ("ca", "not PEM"),
        ("genesis", "a" * 63),
        ("token", "short"),
        ("token", "a" * 32),
        ("expires", "2026-11-01T00:00:00+01:00"),
        ("surprise", 1),
    ],
)
def test_a_spoiled_field_is_refused_with_a_remedy(
    invitation: Invitation, field: str, value: Any
) -> None:
    document = msgspec.json.encode({**msgspec.to_builtins(invitation), field: value})
    with pytest.raises(
        InvitationError, match=r"no invitation: .*ask for a new invitation"
    ) as error:
        parse_invitation(document)
    assert error.value.exit_code == 2
    assert TOKEN not in str(error.value)


def test_what_is_missing_cut_or_huge_is_refused(invitation: Invitation, tmp_path: Path) -> None:
    whole = invitation.to_json()
    for document in (b"", whole[:-10], b"\xff\xfe", b"[]"):
        with pytest.raises(InvitationError, match="is no invitation"):
            parse_invitation(document)
    with pytest.raises(InvitationError, match="too large"):
        parse_invitation(b" " * 100_000)
    with pytest.raises(InvitationError, match="name the invitation's file"):
        read_invitation(tmp_path / "nothing")
