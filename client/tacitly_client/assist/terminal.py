"""`tacitly-agent suggest`: what the model suggests to this person, shown in a terminal."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tacitly_client.options import format_option, home_option

if TYPE_CHECKING:
    from tacitly_client.assist.suggester import Suggester
    from tacitly_client.home import AgentHome
    from tacitly_client.store import Damage
    from tacitly_common.contract.model_receipt import VerifiedModel
    from tacitly_common.vocabulary import Vocabulary

_CLEAR_LINE: Final = "\r\x1b[K"
_UP: Final = "\x1b[A"
_BACKSPACES: Final = ("\b", "\x7f")
_ENDS: Final = ("\x03", "\x04")  # Ctrl-C, Ctrl-D


@click.command()
@home_option
@click.option("--text", help="What was typed so far; without it, type.")
@click.option("--report", is_flag=True, help="What it would have saved you, on your newest events.")
@click.option("--campaign", help="Hash of the campaign whose model to use [default: the newest].")
@click.option("--head/--no-head", default=True, show_default=True, help="With your own habits.")
@click.option("--most", type=click.IntRange(1, 9), default=3, show_default=True, help="How many.")
@format_option
def suggest(
    home: Path,
    text: str | None,
    report: bool,
    campaign: str | None,
    head: bool,
    most: int,
    as_json: bool,
) -> None:
    """Suggest what comes next, by the released model.

    Words, keys and actions, from the model you helped to learn. Nothing leaves.

    Type, and take a word by its number; Ctrl-D ends. Without a terminal each line of the standard
    input is a text of its own.
    """
    from tacitly_client.home import AgentHome
    from tacitly_client.processes import forbid_dumps
    from tacitly_common.vocabulary import Vocabulary

    forbid_dumps()
    place = AgentHome(home)
    model = _model(place, campaign)
    vocabulary = Vocabulary(model.plan.tokens)
    if report:
        _report(place, model, vocabulary, as_json=as_json)
        return
    suggester = _suggester(place, model, vocabulary, with_head=head)
    if text is not None:
        _show_texts([text], suggester, vocabulary, most, as_json=as_json)
    elif sys.stdin.isatty() and not as_json:
        _show_keys(suggester, vocabulary, most)
    else:
        lines = (line.removesuffix("\n") for line in sys.stdin)
        _show_texts(lines, suggester, vocabulary, most, as_json=as_json)


def _model(place: "AgentHome", campaign: str | None) -> "VerifiedModel":
    from tacitly_client.campaigns import find
    from tacitly_client.models import Models

    models = Models.open(place)
    if campaign is None:
        return models.newest()
    return models.load(models.known_plan(find(models.contract, campaign)))


def _suggester(
    place: "AgentHome", model: "VerifiedModel", vocabulary: "Vocabulary", *, with_head: bool
) -> "Suggester":
    from tacitly_client.assist.head import PersonalHead
    from tacitly_client.assist.history import person_tokens
    from tacitly_client.assist.recurrent import RecurrentModel
    from tacitly_client.assist.suggester import Suggester

    recurrent = RecurrentModel(model.plan.model, model.vector)
    if not with_head:
        return Suggester(recurrent, vocabulary)
    tokens = person_tokens(place.store, vocabulary, _say)
    return Suggester(recurrent, vocabulary, PersonalHead.learn(tokens, recurrent))


def _show_texts(
    texts: Iterable[str],
    suggester: "Suggester",
    vocabulary: "Vocabulary",
    most: int,
    *,
    as_json: bool,
) -> None:
    from tacitly_client.assist.history import typed_tokens
    from tacitly_client.show import print_json

    for text in texts:
        found = suggester.suggest(typed_tokens(text, vocabulary), most)
        if as_json:
            print_json(
                {
                    "suggestions": [
                        {"kind": s.kind, "text": s.text, "probability": round(s.probability, 6)}
                        for s in found
                    ]
                }
            )
            continue
        for kind in dict.fromkeys(each.kind for each in found):
            shown = (f"{s.text} {s.probability:.0%}" for s in found if s.kind is kind)
            click.echo(f"{kind.value:<7} {'   '.join(shown)}")


def _show_keys(suggester: "Suggester", vocabulary: "Vocabulary", most: int) -> None:
    """The line that is typed, and above it what is suggested after each key."""
    from tacitly_client.assist.history import typed_tokens
    from tacitly_client.assist.suggester import Kind

    typed = ""
    click.echo("type; 1 to 9 take a word, Ctrl-D ends\n")
    while True:
        offered = suggester.suggest(typed_tokens(typed, vocabulary), most)
        words = [each.text for each in offered if each.kind is Kind.WORD]
        numbered = "   ".join(f"{n} {word}" for n, word in enumerate(words, start=1))
        key = next((each.text for each in offered if each.kind is Kind.KEY), "")
        offer = f"{numbered or '-'}     next key: {key}"
        click.echo(f"{_UP}{_CLEAR_LINE}{offer}\n{_CLEAR_LINE}> {typed}", nl=False)
        try:
            pressed = click.getchar()
        except (EOFError, KeyboardInterrupt):
            break
        if pressed in _ENDS:
            break
        typed = _after(typed, pressed, words)
    click.echo()


def _after(typed: str, pressed: str, words: list[str]) -> str:
    """The line after a key: a number takes a word, Enter begins anew."""
    if pressed in _BACKSPACES:
        return typed[:-1]
    if pressed in ("\r", "\n"):
        return ""
    if pressed.isdigit() and 1 <= int(pressed) <= len(words):
        begun = len(typed) - len(typed.rpartition(" ")[2])
        return f"{typed[:begun]}{words[int(pressed) - 1]} "
    return typed + pressed if len(pressed) == 1 and pressed.isprintable() else typed


def _report(
    place: "AgentHome", model: "VerifiedModel", vocabulary: "Vocabulary", *, as_json: bool
) -> None:
    import msgspec

    from tacitly_client.assist.history import person_tokens
    from tacitly_client.assist.recurrent import RecurrentModel
    from tacitly_client.assist.savings import measure
    from tacitly_client.show import print_json

    tokens = person_tokens(place.store, vocabulary, _say)
    savings = measure(tokens, RecurrentModel(model.plan.model, model.vector), vocabulary)
    if as_json:
        of = {"plan_hash": model.receipt.plan_hash, "round": model.receipt.round}
        print_json({**of, **msgspec.to_builtins(savings)})
        return
    click.echo(
        f"campaign {model.plan.name}, round {model.receipt.round}; your habits from "
        f"{savings.learned_tokens} events, measured on the {savings.held_out_tokens} after them"
    )
    click.echo(
        f"{'':<15}{'keys saved':>12}{'words offered':>16}{'next key':>12}{'next action':>14}"
    )
    for row in savings.rows:
        shares = (
            (row.keys_saved, row.keys, 12),
            (row.words_offered, row.words, 16),
            (row.key_hits, row.keys, 12),
            (row.action_hits, row.actions, 14),
        )
        cells = (
            f"{f'{part / whole:.1%}' if whole else '-':>{width}}" for part, whole, width in shares
        )
        click.echo(f"{row.method:<15}{''.join(cells)}")
    click.echo("at most: as if you looked at all three offers before every key")


def _say(damage: "Damage") -> None:
    click.echo(f"tacitly-agent: left out: {damage}", err=True)
