"""What an officer types and reads: one JSON document, tables of 80 columns, exit codes."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from officers import lax_policy
from plans import masked_plan, small_plan
from tacitly_common.accounting.subject import cap_nano_rho, epsilon_of
from tacitly_common.campaign import (
    CampaignPlan,
    ParticipationLimits,
    PlanError,
    SubjectMechanism,
    revise,
)
from tacitly_common.contract.acts import OutsidePolicyError
from tacitly_common.errors import BudgetExceededError, ValidationError
from tacitly_server.officer import cli
from tacitly_server.officer.plan_diff import MORE_IS_LOOSER, MORE_IS_TIGHTER, plan_fields

EXAMPLE = (
    *("plan", "solve", "--population", 5_000, "--cohort", 200, "--rounds", 200),
    *("--epsilon", 4, "--delta", "1e-6", "--participations", 10),
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)), env={"COLUMNS": "80"})


def document(*arguments: object, exit_error: type[Exception] | None = None) -> dict[str, Any]:
    """The one JSON document of a command, which ended well or with the error that is named."""
    result = run(*arguments, "--format", "json")
    if exit_error is None:
        assert result.exception is None, result.output
    else:
        assert isinstance(result.exception, exit_error), result.output
    parsed: dict[str, Any] = json.loads(result.stdout)
    assert parsed["schema_version"] == 1
    return parsed


def written(path: Path, plan: CampaignPlan) -> Path:
    path.write_bytes(plan.to_json())
    return path


def test_solve_answers_the_question_of_the_worked_example() -> None:
    answer = document(*EXAMPLE)
    assert answer["solved_for"] == "noise_multiplier"
    assert answer["noise_multiplier"] == 3.775
    assert answer["cap_nano_rho"] == 351_003_648
    assert 10 * answer["cost_nano_rho"] <= answer["cap_nano_rho"] < 11 * answer["cost_nano_rho"]
    assert answer["participations_feasible"] == 10
    assert answer["rounds_feasible"] == 250
    spent = answer["worst_person_nano_rho"]
    assert epsilon_of(spent, 1e-6) * (1 - 1e-9) <= answer["epsilon_worst_person"] <= 4
    assert {"false_alarms": 5.0, "caught": pytest.approx(21, abs=0.5)} in answer["odds"]
    for row in answer["adversaries"]:
        assert {"name", "epsilon", "delta"} <= set(row)
    assert answer["warnings"] == []


@pytest.mark.parametrize(
    ("unknown", "value"),
    [
        ("noise_multiplier", 3.775),
        ("epsilon", 3.9991),
        ("rounds", 250),
        ("participations", 10),
        ("cohort", 250),
        ("population", 4_000),
    ],
)
def test_what_is_left_out_is_solved_for(unknown: str, value: float) -> None:
    known = {"population": 5_000, "cohort": 200, "rounds": 200, "participations": 10}
    known |= {"epsilon": 4, "noise_multiplier": 3.775}  # type: ignore[dict-item]
    del known[unknown]
    options = [part for k, v in known.items() for part in (f"--{k.replace('_', '-')}", v)]
    answer = document("plan", "solve", *options)
    assert (answer["solved_for"], answer[unknown]) == (unknown, value)


MASKED = (*EXAMPLE, "--masked", "--minimum", 150, "--model-parameters", 100_000)


def test_solve_shows_every_row_and_the_width_of_sums_under_masks() -> None:
    answer = document(*MASKED)
    assert answer["noise_multiplier"] == 3.775
    masked = answer["masked"]
    assert (masked["groups"], masked["largest_group"], masked["fewest_answers"]) == (1, 200, 150)
    assert masked["coordinate_bits"] == 19
    assert masked["update_bytes"] == 19 * 100_000 // 8
    assert 1 < masked["norm_growth"] < 1.002
    assert masked["threshold"] > masked["neighbours"] / 2
    spent = answer["worst_person_nano_rho"]
    epsilons = {row["name"]: row["epsilon"] for row in answer["adversaries"]}
    # 20 colluders among 150 answers leave 130 shares of noise; a broken protocol leaves one.
    for name, shares in (
        ("anyone with a released model", 150),
        ("the honest-but-curious server", 150),
        ("the server with 10% of the cohort colluding", 130),
        ("whoever broke the secure aggregation", 1),
    ):
        assert epsilons[name] == pytest.approx(epsilon_of(spent * 150 // shares, 1e-6), abs=2e-4)
    assert {row["holds"] for row in answer["adversaries"]} == {"today"}
    assert document(*EXAMPLE)["masked"] is None


def test_small_groups_are_paid_for_in_the_servers_row() -> None:
    answer = document(*MASKED, "--group-size", 50)
    assert (answer["masked"]["groups"], answer["masked"]["fewest_answers"]) == (4, 38)
    spent = answer["worst_person_nano_rho"]
    server = answer["adversaries"][1]["epsilon"]
    assert server == pytest.approx(epsilon_of(-(-spent * 150 // 38), 1e-6), abs=2e-4)


def test_what_the_masks_are_not_made_for_is_said_with_the_fix() -> None:
    answer = document(*MASKED, "--minimum", 170, "--colluding", "0.3")
    assert [(one["code"], one["fix"]) for one in answer["warnings"]] == [
        ("dropout_loses_rounds", "lower the minimum to 160 (more noise each), or ask more"),
        ("masks_do_not_hold", "plan for a corruption of 0.3"),
        (
            "ring_can_be_cut",
            "take groups of at most 100, or a server that is not to be doubted so far",
        ),
    ]


def test_a_masked_plan_is_checked_and_compared_like_any_other(tmp_path: Path) -> None:
    plan = masked_plan()
    masked, plain = (
        written(tmp_path / "m.json", plan),
        written(tmp_path / "p.json", small_plan()),
    )
    answer = document("plan", "check", masked)
    assert answer["hash"] == plan.hash
    assert answer["masked"]["coordinate_bits"] == plan.field_bits
    assert answer["masked"]["wrap_bits"] == 40
    server, broken = (answer["adversaries"][row]["epsilon"] for row in (1, 3))
    assert server == answer["epsilon_worst_person"] < broken
    assert "Sums under masks" in run("plan", "check", masked).stdout
    changes = {one["field"]: one for one in document("plan", "diff", masked, plain)["changes"]}
    assert changes["masking.corruption"] == {
        "field": "masking.corruption",
        "before": 0.1,
        "after": None,
        "direction": "looser",
    }
    assert document("plan", "diff", plain, masked)["looser"] is False


def test_over_the_budget_everything_is_shown_and_the_exit_says_so() -> None:
    answer = document(*EXAMPLE, "--noise-multiplier", "3.774", exit_error=BudgetExceededError)
    assert (answer["within_budget"], answer["participations_feasible"]) == (False, 9)
    script = Path(sys.executable).with_name("tacitly-officer")
    ended = subprocess.run(
        [script, *map(str, EXAMPLE), "--noise-multiplier", "3.774", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3
    assert json.loads(ended.stdout) == answer
    assert ended.stderr.count("\n") == 1
    assert "raise the noise multiplier to 3.775" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "solve", "--epsilon", "4"], "settings are missing"),
        (["plan", "solve", "--epsilon", "-4"], "see `tacitly-officer plan solve --help`"),
        (["plan", "solve", "--noise-multiplier", "much"], "'much' is not a decimal number"),
        (["plan", "solve", "--noise-multiplier", "NaN"], "'NaN' is not a finite number"),
        (["plan", "check", "nowhere.json"], "'nowhere.json' does not exist"),
        (["account", "--unit", "subject"], "--noise-multiplier"),
        ([*map(str, EXAMPLE), "--delta", "1"], "delta is 1"),
        ([*map(str, MASKED), "--group-size", "1"], "group_size must lie in [2, "),
        ([*map(str, MASKED), "--group-size", "2", "--minimum", "100"], "raise the group size"),
        ([*map(str, MASKED), "--dropout", "1"], "dropout must lie in [0, 0.49]"),
        (
            [*map(str, MASKED), "--cohort", "2000", "--group-size", "1024"],
            "lower the group size",
        ),
        (
            [
                *("account", "--unit", "record", "--noise-multiplier", "0.001"),
                *("--sample-rate", "0.5", "--steps", "1000000", "--delta", "1e-6"),
            ],
            "have no finite ε; raise the noise multiplier",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    script = Path(sys.executable).with_name("tacitly-officer")
    ended = subprocess.run(
        [script, *arguments, "--format", "json"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("tacitly-officer: ")
    assert ended.stderr.count("\n") == 1
    assert message in ended.stderr


def test_a_reader_who_has_seen_enough_ends_the_command_quietly() -> None:
    script = Path(sys.executable).with_name("tacitly-officer")
    with subprocess.Popen(
        [script, *map(str, EXAMPLE), "--format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [EXAMPLE, (*EXAMPLE, "--model-parameters", 43_454, "--minimum", 150), MASKED],
)
def test_tables_fit_80_columns_and_show_what_was_solved_for(arguments: tuple[object, ...]) -> None:
    shown = run(*arguments).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "3.775  <- solved for" in shown
    assert "someone with the laptop" in shown
    assert "…" not in shown


def test_account_for_a_persons_releases() -> None:
    answer = document(
        *("account", "--unit", "subject", "--noise-multiplier", "3.78"),
        *("--participations", 10, "--delta", "1e-6"),
    )
    assert answer["spent_nano_rho"] == 349_934_220
    assert answer["epsilon"] == 3.9932


def test_account_for_steps_of_dp_sgd() -> None:
    arguments = (
        *("account", "--unit", "record", "--noise-multiplier", "1.1", "--sample-rate", "0.01"),
        *("--steps", 1_000, "--delta", "1e-5"),
    )
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    event = PoissonSampledDpEvent(0.01, GaussianDpEvent(1.1))
    theirs = RdpAccountant().compose(event, 1_000).get_epsilon(1e-5)
    assert document(*arguments)["epsilon"] == pytest.approx(theirs, rel=0.05)
    assert "record" in run(*arguments).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--unit", "subject"), "--unit subject needs --participations"),
        (("--unit", "record", "--steps", "5"), "--unit record needs --sample-rate"),
        (
            ("--unit", "subject", "--participations", "5", "--steps", "5"),
            "--steps is not for --unit subject",
        ),
    ],
)
def test_the_two_levels_are_not_mixed(arguments: tuple[str, ...], message: str) -> None:
    result = run("account", *arguments, "--noise-multiplier", 1, "--delta", "1e-6")
    assert result.exit_code == 2
    assert message in result.output


def test_a_plan_is_computed_anew(tmp_path: Path) -> None:
    plan = small_plan()
    answer = document("plan", "check", written(tmp_path / "plan.json", plan))
    assert answer["hash"] == plan.hash
    assert answer["worst_person_nano_rho"] == plan.cap_nano_rho
    assert answer["cost_nano_rho"] == plan.cost_nano_rho
    by_name = {row["name"]: row for row in answer["adversaries"]}
    delta = float(plan.delta)
    models = by_name["anyone with a released model"]["epsilon"]
    server = by_name["the server today, or whoever broke the secure aggregation"]["epsilon"]
    assert 0 <= models - epsilon_of(plan.cap_nano_rho, delta) < 2e-4
    assert 0 <= server - epsilon_of(plan.cohort.minimum * plan.cap_nano_rho, delta) < 2e-4
    assert by_name["the same, and everybody else colludes"]["protects"] == "window of events"
    shown = run("plan", "check", tmp_path / "plan.json").stdout
    assert plan.hash in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_the_record_levels_row_is_no_more_than_the_device_lets_it_be(tmp_path: Path) -> None:
    plan = small_plan()
    capped = revise(plan, record=msgspec.structs.replace(plan.record, cap_epsilon=Decimal(2)))
    answer = document("plan", "check", written(tmp_path / "plan.json", capped))
    (record,) = [row for row in answer["adversaries"] if row["protects"] != "person"]
    assert record["epsilon"] == 2


def test_a_plan_that_misstates_its_cost_is_refused(tmp_path: Path) -> None:
    raw = json.loads(small_plan().to_json())
    raw["worst_case"]["epsilon"] = "1"
    (tmp_path / "plan.json").write_text(json.dumps(raw))
    result = run("plan", "check", tmp_path / "plan.json")
    assert isinstance(result.exception, PlanError)
    assert "the plan states ε = 1" in str(result.exception)


def test_a_plan_over_a_given_budget_is_refused_after_it_is_shown(tmp_path: Path) -> None:
    path = written(tmp_path / "plan.json", small_plan())
    answer = document("plan", "check", path, "--epsilon", 2, exit_error=BudgetExceededError)
    assert answer["cap_nano_rho"] == cap_nano_rho(2.0, 1e-6)
    assert not answer["within_budget"]


def test_what_a_plans_own_limits_bring_is_said(tmp_path: Path) -> None:
    plan = revise(
        small_plan(),
        participation=ParticipationLimits(per_campaign=10, per_epoch=4, minimum_gap_rounds=5),
        expires=datetime(2020, 1, 1, tzinfo=UTC),
    )
    answer = document("plan", "check", written(tmp_path / "plan.json", plan))
    codes = [one["code"] for one in answer["warnings"]]
    assert codes == ["epoch_limit_binds", "gap_binds", "expired"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({}, None, ""),
        ({"minimum_noise_multiplier": Decimal(9)}, OutsidePolicyError, "noise_too_low"),
        ({"epoch_epsilon": Decimal(3)}, BudgetExceededError, "for a month's data; allow 5"),
        ({"lifetime_epsilon": Decimal(2)}, BudgetExceededError, "for a person's lifetime; allow 2"),
    ],
)
def test_a_plan_is_held_to_the_policy(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception] | None, message: str
) -> None:
    path = written(tmp_path / "plan.json", small_plan())
    policy = tmp_path / "policy.json"
    policy.write_bytes(msgspec.json.encode(lax_policy(**changes)))
    document("plan", "check", path, "--policy", policy, exit_error=error)
    assert message in str(run("plan", "check", path, "--policy", policy).exception or "")


def test_a_file_that_is_no_policy_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "plan.json", small_plan())
    (tmp_path / "policy.json").write_text("{}")
    result = run("plan", "check", path, "--policy", tmp_path / "policy.json")
    assert isinstance(result.exception, ValidationError)
    assert "tacitly-officer policy example" in str(result.exception)


def test_diff_says_which_way_each_change_goes(tmp_path: Path) -> None:
    before = small_plan()
    after = revise(
        before,
        name="other",
        subject=SubjectMechanism(clip_norm=Decimal("0.4"), noise_multiplier=Decimal("2.5")),
        data_epochs=("2023-10", "2023-11"),
        cohort=msgspec.structs.replace(before.cohort, minimum=5),
    )
    a, b = written(tmp_path / "a.json", before), written(tmp_path / "b.json", after)
    answer = document("plan", "diff", a, b)
    directions = {one["field"]: one["direction"] for one in answer["changes"]}
    assert directions == {
        "name": "other",
        "data_epochs": "looser",
        "subject.clip_norm": "tighter",
        "subject.noise_multiplier": "looser",
        "cohort.minimum": "tighter",
        "worst_case.nano_rho_per_participation": "looser",
        "worst_case.nano_rho_per_person": "looser",
        "worst_case.epsilon": "looser",
    }
    assert answer["looser"]
    assert answer["cost_nano_rho"] == {"before": before.cost_nano_rho, "after": 80_000_000}
    shown = run("plan", "diff", a, b).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    back = document("plan", "diff", b, a)
    assert {one["field"]: one["direction"] for one in back["changes"]}["data_epochs"] == "tighter"


def test_adapters_are_no_matter_of_protection(tmp_path: Path) -> None:
    """Fewer coordinates carry the noise of the same z, whose length `plan check` shows."""
    plain = small_plan()
    model = msgspec.structs.replace(plain.model, trainable=("output.up",), adapter_rank=2)
    adapted = revise(plain, model=model)
    a, b = written(tmp_path / "a.json", plain), written(tmp_path / "b.json", adapted)
    changes = document("plan", "diff", a, b)["changes"]
    assert {one["field"]: (one["after"], one["direction"]) for one in changes} == {
        "model.trainable": (["output.up"], "other"),
        "model.adapter_rank": (2, "other"),
    }
    assert run("plan", "diff", b, a).exit_code == 0
    lengths = [document("plan", "check", plan)["noise"]["mean_length"] for plan in (a, b)]
    assert lengths[1] / lengths[0] == pytest.approx(
        (2 * 11 / plain.model.parameters) ** 0.5, rel=1e-4
    )


def test_months_that_are_others_are_neither_tighter_nor_looser(tmp_path: Path) -> None:
    before = small_plan()
    a = written(tmp_path / "a.json", before)
    b = written(tmp_path / "b.json", revise(before, data_epochs=("2023-12",)))
    answer = document("plan", "diff", a, b)
    assert [one["direction"] for one in answer["changes"]] == ["other"]
    assert not answer["looser"]
    assert "The plans are the same." in run("plan", "diff", a, a).stdout


def test_every_field_with_a_direction_is_one_of_the_plan() -> None:
    assert set(dict(plan_fields(masked_plan()))) >= MORE_IS_LOOSER | MORE_IS_TIGHTER
    assert not MORE_IS_LOOSER & MORE_IS_TIGHTER
