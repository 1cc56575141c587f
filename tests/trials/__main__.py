"""The long trials: a row of JSON for each place where a secret is typed."""

import json
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import click

from tacitly_client.home import AgentHome
from trials import trial
from trials.browsers import browser
from trials.desktop import Desktop, Form, desktop, form
from trials.search import files_with, image_of, is_spelled_in
from trials.typist import Captured, capturing

Opened = AbstractContextManager[Form]
Type = Callable[[Desktop, Form, float], str]
_IMAGE_EACH = 5  # trials


@dataclass(frozen=True)
class Place:
    """Where it is typed: an application, how to open it, and one trial in it."""

    app: str
    open: Callable[[Desktop, AgentHome], Opened]
    type: Type
    secret: str = trial.CANARY
    excluded: bool = False


def _form(kind: str) -> Callable[[Desktop, AgentHome], Opened]:
    return lambda running, _home: form(running, kind)


def _browser(
    name: str, *, extension: bool = True, private: bool = False
) -> Callable[[Desktop, AgentHome], Opened]:
    return lambda running, home: browser(
        running, name, home if extension else None, private=private
    )


def _secret(move: trial.Move, field: str = "password") -> Type:
    return lambda running, opened, pace: trial.into_secret(running, opened, pace, move, field)


def _into(field: str) -> Type:
    return _secret(lambda _running, opened: opened.focus(field), field)


def _prompt(*, beyond_ssh: bool) -> Type:
    return lambda running, _form, pace: trial.at_a_prompt(running, pace, beyond_ssh=beyond_ssh)


def _in_the_open(shape: str) -> Type:
    return lambda running, opened, pace: trial.in_the_open(running, opened, pace, [shape])


def _nothing(_running: Desktop, _home: AgentHome) -> Opened:
    return nullcontext(Form.__new__(Form))


_BROWSERS = (("Chromium", "chromium"), ("Firefox ESR", "firefox-esr"))
PLACES = {
    **{
        f"{title}, {name}": Place(app, opening, _secret(move))
        for title, app, opening in (
            ("GTK 3", "form", _form("gtk")),
            ("Qt 5", "form", _form("qt")),
            ("Tk", "form", _form("tk")),
            *((title, app, _browser(app)) for title, app in _BROWSERS),
        )
        for name, move in (("by Tab", trial.by_tab), ("by a script", trial.by_script))
    },
    "a painted field in GTK 3": Place("form", _form("gtk"), _into("dots")),
    **{
        f"{what} in {title}": Place(app, _browser(app), _into(field))
        for title, app in _BROWSERS
        for what, field in (("a field masked by its style", "dots"), ("a card's field", "number"))
    },
    **{
        f"{title} {without}": Place(app, _browser(app, **options), _secret(trial.by_tab))
        for title, app in _BROWSERS
        for without, options in (
            ("without the extension", {"extension": False}),
            ("in a private window", {"private": True}),
        )
    },
    "a grabbed keyboard": Place("form", _form("gtk"), trial.under_a_grab),
    "an excluded application": Place(
        "form",
        _form("gtk"),
        lambda running, opened, pace: trial.into_plain(running, opened, pace, trial.CANARY),
        excluded=True,
    ),
    "ssh's prompt in xterm": Place("xterm", _nothing, _prompt(beyond_ssh=False)),
    "a prompt beyond ssh in xterm": Place("xterm", _nothing, _prompt(beyond_ssh=True)),
    **{
        f"in the open: {shape}": Place("form", _form("gtk"), _in_the_open(shape), secret)
        for shape, secret in trial.SHAPES.items()
    },
}


@click.command()
@click.argument("names", nargs=-1)
@click.option("--trials", default=25, show_default=True, help="At each pace.")
def main(names: tuple[str, ...], trials: int) -> None:
    """Run the trials of the named places, or of all."""
    for name in names or PLACES:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
            click.echo(json.dumps({"place": name} | _row(Path(directory), PLACES[name], trials)))


def _row(directory: Path, place: Place, trials: int) -> dict[str, object]:
    home = AgentHome(directory / "home")
    excluded = [place.app] if place.excluded else []
    arrived = images = images_with = 0
    with (
        desktop(directory) as running,
        capturing(home, running, place.app, excluded=excluded) as captured,
        place.open(running, home) as opened,
    ):
        for number, pace in enumerate(pace for pace in trial.PACES for _ in range(trials)):
            arrived += place.secret.strip() in place.type(running, opened, pace)
            if number % _IMAGE_EACH == _IMAGE_EACH - 1:
                image = image_of(captured.process.pid, directory / "image")
                images += 1
                images_with += _has(image, place.secret)
    # A browser's own profile may keep what was typed into it.
    files = [path for path in home.root.rglob("*") if path.is_file()]
    return _found(captured, place) | {
        "trials": trials * len(trial.PACES),
        "arrived": arrived,
        "images": images,
        "images_with": images_with,
        "files": len(files),
        "files_with": sum(_has(path, place.secret) for path in files),
    }


def _found(captured: Captured, place: Place) -> dict[str, object]:
    keys = captured.keys()
    text = "".join(key for key in keys if len(key) == 1)
    return {
        "leaked": len(trial.leaked(keys, place.secret)),
        "keys_stored": len(keys),
        "plain_words_stored": sum(text.count(word) for word in trial.PLAIN.split()[1:]),
    }


def _has(path: Path, secret: str) -> bool:
    """Whether a file has a secret: its first word, all of it without spaces, or it spelled out."""
    whole = secret.strip()
    words = {whole.split()[0], whole.replace(" ", "")}
    return any(files_with(word, [path]) for word in words) or is_spelled_in(path, whole)


if __name__ == "__main__":
    main()
