"""The notice: what it says, in both languages, and that its numbers are right."""

import math
import re
from decimal import Decimal

import pytest

from officers import AT, Log, genesis, lax_policy
from tacitly_client.notice import (
    RETENTION_DAYS,
    Language,
    NoticeError,
    Terms,
    desktop_language,
    notice_text,
    terms_of,
    words,
)
from tacitly_client.redaction import ContentLevel
from tacitly_common.accounting.odds import gaussian_mu, share_caught
from tacitly_common.accounting.subject import cap_nano_rho
from tacitly_common.contract.acts import begin
from tacitly_common.contract.log import Contract
from tacitly_common.purposes import Purpose

WIDTH = 78


def contract(**changes: object) -> Contract:
    return Log([begin(genesis(policy=lax_policy(**changes)), at=AT)]).contract


def terms(**changes: object) -> Terms:
    policy = {
        "purposes": tuple(sorted(Purpose)),
        "lifetime_epsilon": Decimal(8),
        "epoch_epsilon": Decimal("2.5"),
        "minimum_cohort": 321,
    }
    return terms_of(contract(**policy | changes))


@pytest.mark.parametrize("language", Language)
def test_the_notice_says_what_the_law_asks_for(language: Language) -> None:
    text = notice_text(terms(), language)
    flat = " ".join(text.split())
    stated = ["Example", "321", f" {RETENTION_DAYS} ", "8", "2.5", "0.000001", "WA-1"]
    stated += ["privacy@example.org", "egress.jsonl", "tacitly-agent consent withdraw"]
    stated += [*ContentLevel, *words(language).purposes.values()]
    assert [each for each in stated if each not in flat] == []
    assert "{" not in text
    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (Language.EN, ["Nobody can take your part", "no consequence", "Your rights"]),
        (Language.DE, ["Niemand kann", "keine Folgen", "Ihre Rechte"]),
    ],
)
def test_it_says_that_past_aggregates_cannot_be_recalled(
    language: Language, said: list[str]
) -> None:
    flat = " ".join(notice_text(terms(), language).split())
    assert [each for each in said if each not in flat] == []


def test_both_languages_have_the_same_sections() -> None:
    one, other = (notice_text(terms(), each).split("\n\n") for each in Language)
    assert len(one) == len(other)


@pytest.mark.parametrize("language", Language)
def test_its_odds_are_those_of_the_accounting(language: Language) -> None:
    text = notice_text(terms(), language)
    stated = re.findall(r"[Ee]psilon ([0-9.]+): (\d+)", text)
    assert len(stated) == 5
    for epsilon, caught in stated:
        mu = gaussian_mu(cap_nano_rho(float(epsilon), 1e-6))
        assert math.ceil(100 * share_caught(0.05, mu)) == int(caught)


@pytest.mark.parametrize("missing", ["workers_informed", "contact"])
def test_nobody_is_asked_before_workers_were_informed(missing: str) -> None:
    with pytest.raises(NoticeError, match=missing):
        terms_of(contract(**{missing: ""}))


def test_every_purpose_and_word_is_there_in_every_language() -> None:
    for language in Language:
        assert set(words(language).purposes) == set(Purpose)


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({"LANG": "de_AT.UTF-8"}, Language.DE),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, Language.EN),
        ({"LANG": "de"}, Language.DE),
        ({"LANG": "fr_FR.UTF-8"}, Language.EN),
        ({"LC_ALL": "", "LANG": "de_DE"}, Language.DE),
        ({}, Language.EN),
    ],
)
def test_the_desktop_says_the_language(environ: dict[str, str], language: Language) -> None:
    assert desktop_language(environ) is language
