"""What a person chose to have stored."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tacitly_client.choices import Choices, ChoicesFile, exclude, include, set_level
from tacitly_client.home import AgentHome
from tacitly_client.redaction import ContentLevel
from tacitly_common.errors import ValidationError


def test_without_a_file_classes_are_stored_and_nothing_is_excluded(tmp_path: Path) -> None:
    choices = ChoicesFile(tmp_path / "content.json")()
    assert choices.level("editor") is ContentLevel.CLASSES
    assert choices.excluded == frozenset()


def test_a_file_counts_from_when_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "content.json"
    read = ChoicesFile(path)
    assert read().level("editor") is ContentLevel.CLASSES
    path.write_text('{"applications": {"editor": "characters"}, "excluded": ["diary"]}')
    assert read().level("editor") is ContentLevel.CHARACTERS
    assert read().excluded == {"diary"}
    path.unlink()
    assert read() == Choices()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"application": {}}',
        '{"applications": {"editor": "verbatim"}}',
        '{"default": "characters"}',
        '{"default": "words"}',
    ],
)
def test_a_file_that_says_nothing_clear_stores_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "content.json"
    path.write_text(text)
    assert ChoicesFile(path)().level("editor") is ContentLevel.COUNTS


def test_content_is_no_default() -> None:
    with pytest.raises(ValidationError, match="content is chosen per application"):
        Choices(default=ContentLevel.CHARACTERS)


def test_what_is_changed_counts_at_once_and_keeps_the_rest(tmp_path: Path) -> None:
    home = AgentHome(tmp_path)
    read = ChoicesFile(home.choices)
    exclude(home, "Signal")
    set_level(home, "gedit", ContentLevel.CHARACTERS)
    exclude(home, "diary")
    assert read().excluded == {"signal", "diary"}
    assert read().level("gedit") is ContentLevel.CHARACTERS
    assert include(home, "signal") == read()
    assert read().excluded == {"diary"}
    assert home.choices.stat().st_mode & 0o777 == 0o600


def test_an_application_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="name one, such as signal"):
        exclude(AgentHome(tmp_path), " ")


def test_a_file_that_cannot_be_read_is_not_replaced(tmp_path: Path) -> None:
    home = AgentHome(tmp_path)
    home.choices.write_text("{")
    with pytest.raises(ValidationError, match=r"content\.json cannot be read"):
        exclude(home, "signal")
    assert home.choices.read_text() == "{"


def test_changes_of_several_processes_at_once_all_count(tmp_path: Path) -> None:
    home = AgentHome(tmp_path)
    names = {f"app{n}" for n in range(40)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(partial(exclude, home), names))
    assert ChoicesFile(home.choices)().excluded == names
