"""The Flower application bundle (FAB) that a run is started with, and the hash that names it.

A FAB is a ZIP with a manifest. Flower's own builder compresses, so its bytes, and with them the
hash, depend on the machine's zlib; here every entry is stored as it is, with a fixed date, mode
and system, so that every machine builds the same bytes.
"""

import hashlib
import io
import zipfile
from importlib import resources

_ENTRY_DATE = (2024, 10, 1, 0, 0, 0)
_UNIX = 3


def bundle() -> bytes:
    """The FAB: `pyproject.toml` (our `app.toml`) and Flower's manifest `.info/CONTENT`."""
    application = resources.files(__package__).joinpath("app.toml").read_bytes()
    # A manifest line: path, SHA-256, size in bits.
    digest = hashlib.sha256(application).hexdigest()
    manifest = f"pyproject.toml,{digest},{len(application) * 8}"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, content in (
            ("pyproject.toml", application),
            (".info/CONTENT", manifest.encode()),
        ):
            entry = zipfile.ZipInfo(path, _ENTRY_DATE)
            entry.create_system = _UNIX
            entry.external_attr = 0o600 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def app_hash() -> str:
    """SHA-256, hex, of the bundle: what a plan's `app_hash` must be."""
    return hashlib.sha256(bundle()).hexdigest()
