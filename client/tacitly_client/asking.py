"""What somebody at this machine is asked for consent to capture; the command and the tray ask it.

asked = capture_asked(home, language)        # what is chosen now, or as said
print(asked.text)                            # the whole notice, then what is chosen
agree(home, asked, now=now)
"""

from collections.abc import Mapping
from datetime import datetime

from tacitly_client.choices import choose, read_choices
from tacitly_client.consent import Asked, give
from tacitly_client.contract_store import ContractStore
from tacitly_client.home import AgentHome
from tacitly_client.notice import Language, notice_text, terms_of, words
from tacitly_client.redaction import ContentLevel


def capture_asked(
    home: AgentHome,
    language: Language,
    *,
    level: ContentLevel | None = None,
    applications: Mapping[str, ContentLevel] | None = None,
) -> Asked:
    """What is asked: the levels that are chosen, but for what is given.

    Raises:
        NoticeError: the organisation has yet to say what people must be told.
        ContractError: the officers' log on this machine is unsound.
        ValidationError: no agent is enrolled here, or the choices cannot be read.
    """
    contract = ContractStore(home).load()
    chosen = read_choices(home)
    return Asked(
        text=notice_text(terms_of(contract), language),
        language=language,
        purposes=contract.policy.purposes,
        level=level or chosen.default,
        applications={**chosen.applications, **(applications or {})},
    )


def chosen_in_words(asked: Asked) -> str:
    """The levels that are asked for, in a line."""
    said = words(asked.language)
    others = (
        said.chosen_for.format(level=level, application=app)
        for app, level in sorted((asked.applications or {}).items())
    )
    return said.chosen.format(level=asked.level) + "".join(others) + "."


def agree(home: AgentHome, asked: Asked, *, now: datetime) -> None:
    """The person has read `asked` and agrees: a receipt, and the levels are in force.

    Raises:
        ValidationError, OSError: something could not be written; no more is captured than before.
    """
    give(home, asked, now=now)
    if asked.level is not None:
        choose(home, asked.level, asked.applications or {})
