"""The plan: canonical, strict, and the one place its bounds are stated."""

import hashlib
import math
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from plans import small_plan
from tacitly_common.campaign import (
    CohortPlan,
    PlanError,
    References,
    SubjectMechanism,
    check_epsilon,
    parse_plan,
    read_plan,
    revise,
)
from tacitly_common.errors import ValidationError
from tacitly_common.model_config import ModelConfig


def test_a_plan_survives_its_canonical_form() -> None:
    plan = small_plan()
    assert parse_plan(plan.to_json()) == plan


def test_the_hash_names_the_canonical_bytes_whatever_the_layout_read() -> None:
    plan = small_plan()
    assert plan.hash == hashlib.sha256(plan.to_json()).hexdigest()
    pretty = msgspec.json.format(plan.to_json(), indent=4)
    assert parse_plan(pretty).hash == plan.hash


@pytest.mark.parametrize("missing", ["dpia", "works_agreement"])
@pytest.mark.parametrize("value", ["", "  ", "x" * 201])
def test_a_plan_says_where_assessment_and_agreement_are_filed(missing: str, value: str) -> None:
    filed = {"dpia": "DPIA-1", "works_agreement": "WA-1"} | {missing: value}
    with pytest.raises(PlanError, match=f"references.{missing} must say"):
        small_plan(references=References(**filed))


def test_any_changed_field_changes_the_hash() -> None:
    assert small_plan(rounds=21).hash != small_plan().hash


def test_decimals_are_strings_in_json() -> None:
    assert b'"noise_multiplier":"3.78"' in small_plan().to_json()


def test_unknown_missing_and_mistyped_fields_are_refused_and_placed() -> None:
    document = small_plan().to_json()
    with pytest.raises(PlanError, match="unknown field `noise`"):
        parse_plan(document.replace(b'"rounds":20', b'"rounds":20,"noise":"0"'))
    with pytest.raises(PlanError, match="missing required field `rounds`"):
        parse_plan(document.replace(b'"rounds":20,', b""))
    with pytest.raises(PlanError, match=r"Expected `int`.*rounds"):
        parse_plan(document.replace(b'"rounds":20', b'"rounds":"20"'))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"noise_multiplier":"3.78"', b'"noise_multiplier":"0"', "noise_multiplier must be > 0"),
        (b'"noise_multiplier":"3.78"', b'"noise_multiplier":"NaN"', "noise_multiplier must be > 0"),
        (b'"noise_multiplier":"3.78"', b'"noise_multiplier":"1e-9"', r"lie in \[0.000001, "),
        (b'"clip_norm":"0.5"', b'"clip_norm":"1e-400"', "clip_norm must be > 0"),
        (b'"sample_rate":"0.1"', b'"sample_rate":"NaN"', "sample_rate must lie in"),
        (b'"momentum":"0.9"', b'"momentum":"sNaN"', "momentum must lie in"),
        (b'"delta":"0.000001"', b'"delta":"NaN"', "delta must lie in"),
        (b'"delta":"0.000001"', b'"delta":"0"', "delta must lie in"),
        (b'"minimum":4', b'"minimum":9', r"minimum must lie in \[2, 8\]"),
        (b'"minimum":4', b'"minimum":1', r"minimum must lie in \[2, 8\]"),
        (b'"delta":"0.000001"', b'"delta":"0.01"', "at most 1/"),
        (b'"app_hash":"1', b'"app_hash":"x', "app_hash must be 64"),
        (b'"schema_version":2', b'"schema_version":1', "plan schema 1 is not 2"),
        (b'"families":["applications","keys"]', b'"families":["keys","applications"]', "sorted"),
        (b'"per_campaign":10', b'"per_campaign":0', r"per_campaign must lie in \[1, "),
        (b'"oversample":0', b'"oversample":93', r"oversample must lie in \[0, 92\]"),
        (b'["2023-11"]', b'["2023-13"]', "data_epochs must be months like 2026-11"),
        (b'["2023-11"]', b"[]", "data_epochs must be months like 2026-11"),
        (b'["2023-11"]', b'["2023-12","2023-11"]', "data_epochs must be sorted"),
        (b'"2100-01-01T00:00:00Z"', b'"2100-01-01T00:00:00"', "expires must be a time in UTC"),
        (b'"2100-01-01T00:00:00Z"', b'"2100-01-01T00:00:00+01:00"', "expires must be a time in U"),
        (b'["model_update"]', b'["keystrokes"]', "Invalid enum value 'keystrokes'"),
        (b'["model_update"]', b"[]", r"outputs must be \[model_update\]"),
        (b'"unit":"subject"', b'"unit":"record"', "Invalid enum value 'record'"),
        (b'"legal_basis":"consent"', b'"legal_basis":"because"', "Invalid enum value 'because'"),
        (b'"encoding":"gaussian_grid"', b'"encoding":"plain"', "Invalid enum value 'plain'"),
        (b'"lost_in_a_row":1000', b'"lost_in_a_row":0', "lost_in_a_row must lie in"),
        (b'"minimum_gap_hours":0', b'"minimum_gap_hours":-1', "minimum_gap_hours must lie in"),
        (b'person":349934220', b'person":349934219', "computes to 34993422 nano-ρ a"),
        (
            b'"nano_rho_per_participation":34993422',
            b'"nano_rho_per_participation":1',
            "states a worst case of 1 nano",
        ),
    ],
)
def test_values_out_of_bounds_are_refused_by_name(old: bytes, new: bytes, message: str) -> None:
    document = small_plan().to_json()
    assert old in document
    with pytest.raises(PlanError, match=message):
        parse_plan(document.replace(old, new))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"nowhere\.json: No such file"):
        read_plan(tmp_path / "nowhere.json")


def test_costs_follow_from_the_noise() -> None:
    plan = small_plan()
    assert plan.cost_nano_rho == 34_993_422
    assert plan.cap_nano_rho == 349_934_220


def test_a_worst_case_is_computed_anew_by_whoever_reads_it() -> None:
    plan = small_plan()
    assert plan.worst_case.nano_rho_per_person == 349_934_220
    assert plan.worst_case.epsilon == Decimal("3.9932")
    check_epsilon(plan)
    for wrong in (b"3.9931", b"3.9943", b"NaN"):
        document = plan.to_json().replace(b'"epsilon":"3.9932"', b'"epsilon":"' + wrong + b'"')
        with pytest.raises(PlanError, match=r"epsilon must|worst case; it is 3\.9932 at δ"):
            check_epsilon(parse_plan(document))


def test_a_revised_plan_states_its_own_worst_case() -> None:
    subject = SubjectMechanism(clip_norm=Decimal(1), noise_multiplier=Decimal("0.5"))
    revised = revise(small_plan(), subject=subject)
    assert revised.worst_case.nano_rho_per_participation == 2 * 10**9
    check_epsilon(revised)


def test_shares_of_the_minimum_cohort_carry_the_whole_noise() -> None:
    plan = small_plan()
    assert math.sqrt(plan.cohort.minimum) * plan.noise_share_std == pytest.approx(3.78 * 0.5)


def test_parts_check_themselves() -> None:
    with pytest.raises(ValidationError, match="clip_norm must be > 0"):
        SubjectMechanism(clip_norm=Decimal(0), noise_multiplier=Decimal(1))
    with pytest.raises(ValidationError, match="target must lie in"):
        CohortPlan(
            population=5, target=6, minimum=2, deadline_seconds=1, selection_timeout_seconds=1
        )


def test_trainable_tensors_are_named_once_in_order() -> None:
    with pytest.raises(ValidationError, match="trainable names 'all'"):
        ModelConfig(vocabulary_size=10, trainable=("all",))
    with pytest.raises(ValidationError, match="in the order of"):
        ModelConfig(vocabulary_size=10, trainable=("output.bias", "output.weight"))


@pytest.mark.parametrize(
    ("trainable", "rank", "message"),
    [
        (("output.up",), UNSET, "names the adapter 'output.up'; give an adapter_rank"),
        ((), 2, "adapter_rank is 2 and trainable names no adapter; name those that train"),
        (("output.bias",), 2, r"\(gru.down, gru.up, output.down, output.up\), or leave"),
        (("output.up",), 5, r"adapter_rank must lie in \[1, 4\], got 5"),
        (("output.up",), 0, r"adapter_rank must lie in \[1, 4\], got 0"),
        (("output.up", "output.bias"), 2, "in the order of"),
    ],
)
def test_adapters_train_or_are_not_there(
    trainable: tuple[str, ...], rank: int | UnsetType, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig(
            vocabulary_size=10, embedding=3, hidden=4, trainable=trainable, adapter_rank=rank
        )


def test_a_plan_without_adapters_says_nothing_of_them_and_keeps_its_hash() -> None:
    plan = small_plan()
    as_before = b'"model":{"embedding":3,"hidden":4,"trainable":[],"vocabulary_size":11}'
    assert as_before in plan.to_json()
    config = msgspec.structs.replace(plan.model, trainable=("output.up",), adapter_rank=2)
    adapted = revise(plan, model=config)
    assert b'"adapter_rank":2' in adapted.to_json()
    assert parse_plan(adapted.to_json()) == adapted
    assert adapted.hash != plan.hash
    assert adapted.model.trainable_parameters == 2 * 11


def test_layout_covers_the_vector_without_gap_or_overlap() -> None:
    config = ModelConfig(vocabulary_size=10, embedding=3, hidden=4, trainable=("output.bias",))
    ends = [tensor.stop for tensor in config.layout()]
    assert [tensor.start for tensor in config.layout()] == [0, *ends[:-1]]
    assert config.parameters == ends[-1] == 30 + 36 + 48 + 12 + 12 + 40 + 10
    assert config.trainable_parameters == 10
