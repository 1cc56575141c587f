"""What a person chose to have stored, per application: `content.json` in the agent's directory.

    {"applications": {"gedit": "characters", "xterm": "classes"}, "excluded": ["signal"]}

Without the file: key classes, in applications that are not denied by default. A file that cannot
be read is no choice to store anything: counts.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from tacitly_client.files import only_writer, write_whole
from tacitly_client.home import AgentHome
from tacitly_client.redaction import ContentLevel
from tacitly_common.errors import UNDECODABLE, ValidationError


class Choices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Levels of content by application id, as `Event.app` has it, in lower case.

    | field        | meaning                                                                  |
    |--------------|--------------------------------------------------------------------------|
    | default      | for applications that are not named: counts or classes                   |
    | applications | those the person named; the ids need not have been seen yet              |
    | excluded     | of these nothing is stored or counted but that something was left out    |
    """

    default: ContentLevel = ContentLevel.CLASSES
    applications: dict[str, ContentLevel] = {}
    excluded: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.default.keeps_content:
            raise ValidationError(
                f"default is {self.default.value}, but content is chosen per application; name "
                "the applications, or choose counts or classes"
            )

    def level(self, app: str) -> ContentLevel:
        """The level of an application."""
        return self.applications.get(app, self.default)


_NOTHING: Final = Choices(default=ContentLevel.COUNTS)


class ChoicesFile:
    """The choices as they are now; the file is read again when it was replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._choices = Choices()

    def __call__(self) -> Choices:
        """What counts now."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._seen, self._choices = None, Choices()
            return self._choices
        if (seen := (status.st_ino, status.st_mtime_ns)) != self._seen:
            self._seen, self._choices = seen, self._read()
        return self._choices

    def _read(self) -> Choices:
        try:
            return _decoded(self._path)
        except ValidationError:
            return _NOTHING


def exclude(home: AgentHome, app: str) -> Choices:
    """From now on store and count nothing of an application; one never seen yet may be named.

    As the others below: durable on return, and counts for a running capture at its next event.

    Raises:
        ValidationError: `app` is empty, or the file cannot be read; nothing was changed.
        OSError: it could not be written; what counted before still does.
    """
    name = _named(app)
    return _change(home, lambda now: _replace(now, excluded=now.excluded | {name}))


def include(home: AgentHome, app: str) -> Choices:
    """Take an exclusion back. Raises what `exclude` does."""
    name = _named(app)
    return _change(home, lambda now: _replace(now, excluded=now.excluded - {name}))


def set_level(home: AgentHome, app: str, level: ContentLevel) -> Choices:
    """Choose the level of an application. Raises what `exclude` does."""
    name = _named(app)
    return _change(home, lambda now: _replace(now, applications={**now.applications, name: level}))


def choose(
    home: AgentHome, default: ContentLevel, applications: Mapping[str, ContentLevel]
) -> Choices:
    """Choose all levels anew; what is excluded stays so. Raises what `exclude` does."""
    named = {_named(app): level for app, level in applications.items()}
    return _change(home, lambda now: _replace(now, default=default, applications=named))


def read_choices(home: AgentHome) -> Choices:
    """What is chosen now.

    Raises:
        ValidationError: the file cannot be read.
    """
    return _decoded(home.choices)


def _change(home: AgentHome, change: Callable[[Choices], Choices]) -> Choices:
    with only_writer(home.choices):
        changed = change(_decoded(home.choices))
        write_whole(home.choices, msgspec.json.encode(changed, order="sorted"))
    return changed


def _decoded(path: Path) -> Choices:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Choices)
    except FileNotFoundError:
        return Choices()
    except (OSError, *UNDECODABLE) as error:
        raise ValidationError(
            f"{path} cannot be read, so nothing but counts is stored: {error}; mend it, or remove "
            "it and choose anew"
        ) from error


def _replace(choices: Choices, **changes: object) -> Choices:
    return msgspec.structs.replace(choices, **changes)


def _named(app: str) -> str:
    name = app.strip().lower()
    if not name:
        raise ValidationError("the application's id is empty; name one, such as signal")
    return name
