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
from trials.search import files_with, image_of
from trials.typist import Captured, capturing

Opened = AbstractContextManager[Form]


@dataclass(frozen=True)
class Place:
    """Where it is typed: an application, how to open it, and one trial in it."""

    app: str
    open: Callable[[Desktop, AgentHome], Opened]
    type: Callable[[Desktop, Form, float], object]
    secret: str = trial.CANARY
    excluded: bool = False


def _form(kind: str) -> Callable[[Desktop, AgentHome], Opened]:
    return lambda running, _home: form(running, kind)


def _browser(name: str, *, extension: bool = True) -> Callable[[Desktop, AgentHome], Opened]:
    return lambda running, home: browser(running, name, home if extension else None)


def _secret(move: trial.Move) -> Callable[[Desktop, Form, float], object]:
    return lambda running, opened, pace: trial.into_secret(running, opened, pace, move)


def _to(field: str) -> trial.Move:
    return lambda _running, opened: opened.focus(field)


def _nothing(_running: Desktop, _home: AgentHome) -> Opened:
    return nullcontext(Form.__new__(Form))


PLACES = {
    **{
        f"{title}, {name}": Place(app, opening, _secret(move))
        for title, app, opening in (
            ("GTK 3", "form", _form("gtk")),
            ("Qt 5", "form", _form("qt")),
            ("Tk", "form", _form("tk")),
            ("Chromium", "chromium", _browser("chromium")),
            ("Firefox ESR", "firefox-esr", _browser("firefox-esr")),
        )
        for name, move in (("by Tab", trial.by_tab), ("by a script", trial.by_script))
    },
    "a painted field in GTK 3": Place("form", _form("gtk"), _secret(_to("dots"))),
    **{
        f"{what} in {title}": Place(app, _browser(app), _secret(_to(field)))
        for title, app in (("Chromium", "chromium"), ("Firefox ESR", "firefox-esr"))
        for what, field in (("a field masked by its style", "dots"), ("a card's field", "number"))
    },
    "Chromium without the extension": Place(
        "chromium", _browser("chromium", extension=False), _secret(trial.by_tab)
    ),
    "a grabbed keyboard": Place("form", _form("gtk"), trial.under_a_grab),
    "an excluded application": Place(
        "form", _form("gtk"), _secret(lambda _running, _form: None), excluded=True
    ),
    "ssh's prompt in xterm": Place(
        "xterm", _nothing, lambda running, _form, pace: trial.at_a_prompt(running, pace)
    ),
    **{
        f"in the open: {name}": Place(
            "form",
            _form("gtk"),
            lambda running, opened, pace, name=name: trial.in_the_open(
                running, opened, pace, [name]
            ),
            secret=secret,
        )
        for name, secret in trial.SHAPES.items()
    },
}


@click.command()
@click.argument("names", nargs=-1)
@click.option("--trials", default=25, show_default=True, help="At each pace.")
def main(names: tuple[str, ...], trials: int) -> None:
    """Run the trials of the named places, or of all."""
    for name in names or PLACES:
        with tempfile.TemporaryDirectory() as directory:
            click.echo(json.dumps({"place": name} | _row(Path(directory), PLACES[name], trials)))


def _row(directory: Path, place: Place, trials: int) -> dict[str, object]:
    home = AgentHome(directory / "home")
    excluded = [place.app] if place.excluded else []
    with (
        desktop(directory) as running,
        capturing(home, running, place.app, excluded=excluded) as captured,
        place.open(running, home) as opened,
    ):
        for pace in trial.PACES:
            for _ in range(trials):
                place.type(running, opened, pace)
        image = image_of(captured.process.pid, directory / "image")
    files = [path for path in directory.rglob("*") if path.is_file() and _is_ours(path, home)]
    return _found(captured, place) | {
        "trials": trials * len(trial.PACES),
        "memory_searched": image,
        "files_with": len(files_with(place.secret.split()[0], files)),
    }


def _found(captured: Captured, place: Place) -> dict[str, object]:
    keys = captured.keys()
    text = "".join(key for key in keys if len(key) == 1)
    return {
        "leaked": len(trial.leaked(keys, place.secret)),
        "keys_stored": len(keys),
        "plain_words_stored": sum(text.count(word) for word in trial.PLAIN.split()[1:]),
    }


def _is_ours(path: Path, home: AgentHome) -> bool:
    """A browser's own profile may keep what was typed into it."""
    return path.is_relative_to(home.root) or path.name.startswith("image")


if __name__ == "__main__":
    main()
