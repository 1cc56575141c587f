"""What an agent's home answers to a job, with its real store, ledger and disk."""

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import numpy as np
import pytest

from device_ledgers import charge
from homes import JOB_COST, make_home, model_bytes, training_plan
from plans import EPOCH, masked_plan
from tacitly_client.home import AgentHome, read_settings
from tacitly_client.ledger import AttemptKey, AttemptState, DeviceLedger
from tacitly_client.store import EventStore
from tacitly_client.training.attempt import answer
from tacitly_client.training.baseline import TrainingError
from tacitly_client.training.outbox import Outbox
from tacitly_client.training.pipe import Job
from tacitly_common.accounting.record import NO_RDP, compose, epsilon_of_rdp, rdp_of_steps
from tacitly_common.campaign import CampaignPlan, ParticipationLimits, PlanError
from tacitly_common.errors import LedgerError
from tacitly_common.events import Event, EventKind
from tacitly_common.mechanisms.rounded_gaussian import centred
from tacitly_common.model_config import ModelConfig
from tacitly_common.wire.codes import ReplyCode

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)


@pytest.fixture
def plan() -> CampaignPlan:
    return training_plan()


@pytest.fixture
def home(tmp_path, plan) -> AgentHome:
    return make_home(tmp_path / "agent", plan)


def ask(home, plan, *, round_=1, attempt=1, plan_hash=None, body=None, now=NOW):
    job = Job(plan_hash=plan_hash or plan.hash, round=round_, attempt=attempt)
    body = model_bytes(plan) if body is None else body
    return answer(home, plan, read_settings(home), job, body, now=now)


def spent(home) -> int:
    with DeviceLedger.open(home.ledger) as books:
        return books.spent_nano_rho()


def record_rdp(home, plan) -> tuple[int, ...]:
    with DeviceLedger.open(home.ledger) as books:
        return books.record_rdp(plan.hash)


def rdp_of(plan, attempts: int) -> tuple[int, ...]:
    record = plan.record
    one = rdp_of_steps(record.noise_multiplier, record.sample_rate, record.steps)
    total = NO_RDP
    for _ in range(attempts):
        total = compose(total, one)
    return total


def test_an_update_is_charged_kept_and_accounted(home, plan):
    code, update = ask(home, plan)
    assert code is ReplyCode.OK
    assert len(update) == 4 * plan.model.trainable_parameters
    assert np.frombuffer(update, "<i4").any()
    key = AttemptKey(plan.hash, 1, 1)
    assert Outbox(home.outbox).read(key) == update
    with DeviceLedger.open(home.ledger) as books:
        assert books.state(key) is AttemptState.RELEASED
        assert books.spent_nano_rho() == JOB_COST == plan.cost_nano_rho
        assert books.spent_of_epoch_nano_rho(EPOCH) == JOB_COST
    assert record_rdp(home, plan) == rdp_of(plan, 1)


def test_adapters_are_all_that_a_device_trains_where_the_plan_says_so(tmp_path):
    whole = training_plan().model
    adapted = msgspec.structs.replace(whole, trainable=("gru.up", "output.up"), adapter_rank=2)
    plan = training_plan(model=adapted)
    home = make_home(tmp_path / "agent", plan)
    code, update = ask(home, plan)
    assert code is ReplyCode.OK
    moved = np.frombuffer(update, "<i4")
    assert len(moved) == 2 * (3 * whole.hidden + whole.vocabulary_size)
    assert np.std(moved * plan.grid_step) == pytest.approx(plan.noise_share_std, rel=0.25)
    assert spent(home) == JOB_COST


def test_where_sums_are_masked_an_update_is_residues_of_the_plans_width(tmp_path):
    """Noised, and within the field: the same charge as that of any update with this z."""
    masked = masked_plan()
    plan = training_plan(subject=masked.subject, masking=masked.masking)
    home = make_home(tmp_path / "agent", plan)
    code, update = ask(home, plan)
    assert code is ReplyCode.OK
    residues = np.frombuffer(update, "<u4")
    assert len(residues) == plan.model.trainable_parameters
    assert residues.max() < 1 << plan.field_bits
    signed = centred(residues, plan)
    # The share's standard deviation, of some hundred coordinates; the update is far below it.
    assert float(np.std(signed)) == pytest.approx(plan.share_steps, rel=0.25)
    assert spent(home) == plan.cost_nano_rho == JOB_COST
    assert ask(home, plan) == (code, update)


def test_the_same_attempt_gets_the_same_bytes_and_no_new_charge(home, plan):
    assert ask(home, plan) == ask(home, plan)
    assert spent(home) == JOB_COST
    assert record_rdp(home, plan) == rdp_of(plan, 1)


def test_another_attempt_is_charged_and_noised_anew(home, plan):
    first, second = ask(home, plan, attempt=1), ask(home, plan, attempt=2)
    assert first[0] is second[0] is ReplyCode.OK
    assert first[1] != second[1]
    assert spent(home) == 2 * JOB_COST
    assert record_rdp(home, plan) == rdp_of(plan, 2)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"plan_hash": "f" * 64}, ReplyCode.UNKNOWN_PLAN),
        ({"round_": 0}, ReplyCode.ROUND_OUT_OF_RANGE),
        ({"round_": 21}, ReplyCode.ROUND_OUT_OF_RANGE),
        ({"body": b""}, ReplyCode.WRONG_MODEL),
        ({"body": model_bytes(training_plan())[:-4]}, ReplyCode.WRONG_MODEL),
        ({"body": bytes(4 * training_plan().model.parameters)}, ReplyCode.WRONG_MODEL),
        (
            {"round_": 2, "body": b"\xff" * (4 * training_plan().model.parameters)},
            ReplyCode.WRONG_MODEL,
        ),
    ],
)
def test_a_job_that_is_not_the_plans_is_refused_without_a_charge(home, plan, changes, code):
    assert ask(home, plan, **changes) == (code, b"")
    assert not home.ledger.exists() or spent(home) == 0


def test_a_later_round_may_start_from_any_finite_model(home, plan):
    body = bytes(4 * plan.model.parameters)
    assert ask(home, plan, round_=2, body=body)[0] is ReplyCode.OK


def test_an_empty_store_is_charged_and_answered_with_noise_like_any_other(tmp_path, plan):
    home = make_home(tmp_path / "agent", plan, text="")
    code, update = ask(home, plan)
    assert code is ReplyCode.OK
    assert len(update) == 4 * plan.model.trainable_parameters
    assert np.frombuffer(update, "<i4").any()
    assert spent(home) == JOB_COST


@pytest.mark.parametrize("lifetime_attempts", [2, 100])
def test_an_exhausted_budget_is_refused_and_kept_results_stay(tmp_path, lifetime_attempts):
    plan = training_plan(participations=3)
    home = make_home(tmp_path / "agent", plan, lifetime_attempts=lifetime_attempts)
    affordable = min(3, lifetime_attempts)
    answers = [ask(home, plan, attempt=n) for n in range(affordable)]
    assert all(code is ReplyCode.OK for code, _ in answers)
    assert ask(home, plan, attempt=50) == (ReplyCode.BUDGET_EXHAUSTED, b"")
    assert ask(home, plan, attempt=0) == answers[0]
    assert spent(home) == affordable * JOB_COST


def test_a_charged_attempt_without_a_result_is_lost_for_good(home, plan):
    key = AttemptKey(plan.hash, 1, 1)
    with DeviceLedger.open(home.ledger) as books:
        charge(books, key, cost_nano_rho=JOB_COST)
    assert ask(home, plan) == (ReplyCode.DEVICE_FAULT, b"")
    with DeviceLedger.open(home.ledger) as books:
        assert books.state(key) is AttemptState.LOST
    assert ask(home, plan) == (ReplyCode.DEVICE_FAULT, b"")
    assert spent(home) == JOB_COST


def test_training_that_leaves_the_finite_numbers_is_answered_like_any_other(tmp_path):
    # Were it answered DEVICE_FAULT, a hostile model could ask with it what the events hold.
    plan = training_plan(
        record={"learning_rate": Decimal("1e38"), "noise_multiplier": Decimal(1000)}
    )
    home = make_home(tmp_path / "agent", plan)
    code, update = ask(home, plan)
    assert code is ReplyCode.OK
    assert np.frombuffer(update, "<i4").any()
    with DeviceLedger.open(home.ledger) as books:
        assert books.state(AttemptKey(plan.hash, 1, 1)) is AttemptState.RELEASED


def test_a_disk_that_is_full_at_the_outbox_loses_the_attempt_and_nothing_else(
    home, plan, monkeypatch
):
    first = ask(home, plan)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            ask(home, plan, attempt=2)
    assert ask(home, plan, attempt=2) == (ReplyCode.DEVICE_FAULT, b"")
    assert ask(home, plan) == first
    assert sorted(path.suffix for path in home.outbox.iterdir()) == [".update"]
    assert spent(home) == 2 * JOB_COST


def test_results_of_a_former_plan_are_removed(home, plan):
    former = AttemptKey("e" * 64, 1, 1)
    Outbox(home.outbox).write(former, b"old")
    ask(home, plan)
    assert Outbox(home.outbox).read(former) is None


def test_a_plan_whose_model_does_not_fit_its_vocabulary_is_an_error(tmp_path):
    plan = training_plan(model=ModelConfig(vocabulary_size=11, embedding=2, hidden=2))
    home = make_home(tmp_path / "agent", plan)
    with pytest.raises(PlanError, match="11 tokens"):
        ask(home, plan)
    assert spent(home) == 0


def test_the_newest_events_are_not_trained_on(tmp_path, monkeypatch):
    plan = training_plan()
    home = make_home(tmp_path / "agent", plan, text="a" * 80 + "b" * 20)
    seen = []

    def stop(_plan, _model, windows, **_):
        seen.append(windows)
        raise TrainingError("seen enough")

    monkeypatch.setattr("tacitly_client.training.attempt.train", stop)
    with pytest.raises(TrainingError, match="seen enough"):
        ask(home, plan)
    with EventStore.open(home.store) as store:
        assert store.count() == 100
    assert len(np.unique(seen[0])) == 2  # START and "a"


def test_the_first_round_starts_from_the_model_that_the_plan_names(home, plan):
    body = model_bytes(plan)
    assert hashlib.sha256(body).hexdigest() == plan.initial_model_hash
    other = (np.frombuffer(body, "<f4") * 2).astype("<f4").tobytes()
    assert ask(home, plan, body=other) == (ReplyCode.WRONG_MODEL, b"")
    assert ask(home, plan, round_=2, body=other)[0] is ReplyCode.OK


def test_without_its_ledger_a_device_releases_nothing_and_begins_none(home, plan):
    home.ledger.unlink()
    with pytest.raises(LedgerError, match="is missing"):
        ask(home, plan)
    assert not home.ledger.exists()
    assert not list(home.outbox.iterdir())


def test_steps_beyond_the_record_levels_cap_are_refused_before_the_model_learns(
    tmp_path, monkeypatch
):
    plan = training_plan()
    two = Decimal(epsilon_of_rdp(rdp_of(plan, 2), plan.delta)).quantize(Decimal("0.01"))
    plan = training_plan(record={"cap_epsilon": two + Decimal("0.01")})
    home = make_home(tmp_path / "agent", plan)
    answers = [ask(home, plan, attempt=n) for n in range(2)]
    assert all(code is ReplyCode.OK for code, _ in answers)

    def learn(*_, **__):
        pytest.fail("the model learned")

    monkeypatch.setattr("tacitly_client.training.attempt.train", learn)
    assert ask(home, plan, attempt=2) == (ReplyCode.RECORD_BUDGET_EXHAUSTED, b"")
    assert ask(home, plan, attempt=1) == answers[1]
    assert spent(home) == 2 * JOB_COST
    assert record_rdp(home, plan) == rdp_of(plan, 2)


def test_what_training_may_cost_is_on_the_disk_before_it_begins(home, plan, monkeypatch):
    found = []

    def look(*_, **__):
        found.append((spent(home), record_rdp(home, plan)))
        raise TrainingError("seen enough")

    monkeypatch.setattr("tacitly_client.training.attempt.train", look)
    with pytest.raises(TrainingError, match="seen enough"):
        ask(home, plan)
    assert found == [(JOB_COST, rdp_of(plan, 1))]
    assert record_rdp(home, plan) == rdp_of(plan, 1)


def test_a_round_too_soon_after_another_is_refused_and_a_retry_is_not(tmp_path):
    limits = ParticipationLimits(per_campaign=4, per_epoch=4, minimum_gap_hours=24)
    plan = training_plan(participation=limits)
    home = make_home(tmp_path / "agent", plan)
    body = bytes(4 * plan.model.parameters)
    assert ask(home, plan)[0] is ReplyCode.OK
    assert ask(home, plan, attempt=2)[0] is ReplyCode.OK
    assert ask(home, plan, round_=2, body=body) == (ReplyCode.TOO_SOON, b"")
    later = NOW + timedelta(hours=24)
    assert ask(home, plan, round_=2, body=body, now=later)[0] is ReplyCode.OK
    assert spent(home) == 3 * JOB_COST


def test_days_go_once_the_campaign_has_no_other_attempt_for_them(tmp_path):
    plan = training_plan(participations=2)
    home = make_home(tmp_path / "agent", plan, text="")
    with EventStore.open(home.store) as store:
        for day in (11, 12, 13):
            store.append(typed_on(datetime(2023, 11, day, tzinfo=UTC), 40))

    def days_left() -> list[int]:
        with EventStore.open(home.store) as store:
            return [day.day for day in store.days()]

    ask(home, plan, round_=1)
    assert days_left() == [11, 12, 13]
    ask(home, plan, round_=2)
    # The newest fifth of the tokens is held out: it is of the 13th, and not learned from.
    assert days_left() == [13]


def test_the_last_round_is_the_last_attempt(tmp_path):
    plan = training_plan()
    home = make_home(tmp_path / "agent", plan, text="")
    with EventStore.open(home.store) as store:
        for day in (11, 12):
            store.append(typed_on(datetime(2023, 11, day, tzinfo=UTC), 40))
    ask(home, plan, round_=plan.rounds)
    with EventStore.open(home.store) as store:
        assert [day.day for day in store.days()] == [12]


def typed_on(day: datetime, keys: int) -> list[Event]:
    start_ns = int(day.timestamp()) * 10**9
    return [
        Event(EventKind.KEY_DOWN, n * 10**8, start_ns + n * 10**8, key="a") for n in range(keys)
    ]
