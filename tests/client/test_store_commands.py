"""What a person sees of the store, takes along and erases: the commands on a real store."""

import json
import time
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tacitly_client.cli import cli
from tacitly_client.home import AgentHome
from tacitly_client.options import Day
from tacitly_client.store import EventStore, StoreError
from tacitly_client.store.days import local_bounds_ns
from tacitly_client.store.dropped import add_dropped, read_dropped
from tacitly_client.stored import local_day
from tacitly_common.errors import ValidationError
from tacitly_common.events import Event, EventKind, from_json_line, to_json_line

SECOND_NS = 10**9
TODAY = datetime.now().astimezone().date()
HOSTILE = "an\x1b[31m[red]app"


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    """Yesterday at noon "mail", now "editor" and an application with a nasty name."""
    place = AgentHome(tmp_path / "agent")
    place.root.mkdir(mode=0o700)
    noon = datetime.combine(TODAY - timedelta(days=1), datetime.min.time()) + timedelta(hours=12)
    with EventStore.create(place.store) as store:
        store.append(typed("abc", int(noon.timestamp()) * SECOND_NS, "mail"))
        store.append(typed("de", time.time_ns() - 60 * SECOND_NS, "editor"))
        store.append(typed("f", time.time_ns() - 30 * SECOND_NS, HOSTILE))
    add_dropped(place.store, TODAY, {"secret field": 7})
    return place


def typed(keys: str, start_ns: int, app: str) -> list[Event]:
    return [
        Event(EventKind.KEY_DOWN, n, start_ns + n * SECOND_NS, key=key, app=app)
        for n, key in enumerate(keys)
    ]


def run(home: AgentHome, *arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--home", str(home.root)], input=answer)


def keys(home: AgentHome) -> str:
    with EventStore.open(home.store) as store:
        return "".join(event.key for event in store.events())


def test_show_counts_by_day_and_application_and_names_what_was_not_kept(home: AgentHome) -> None:
    document = json.loads(run(home, "show", "--format", "json").output)
    assert document["events"] == 6
    assert document["days"][0] == {
        "day": str(TODAY - timedelta(days=1)),
        "applications": [{"app": "mail", "events": 3, "keys": 3}],
        "not_kept": {},
    }
    of_today = document["days"][-1]
    assert of_today["not_kept"] == {"secret field": 7}
    assert document["retention"]["cap_days"] == 7
    assert "in a file that only you can read" in document["key"]


def test_show_for_people_says_the_same_and_lets_no_name_speak_to_the_terminal(
    home: AgentHome,
) -> None:
    output = run(home, "show").output
    for said in ("events stored: 6", "mail", "secret field", "at most 7 days", "only you can read"):
        assert said in output
    assert r"an\u001b[31m[red]app" in output
    assert "\x1b" not in output + run(home, "show", "--events").output


def test_show_can_be_of_a_day_an_application_or_what_was_just_now(home: AgentHome) -> None:
    def counted(*chosen: str) -> int:
        return int(json.loads(run(home, "show", *chosen, "--format", "json").output)["events"])

    assert counted("--day", str(TODAY - timedelta(days=1))) == 3
    assert counted("--app", "editor") == 2
    assert counted("--last", "10m") == 3
    assert counted("--last", "45s") == 1
    assert counted("--last", "10m", "--app", "mail") == 0


def test_show_renders_every_event_as_it_is_stored(home: AgentHome) -> None:
    lines = run(home, "show", "--events").output.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith(f"{TODAY - timedelta(days=1)} 12:00:00.000  mail  key_down")
    document = json.loads(run(home, "show", "--events", "--format", "json").output)
    with EventStore.open(home.store) as store:
        stored = list(store.events())
    assert [from_json_line(json.dumps(each).encode()) for each in document["events"]] == stored


def test_an_export_is_every_line_with_a_schema_that_fits_for_its_owner_alone(
    home: AgentHome, tmp_path: Path
) -> None:
    path = tmp_path / "mine.jsonl"
    assert "wrote 6 events" in run(home, "export", str(path)).output
    with EventStore.open(home.store) as store:
        assert path.read_bytes().splitlines() == [to_json_line(each) for each in store.events()]
    schema = json.loads((tmp_path / "mine.schema.json").read_bytes())
    fields = schema["$defs"]["Event"]["properties"]
    assert set(fields) == set(Event.__struct_fields__)
    for each in (path, tmp_path / "mine.schema.json"):
        assert each.stat().st_mode & 0o777 == 0o600


def test_an_export_replaces_nothing_and_leaves_nothing_half_written(
    home: AgentHome, tmp_path: Path
) -> None:
    (tmp_path / "mine.jsonl").write_text("dear diary")
    result = run(home, "export", str(tmp_path / "mine.jsonl"))
    assert isinstance(result.exception, ValidationError)
    assert (tmp_path / "mine.jsonl").read_text() == "dear diary"
    (tmp_path / "other.schema.json").write_text("mine")
    result = run(home, "export", str(tmp_path / "other.jsonl"))
    assert isinstance(result.exception, ValidationError)
    assert not (tmp_path / "other.jsonl").exists()
    result = run(home, "export", str(tmp_path / "nowhere" / "mine.jsonl"))
    assert isinstance(result.exception, ValidationError)


@pytest.mark.parametrize(
    ("what", "left"),
    [
        (("--all",), ""),
        (("--day", str(TODAY - timedelta(days=1))), "def"),
        (("--last", "10m"), "abc"),
        (("--app", "editor"), "abcf"),
        (("--app", "never seen"), "abcdef"),
    ],
)
def test_erase_erases_that_alone_and_proves_it(
    home: AgentHome, what: tuple[str, ...], left: str
) -> None:
    result = run(home, "erase", *what, "--yes")
    assert result.exit_code == 0, result.exception
    said = f"erased {6 - len(left)} events" if left != "abcdef" else "nothing of that was stored"
    assert said in result.output
    assert f"below {home.root}: none of it found" in result.output
    assert "Not looked through: free blocks of the disk, backups" in result.output
    assert keys(home) == left


def test_an_erasure_is_reported_as_json_too(home: AgentHome) -> None:
    document = json.loads(run(home, "erase", "--all", "--yes", "--format", "json").output)
    assert document["events"] == 6
    assert document["proof"]["holds"] is True
    assert document["proof"]["files"] > 0
    assert read_dropped(home.store) == {}


def test_an_export_that_was_left_in_the_home_is_named_after_an_erasure(home: AgentHome) -> None:
    export = home.root / "mine.jsonl"
    run(home, "export", str(export))
    result = run(home, "erase", "--app", "mail", "--yes")
    assert isinstance(result.exception, StoreError)
    assert str(export) in str(result.exception)
    assert "none of it found" not in result.output
    assert keys(home) == "def"


def test_erase_asks_first(home: AgentHome) -> None:
    result = run(home, "erase", "--last", "10m", answer="n\n")
    assert "Erase every event since 20" in result.output
    assert result.exit_code == 1
    assert keys(home) == "abcdef"


@pytest.mark.parametrize("what", [(), ("--all", "--app", "mail"), ("--last", "10m", "--all")])
def test_erase_wants_to_be_told_one_thing(home: AgentHome, what: tuple[str, ...]) -> None:
    result = run(home, "erase", "--yes", *what)
    assert result.exit_code == 2
    assert keys(home) == "abcdef"


@pytest.mark.parametrize("last", ["10", "m", "0m", "-5m", "1.5h", "ten", "10m "])
def test_a_time_is_a_number_and_its_unit(home: AgentHome, last: str) -> None:
    assert (run(home, "show", "--last", last).exit_code == 0) is (last == "10m ")


def test_damage_is_named_and_the_rest_is_shown(home: AgentHome, tmp_path: Path) -> None:
    oldest = min(home.store.rglob("*.seg"), key=lambda path: path.parent.name)
    content = bytearray(oldest.read_bytes())
    content[-1] ^= 1
    oldest.write_bytes(content)
    for command in (("show",), ("show", "--events"), ("export", str(tmp_path / "mine.jsonl"))):
        result = run(home, *command)
        assert isinstance(result.exception, StoreError)
        assert str(oldest) in str(result.exception)
    assert (tmp_path / "mine.jsonl").read_bytes().count(b"\n") == 3


@pytest.mark.parametrize(("day", "days_ago"), [("today", 0), ("Yesterday", 1)])
def test_a_day_may_be_named_in_words(day: str, days_ago: int) -> None:
    named = Day().convert(day, None, None)
    assert datetime.now().astimezone().date() - named.date() == timedelta(days=days_ago)
    assert Day().convert("2026-11-23", None, None) == datetime.combine(
        date(2026, 11, 23), datetime.min.time()
    )


@pytest.mark.parametrize("wrong", ["2026-13-01", "monday", "23.11.2026", ""])
def test_a_day_that_is_none_is_refused_with_an_example(home: AgentHome, wrong: str) -> None:
    result = run(home, "show", "--day", wrong)
    assert result.exit_code == 2
    assert "is no day such as 2026-11-23, today or yesterday" in result.output


def test_an_empty_store_is_said_to_be_empty(home: AgentHome) -> None:
    run(home, "erase", "--all", "--yes")
    assert run(home, "show").output.startswith("nothing is stored\n")


def test_a_shorter_retention_holds_at_once(home: AgentHome) -> None:
    assert "at most 7 days" in run(home, "retention").output
    changed = run(home, "retention", "--days", "2", "--not-after-training", "--format", "json")
    assert json.loads(changed.output) == {
        "schema_version": 1,
        "cap_days": 2,
        "delete_after_training": False,
        "max_bytes": 256 * 2**20,
    }
    assert "at most 2 days; beyond 256 MiB the oldest go first" in run(home, "retention").output


def test_without_a_store_each_command_says_so(tmp_path: Path) -> None:
    for command in (("show",), ("erase", "--all", "--yes"), ("retention",)):
        result = run(AgentHome(tmp_path), *command)
        assert isinstance(result.exception, StoreError)
        assert "holds no event store" in str(result.exception)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns", "Europe/Berlin"])
def test_a_day_is_one_of_the_persons_own_calendar(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        day = date(2026, 3, 29)
        start_ns, end_ns = local_bounds_ns(day)
        assert local_day(start_ns) == local_day(end_ns - 1) == day
        assert local_day(start_ns - 1) < day < local_day(end_ns)
    finally:
        monkeypatch.undo()
        time.tzset()
