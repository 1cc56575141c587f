"""The record of processing (Regulation (EU) 2016/679, Article 30), made from the code itself.

    tacitly-agent processing-record --format json

What is stored, how it is coarsened, for how long, who receives what: each is read from the types
that do it, so that the record cannot say something else. `docs/processing-record-N.json` is that of
version N. When the code says another, a test fails until `RECORD_VERSION` is raised and a new file
written; those of earlier versions stay as they are.
"""

from typing import Any, Final

import click

from tacitly_client.options import format_option

RECORD_VERSION: Final = 1


@click.command("processing-record")
@format_option
def processing_record(as_json: bool) -> None:
    """Print the record of processing (GDPR, Article 30).

    For officers and auditors.
    """
    import msgspec

    record = build_record()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(record)).decode())
        return
    for heading, content in record.items():
        click.echo(f"{heading.replace('_', ' ')}")
        for line in _lines(content):
            click.echo(f"    {line}")


def build_record() -> dict[str, Any]:
    """The record of this version of Tacitly; JSON values in an order that does not change."""
    from tacitly_client.capture.gated import Reason
    from tacitly_client.choices import Choices
    from tacitly_client.consent import Receipt
    from tacitly_client.node.egress_journal import Call
    from tacitly_client.notice import Language, template_hash
    from tacitly_client.redaction import ContentLevel, Rule
    from tacitly_client.store.retention import RetentionPolicy
    from tacitly_common.campaign import LegalBasis, Output
    from tacitly_common.events import EVENT_SCHEMA_VERSION, Event, EventKind
    from tacitly_common.purposes import Purpose
    from tacitly_common.wire.codes import ReplyCode
    from tacitly_common.wire.desk_pb2 import EnrolRequest, RefreshRequest, WithdrawRequest
    from tacitly_common.wire.messages import Reply

    retention = RetentionPolicy()
    asked = (EnrolRequest, RefreshRequest, WithdrawRequest)
    return {
        "record_version": RECORD_VERSION,
        "controller": "the organisation whose invitation a device was enrolled with",
        "data_subjects": "people at work, each at a machine of their own account",
        "purposes": [purpose.value for purpose in Purpose],
        "legal_bases": {
            "capture": LegalBasis.CONSENT.value,
            "campaign": [basis.value for basis in LegalBasis],
        },
        "stored_on_the_device": {
            "event_schema_version": EVENT_SCHEMA_VERSION,
            "event_kinds": [kind.value for kind in EventKind],
            "event_fields": list(Event.__struct_fields__),
            "levels": [level.value for level in ContentLevel],
            "level_unless_chosen": Choices().default.value,
            "not_kept": [*(rule.value for rule in Rule), *(reason.value for reason in Reason)],
            "receipt_fields": list(Receipt.__struct_fields__),
        },
        "retention": {
            "at_most_days": retention.cap_days,
            "deleted_after_training": retention.delete_after_training,
            "at_most_bytes": retention.max_bytes,
        },
        "recipients": {
            "the organisation's own server": {
                "outputs": [output.value for output in Output],
                "reply_fields": list(Reply.__dataclass_fields__),
                "refusals": [code.name for code in ReplyCode if code is not ReplyCode.OK],
            },
            "the organisation's enrolment desk": {
                request.DESCRIPTOR.name: [field.name for field in request.DESCRIPTOR.fields]
                for request in asked
            },
            "anybody else": [],
        },
        "listed_for_the_person": list(Call.__struct_fields__),
        "transfers_to_third_countries": "none by this software",
        "notices": {language.value: template_hash(language) for language in Language},
    }


def _lines(content: Any) -> list[str]:
    """A part of the record for people, a fact a line."""
    if isinstance(content, dict):
        return [
            f"{name.replace('_', ' ')}: {line}"
            for name, inner in content.items()
            for line in _lines(inner)
        ]
    if isinstance(content, list):
        return [", ".join(map(str, content)) or "nothing"]
    return [str(content)]
