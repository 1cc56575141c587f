"""Every loader on its data set's real files: counts that its README states, order, spot values."""

import gzip
import itertools
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tacitly_common.campaign import Family, Level, TokenPlan
from tacitly_common.events import Event, EventKind
from tacitly_common.vocabulary import START, Vocabulary
from tacitly_simulations.datasets import DATASETS, DatasetError, Person, load

MS = 10**6


@pytest.fixture(scope="module")
def persons(shared_data: Path) -> Callable[[str], list[Person]]:
    loaded: dict[str, list[Person]] = {}

    def of(name: str) -> list[Person]:
        if name not in loaded:
            loaded[name] = list(load(name, shared_data / name))
        return loaded[name]

    return of


SMALL = [name for name in DATASETS if name != "ubuntu_irc"]


def kinds(people: list[Person]) -> Counter[EventKind]:
    return Counter(event.kind for person in people for event in person.events)


@pytest.mark.parametrize(
    ("name", "people", "sessions", "events"),
    [
        ("adserp_sample", 10, 10, 2466 + 12 + 12 + 762 + 23),
        ("coauthor", 37, 218, 429_210),
        ("keyboard_field_study", 36, 1_685, 80_516),
        ("mousetrap_kh2017", 40, 760, 64_150),
        ("shakespeare_roles", 298, 298, 931_441),
    ],
)
def test_all_persons_sessions_and_events_are_read(
    persons: Callable[[str], list[Person]], name: str, people: int, sessions: int, events: int
) -> None:
    loaded = persons(name)
    assert len({person.id for person in loaded}) == people
    assert sum(len(person.sessions) for person in loaded) == sessions
    assert sum(kinds(loaded).values()) == events


@pytest.mark.parametrize("name", SMALL)
def test_events_come_in_the_order_of_time(
    persons: Callable[[str], list[Person]], name: str
) -> None:
    for person in persons(name):
        walls = [event.wall_ns for event in person.events]
        assert walls == sorted(walls)
        for session in person.sessions:
            clock = [event.monotonic_ns for event in session]
            assert clock == sorted(clock)


@pytest.mark.parametrize("name", SMALL)
def test_the_flat_stream_keeps_its_sessions(
    persons: Callable[[str], list[Person]], name: str
) -> None:
    plan = TokenPlan(vocabulary_version=1, level=Level.CLASSES, families=tuple(sorted(Family)))
    for person in persons(name):
        starts = (Vocabulary(plan).encode(person.events) == START).sum()
        assert starts == len(person.sessions)


@pytest.mark.parametrize("name", SMALL)
def test_positions_are_fractions(persons: Callable[[str], list[Person]], name: str) -> None:
    events = itertools.chain.from_iterable(person.events for person in persons(name))
    assert all(0 <= event.x <= 1 and 0 <= event.y <= 1 for event in events)


def test_coauthor_has_one_token_a_row_of_the_key_or_action_stream(
    persons: Callable[[str], list[Person]],
) -> None:
    vocabulary = Vocabulary(
        TokenPlan(vocabulary_version=1, level=Level.CHARACTERS, families=(Family.KEYS,))
    )
    names: Counter[str] = Counter()
    train = held_out = 0
    for person in persons("coauthor"):
        tokens = [int(token) for token in vocabulary.encode(person.events) if token != START]
        names.update(vocabulary.name(token) for token in tokens)
        train += int(0.8 * len(tokens))
        held_out += len(tokens) - int(0.8 * len(tokens))
    assert (train, held_out) == (343_352, 85_858)
    actions = {
        "Backspace": 32_938,
        "Control+v": 74,
        "Tab": 2_396,
        "Shift+Tab": 9,
        "ArrowUp": 392,
        "ArrowDown": 832,
        "Alt+ArrowDown": 11_525,
        "Control+Enter": 1_701,
        "Escape": 333,
        "ArrowRight": 4_716,
        "ArrowLeft": 3_747,
        "Shift+ArrowRight": 615,
    }
    assert {name: names[name] for name in actions} == actions
    assert "<unk>" not in names


def test_coauthor_spot_values(persons: Callable[[str], list[Person]]) -> None:
    writer = persons("coauthor")[0]
    first, second = writer.sessions[0][:2]
    assert (writer.id, len(writer.sessions)) == ("w00", 8)
    assert first == Event(EventKind.KEY_DOWN, 0, 1_629_073_249_522 * MS, " ")
    assert second == Event(EventKind.KEY_DOWN, 2_136 * MS, 1_629_073_251_658 * MS, "Tab")


def test_adserp_events_and_positions(persons: Callable[[str], list[Person]]) -> None:
    people = persons("adserp_sample")
    assert kinds(people) == {
        EventKind.POINTER_MOVE: 2_466,
        EventKind.BUTTON_DOWN: 12,
        EventKind.BUTTON_UP: 12,
        EventKind.SCROLL: 762,
        EventKind.FOCUS: 23,
    }
    first = people[0].sessions[0][0]
    assert (people[0].id, first.wall_ns) == ("p004", 1_671_196_652_472 * MS)
    assert (first.x, first.y) == (1020 / 1422, 236 / 1137)
    scrolled = [event.dy for event in people[1].events if event.kind is EventKind.SCROLL]
    assert sum(scrolled) == pytest.approx(1.1111111)  # the page's offset at the end: 111.11 px


def test_keyboard_study_has_repeats_and_modifiers(
    persons: Callable[[str], list[Person]],
) -> None:
    people = persons("keyboard_field_study")
    assert kinds(people) == {EventKind.KEY_DOWN: 41_327, EventKind.KEY_UP: 39_189}
    events = [event for person in people for event in person.events]
    assert sum(event.repeat for event in events) == 2_099
    assert Counter(event.modifiers for event in events if event.key == "Home") == {("Shift",): 6}
    assert sum("Control" in event.modifiers for event in events) == 23


def test_mousetrap_trials_end_with_a_click_on_a_button(
    persons: Callable[[str], list[Person]],
) -> None:
    people = persons("mousetrap_kh2017")
    assert all(len(person.sessions) == 19 for person in people)
    clicks = [session[-1] for person in people for session in person.sessions]
    assert all(click.kind is EventKind.BUTTON_DOWN and click.button == 1 for click in clicks)
    assert all(click.y < 0.4 for click in clicks)  # both buttons are at the top
    first = people[0].sessions[0][0]
    assert (first.wall_ns, first.monotonic_ns) == (96_581 * MS, 0)


def test_shakespeare_roles_speak_their_lines(persons: Callable[[str], list[Person]]) -> None:
    roles = {person.id: person for person in persons("shakespeare_roles")}
    assert sum(len(person.sessions[0]) >= 500 for person in roles.values()) == 180
    spoken = "".join(event.key for event in itertools.islice(roles["hamlet/HAMLET"].events, 41))
    assert spoken == "A little more than kin, and less than kin"  # without "[Aside]"


def test_ubuntu_irc_messages_belong_to_their_nicknames(shared_data: Path) -> None:
    people = messages = frequent = 0
    for person in load("ubuntu_irc", shared_data / "ubuntu_irc"):
        sent = sum(event.key == "Enter" for event in person.events)
        people, messages, frequent = people + 1, messages + sent, frequent + (sent >= 50)
        assert not person.id.lower().endswith("bot")
        if person.id == "crimsun":
            first = person.sessions[0]
            assert "".join(event.key for event in first[:22]) == "kleedrac: I'm afraid n"
            assert first[0].wall_ns == 1_103_966_040 * 1000 * MS  # 2004-12-25 09:14 UTC
            walls = [event.wall_ns for event in person.events]
            assert walls == sorted(walls)
    # The README's 195,501 messages less the bots' 3,996.
    assert (people, messages, frequent) == (15_710, 191_505, 649)


def test_an_unknown_data_set_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no data set 'enron'; there are adserp_sample, coau"):
        load("enron", tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere is no folder; name the folder that holds"):
        load("coauthor", tmp_path / "nowhere")


@pytest.mark.parametrize("name", DATASETS)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match=f"{tmp_path}/.* is missing; name the folder"):
        list(load(name, tmp_path))


@pytest.mark.parametrize(
    ("name", "file", "content"),
    # mtime=0: the bytes are part of a test's name, which must be the same in every worker.
    [
        ("coauthor", "sessions.csv", b"writer;session\nw00;secret\n"),
        ("keyboard_field_study", "typing.json.gz", gzip.compress(b'{"secret": 1}', mtime=0)),
        ("mousetrap_kh2017", "KH2017_raw.csv.gz", gzip.compress(b"secret\nsecret\n", mtime=0)),
        ("shakespeare_roles", "shakespeare.zip", b"secret"),
        ("ubuntu_irc", "ubuntu-train-raw.tar.xz", b"secret"),
    ],
)
def test_a_malformed_file_is_named_and_not_quoted(
    tmp_path: Path, name: str, file: str, content: bytes
) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DatasetError, match=f"{file} is not in the data set's format") as caught:
        list(load(name, tmp_path))
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_truncated_session_costs_a_clear_error(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "coauthor"
    (tmp_path / "sessions").mkdir()
    index = (source / "sessions.csv").read_text().splitlines()[:2]
    (tmp_path / "sessions.csv").write_text("\n".join(index))
    name = f"{index[1].split(',')[1]}.jsonl.xz"
    shutil.copy(source / "sessions" / name, tmp_path / "sessions")
    assert len(list(load("coauthor", tmp_path))) == 1

    whole = (tmp_path / "sessions" / name).read_bytes()
    (tmp_path / "sessions" / name).chmod(0o600)
    (tmp_path / "sessions" / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=f"{name} is not in the data set's format"):
        list(load("coauthor", tmp_path))


def test_a_person_s_repr_shows_no_events() -> None:
    person = Person("w00", ((Event(EventKind.KEY_DOWN, 0, 0, "a"),),))
    assert repr(person) == "Person(id='w00')"
