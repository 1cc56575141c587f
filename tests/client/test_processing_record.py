"""The record of processing is what the code does, and cannot change unnoticed."""

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from tacitly_client import processing_record as record
from tacitly_client.cli import cli
from tacitly_client.store.retention import RetentionPolicy
from tacitly_common import events

DOCS = Path(__file__).parents[2] / "docs"


def as_json() -> dict[str, object]:
    result = CliRunner().invoke(cli, ["processing-record", "--format", "json"])
    assert result.exit_code == 0, result.output
    document: dict[str, object] = json.loads(result.output)
    return document


def test_a_change_of_what_is_processed_needs_a_new_version_of_the_record() -> None:
    """Also of a notice: it says what is processed, and everybody who agreed to it is asked anew."""
    kept = json.loads((DOCS / f"processing-record-{record.RECORD_VERSION}.json").read_text())
    assert as_json() == kept, (
        "what is processed has changed: raise RECORD_VERSION, check that the notices say it, write "
        "docs/processing-record-N.json, and leave the earlier ones as they are"
    )


def test_every_version_has_its_file() -> None:
    found = sorted(path.name for path in DOCS.glob("processing-record-*.json"))
    assert found == [f"processing-record-{n}.json" for n in range(1, record.RECORD_VERSION + 1)]


def test_another_field_of_an_event_is_another_record(monkeypatch: pytest.MonkeyPatch) -> None:
    class Event(events.Event, frozen=True):
        mood: str = ""

    before = record.build_record()
    monkeypatch.setattr(events, "Event", Event)
    assert record.build_record() != before


def test_another_retention_is_another_record(monkeypatch: pytest.MonkeyPatch) -> None:
    class Longer(RetentionPolicy, frozen=True):
        cap_days: int = 90

    before = record.build_record()
    monkeypatch.setattr("tacitly_client.store.retention.RetentionPolicy", Longer)
    assert record.build_record() != before


def test_it_can_be_read_by_people_too() -> None:
    result = CliRunner().invoke(cli, ["processing-record"])
    assert result.exit_code == 0
    assert "at most days: 7" in result.output
    assert "anybody else: nothing" in result.output
    assert msgspec.json.encode(record.build_record()) == msgspec.json.encode(record.build_record())
