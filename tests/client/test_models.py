"""Released models on a device: fetched from a real gRPC desk, believed only when they verify."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import scripted_desk
from homes import agree, model_bytes, training_plan
from officers import STRANGER, Log
from released import release
from scripted_desk import Desk
from stock_flower import eventually
from tacitly_client.campaigns import join
from tacitly_client.cli import cli
from tacitly_client.contract_store import ContractStore
from tacitly_client.home import AgentHome
from tacitly_client.ledger import DeviceLedger
from tacitly_client.ledger_report import ask_ledger
from tacitly_client.model_fetch import Fetched, fetch_model
from tacitly_client.models import Models, NoModelError
from tacitly_client.node.refresher import Refresher
from tacitly_common.campaign import CampaignPlan, revise
from tacitly_common.contract.acts import Limit
from tacitly_common.contract.model_receipt import ModelRefusedError
from tacitly_server import certificates

PLAN = training_plan()
OTHER = revise(PLAN, rounds=19)
MODEL = model_bytes(PLAN)


def model_of(number: int) -> bytes:
    """Another model for each number."""
    vector = np.full(PLAN.model.parameters, number, dtype="<f4")
    return vector.tobytes()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("server") / "tls"
    certificates.create(made, ["127.0.0.1"], now=datetime.now(UTC))
    return made


@pytest.fixture
def log() -> Log:
    return Log().start(PLAN)


@pytest.fixture
def desk(tls: Path, log: Log) -> Iterator[Desk]:
    with scripted_desk.running(tls, log.lines) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path, tls: Path, log: Log, desk: Desk) -> AgentHome:
    home = AgentHome(tmp_path)
    agree(home, log, desk=desk.address)
    DeviceLedger.create(home.ledger).close()
    home.ca_certificate.write_bytes((tls / "ca.crt").read_bytes())
    return home


def now() -> datetime:
    return datetime.now(UTC)


def refresher(home: AgentHome) -> Refresher:
    return Refresher(
        home,
        report=lambda: ask_ledger(home.ledger),
        seconds=0.1,
        now=now,
        uniform=lambda _low, high: high,
    )


def fetch(home: AgentHome, plan: CampaignPlan = PLAN) -> Fetched | None:
    return fetch_model(home, plan.hash, now=now())


def run(home: AgentHome, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--home", str(home.root)])


def test_a_released_model_is_fetched_verified_and_kept(home: AgentHome, desk: Desk) -> None:
    desk.models[PLAN.hash] = release(PLAN)
    fetched = fetch(home)
    assert fetched is not None
    assert fetched.new
    model = Models.open(home).load(PLAN)
    assert model.vector.tobytes() == MODEL
    assert model.receipt == fetched.receipt
    assert oct(home.models.stat().st_mode)[-3:] == "700"
    (file,) = home.models.glob("*.model")
    assert oct(file.stat().st_mode)[-3:] == "600"


def test_without_a_release_there_is_nothing_to_keep(home: AgentHome, desk: Desk) -> None:
    assert fetch(home) is None
    assert not home.models.exists()
    with pytest.raises(NoModelError, match="model fetch"):
        Models.open(home).newest()


def test_a_model_that_is_here_costs_one_small_request(home: AgentHome, desk: Desk) -> None:
    desk.models[PLAN.hash] = release(PLAN)
    fetch(home)
    desk.model_requests.clear()
    again = fetch(home)
    assert again is not None
    assert not again.new
    assert [request.most_bytes for request in desk.model_requests] == [0]


def test_a_large_model_comes_in_parts(home: AgentHome, desk: Desk) -> None:
    desk.models[PLAN.hash] = release(PLAN)
    desk.most_part_bytes = 1_000
    fetch(home)
    assert Models.open(home).load(PLAN).vector.tobytes() == MODEL
    assert len(desk.model_requests) == 1 + -(-len(MODEL) // 1_000)


def test_a_release_while_fetching_is_begun_anew(home: AgentHome, desk: Desk) -> None:
    desk.models[PLAN.hash] = release(PLAN)
    desk.most_part_bytes = 1_000

    def newer() -> None:
        if len(desk.model_requests) == 2:
            desk.models[PLAN.hash] = release(PLAN, model_of(4), round=4)

    desk.before = newer
    fetched = fetch(home)
    assert fetched is not None
    assert fetched.receipt.round == 4
    assert Models.open(home).load(PLAN).vector.tobytes() == model_of(4)


def test_a_desk_that_never_serves_one_model_is_given_up(home: AgentHome, desk: Desk) -> None:
    desk.most_part_bytes = 1_000

    def always_newer() -> None:
        number = len(desk.model_requests) + 1
        desk.models[PLAN.hash] = release(PLAN, model_of(number), round=1, attempt=number)

    desk.before = always_newer
    with pytest.raises(ModelRefusedError, match="another model each of 3 times"):
        fetch(home)
    assert len(desk.model_requests) < 20


FORGED = {
    "signed by a stranger": (release(PLAN, key=STRANGER), "not signed with the grant key"),
    "another plan's": (release(OTHER), "is of campaign"),
    "another hash": (release(PLAN, model_sha256="0" * 64), "not the one its receipt names"),
    "short": (release(PLAN, MODEL[:-4]), "bytes, the plan's has"),
    "no numbers": (release(PLAN, b"\xff" * len(MODEL)), "not finite"),
    "too late a round": (release(PLAN, round=PLAN.rounds + 1), "the plan has"),
    "no receipt": ((b"nonsense", MODEL), "malformed"),
}
STALE = {
    "old": (release(PLAN, model_of(1), round=2), "this machine has round 3"),
    "a second one": (release(PLAN, model_of(1)), "two models are signed"),
}


def assert_refused(home: AgentHome, words: str) -> None:
    result = run(home, "model", "fetch")
    assert isinstance(result.exception, ModelRefusedError)
    assert result.exception.exit_code == 5
    assert words in str(result.exception)


@pytest.mark.parametrize(("bad", "words"), FORGED.values(), ids=FORGED)
def test_a_forged_model_is_refused_with_5_and_nothing_is_kept(
    home: AgentHome, desk: Desk, bad: tuple[bytes, bytes], words: str
) -> None:
    desk.models[PLAN.hash] = bad
    assert_refused(home, words)
    assert not home.models.exists()


@pytest.mark.parametrize(("bad", "words"), STALE.values(), ids=STALE)
def test_an_old_or_second_model_is_refused_with_5_and_the_first_stays(
    home: AgentHome, desk: Desk, bad: tuple[bytes, bytes], words: str
) -> None:
    desk.models[PLAN.hash] = release(PLAN)
    fetch(home)
    desk.models[PLAN.hash] = bad
    assert_refused(home, words)
    assert Models.open(home).load(PLAN).vector.tobytes() == MODEL


def test_no_model_of_a_campaign_that_was_not_started_is_asked_for(
    home: AgentHome, desk: Desk, log: Log
) -> None:
    log.propose(OTHER)
    ContractStore(home).extend(log.lines[-1:], after=len(log.lines) - 1)
    desk.models[OTHER.hash] = release(OTHER)
    with pytest.raises(ModelRefusedError, match="not approved by two officers and started"):
        fetch(home, OTHER)
    with pytest.raises(ModelRefusedError, match="UNKNOWN_PLAN"):
        fetch(home, revise(PLAN, rounds=18))
    assert desk.model_requests == []


def test_a_model_file_that_was_altered_is_refused_and_fetched_anew(
    home: AgentHome, desk: Desk
) -> None:
    desk.models[PLAN.hash] = release(PLAN)
    fetch(home)
    (file,) = home.models.glob("*.model")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelRefusedError):
        Models.open(home).newest()
    fetched = fetch(home)
    assert fetched is not None
    assert fetched.new
    assert Models.open(home).newest().vector.tobytes() == MODEL


def test_two_that_fetch_at_once_end_with_the_newest(home: AgentHome) -> None:
    models = Models.open(home)
    rounds = [3, 9, 4, 12, 7, 11, 5, 8]

    def keep(number: int) -> None:
        with suppress(ModelRefusedError):
            models.keep(PLAN, *release(PLAN, model_of(number), round=number))

    threads = [threading.Thread(target=keep, args=(number,)) for number in rounds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert models.load(PLAN).receipt.round == 12
    assert models.load(PLAN).vector.tobytes() == model_of(12)


def test_suggestions_use_the_joined_campaign_else_what_was_released_last(
    home: AgentHome, log: Log
) -> None:
    log.start(OTHER)
    ContractStore(home).extend(log.lines[5:], after=5)
    models = Models.open(home)
    later = datetime(2026, 11, 23, tzinfo=UTC)
    models.keep(PLAN, *release(PLAN))
    models.keep(OTHER, *release(OTHER, released_at=later))
    assert models.newest().plan == OTHER
    join(home, PLAN, "what was asked", now=now())
    assert models.newest().plan == PLAN


def test_a_campaign_that_is_over_keeps_its_model(home: AgentHome, desk: Desk, log: Log) -> None:
    desk.models[PLAN.hash] = release(PLAN)
    fetch(home)
    log.add("dan", Limit(plan_hash=PLAN.hash, last_round=0, reason="done"))
    ContractStore(home).extend(log.lines[-1:], after=len(log.lines) - 1)
    assert Models.open(home).newest().plan == PLAN
    assert run(home, "model", "fetch").output.startswith("no campaign runs")
    assert "held already" in run(home, "model", "fetch", PLAN.hash[:12]).output


def test_the_refresher_fetches_whether_or_not_the_person_joined(
    home: AgentHome, desk: Desk
) -> None:
    desk.models[PLAN.hash] = release(PLAN)
    assert not home.plan.exists()
    with refresher(home):
        eventually(home.models.exists)
        eventually(lambda: Models.open(home).held(PLAN) is not None)
        desk.models[PLAN.hash] = release(PLAN, model_of(4), round=4)
        eventually(lambda: Models.open(home).load(PLAN).receipt.round == 4)


def test_the_refresher_goes_on_after_a_bad_model(
    home: AgentHome, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.models[PLAN.hash] = release(PLAN, key=STRANGER)
    with refresher(home):
        eventually(lambda: "refused a model" in caplog.text)
        desk.models[PLAN.hash] = release(PLAN)
        eventually(home.models.exists)
    assert len(desk.refreshes) >= 2


def test_each_request_for_a_model_is_in_the_journal(home: AgentHome, desk: Desk) -> None:
    desk.models[PLAN.hash] = release(PLAN)
    fetch(home)
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in home.egress_journal.read_text().splitlines()
    ]
    assert [(line["call"], line["plan"], line["bytes"]) for line in lines] == [
        ("model", PLAN.hash, request.ByteSize()) for request in desk.model_requests
    ]


def test_the_commands_say_which_model_is_here(home: AgentHome, desk: Desk) -> None:
    assert "no round was released yet" in run(home, "model", "fetch").output
    desk.models[PLAN.hash] = release(PLAN)
    assert "round 3, released 2026-11-20 12:00 UTC, new" in run(home, "model", "fetch").output
    shown = json.loads(run(home, "model", "show", "--format", "json").output)
    assert shown["model_sha256"] == hashlib.sha256(MODEL).hexdigest()
    assert (shown["round"], shown["plan_hash"]) == (3, PLAN.hash)
    assert PLAN.name in run(home, "model", "show").output
