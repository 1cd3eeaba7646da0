"""Denying a device from its registration record or from an attempt: what it will do, and afterwards what it did."""

from collections.abc import Sequence
from typing import Any

from django.db.models import Q

from enrollments.actions.denying import StoodBefore, bars_by_name_alone, keys_left_open, what_denying_did
from enrollments.actions.kept_attempts import is_proven, proven_leaf
from enrollments.actions.key_identifiers import OF_GROUP
from enrollments.actions.known_credentials import Proven, leaves_among, proven_by
from enrollments.actions.preview.words import did
from enrollments.actions.revocation import in_slots, leaves_of, unread_leaves
from enrollments.actions.schedule import as_text, switches_now
from enrollments.models import (
    AttestationMechanism,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationRecord,
)
from enrollments.policy.facts import Mechanism
from enrollments.policy.names import registration_key
from enrollments.portal.preview_changes import Denial, shut_out_in_question


def denying_record(service: ProvisioningService, record: RegistrationRecord) -> str:
    """For a device that registered."""
    proven = proven_by(service, record.registration_id, record)
    told = _what_denies(
        service,
        record.registration_id,
        record.mechanism,
        by_certificate="that it proved itself with last",
        certificates=len(in_slots(leaves_among(proven))),
        unread=unread_leaves(proven),
    )
    return f"{told}{_by_what_it_is_known(service, proven)}"


def denying_attempt(
    service: ProvisioningService, attempt: RegistrationAttempt, record: RegistrationRecord | None
) -> str:
    """For a device that tried. Who proved nothing may have called somebody else's name."""
    known = proven_by(service, attempt.claimed_registration_id, record)
    barred = in_slots(leaves_of(service, attempt))
    # Where the attempt has no certificate to bar, what else is known of that name is barred.
    by_certificate = "with which that name was proven last"
    leaf = proven_leaf(attempt)
    if leaf is not None and leaf.thumbprint_sha256 in {one.thumbprint_sha256 for one in barred.values()}:
        and_another = " and that it proved itself with besides" if len(barred) > 1 else ""
        by_certificate = f"that this attempt proved{and_another}"
    mechanism = record.mechanism if record is not None else known[0].mechanism if known else ""
    told = _what_denies(
        service,
        attempt.claimed_registration_id,
        mechanism,
        by_certificate=by_certificate,
        certificates=len(barred),
        unread=unread_leaves(known, attempt),
    )
    told = f"{told}{_by_what_it_is_known(service, known)}"
    if record is not None:
        told = f"{told} {what_stays(record)}"
    return told if is_proven(attempt) else f"{_whose_name(attempt, record)} {told}"


def what_stays(record: RegistrationRecord) -> str:
    """Denying is not deregistering (R13)."""
    if record.hub is None:
        return "No hub holds the device."
    return f"Hub {record.hub} goes on knowing the device: to take it off there as well, deprovision it."


def denial_in_question(denial: Denial, told: str) -> dict[str, Any]:
    """What the question shows, by `portal/previews/_act.html`. `told`: the sentences about it."""
    return {"told": told, **shut_out_in_question(denial.service, denial)}


def what_came_of_denying(
    service: ProvisioningService,
    before: StoodBefore,
    made: IndividualEnrollment,
    attempt: RegistrationAttempt | None = None,
) -> str:
    """In sentences, for the message. attempt: that from which it was denied."""
    if before.shut_out([made]):
        told = did(what_denying_did(service, before, [made]))
        return f"{told} {keys_left_open(service, before, [made], attempt)}".rstrip()
    if before.changed([made]):
        return "It was disabled for a time, and is now until further notice."
    return "It was denied already; nothing was changed there."


def individual_of(service: ProvisioningService, registration_id: str) -> IndividualEnrollment | None:
    entries = service.individualenrollments.without_secrets()
    return entries.filter(registration_key=registration_key(registration_id)).first()


def _by_what_it_is_known(service: ProvisioningService, proven: Sequence[Proven]) -> str:
    """Where that is more than one: all of it, since none is admitted under that name any more (R5)."""
    known = list(dict.fromkeys(_in_words(service, one) for one in proven))
    if len(known) < 2:
        return ""
    return (
        " That name has been proven in several ways, none of which is admitted under it any more: "
        f"{'; '.join(known)}."
    )


def _in_words(service: ProvisioningService, one: Proven) -> str:
    """By what is no secret. Keys are named as attempts and history name them."""
    if one.unreadable and not one.chain:
        return f"the certificate {one.unreadable[0][:8]}…, which cannot be read"
    if one.chain:
        leaf = one.chain[0]
        return f"the certificate {leaf.thumbprint_sha256[:8]}…, good until {leaf.not_after:%Y-%m-%d}"
    if one.mechanism is Mechanism.TPM:
        return "its TPM"
    of_groups = {key_id.removeprefix(OF_GROUP) for key_id in one.key_ids if key_id.startswith(OF_GROUP)}
    own = next((key_id for key_id in one.key_ids if not key_id.startswith(OF_GROUP)), "")
    of_its_own = f"a key of its own ({own[:8]}…)" if own else "a key of its own"
    if not of_groups:
        return of_its_own
    holds = Q(primary_key_id__in=of_groups) | Q(secondary_key_id__in=of_groups)
    groups = [str(group) for group in service.enrollmentgroups.without_secrets().filter(holds).order_by("pk")]
    derived = "a key derived from one that no group holds any more"
    if groups:
        derived = f"a key derived from that of enrollment group {' or '.join(groups)}"
    # Of an attempt that does not say whose key it was, both begin as the same one: it is one of them (`key_proven`).
    return f"{of_its_own} or {derived}" if own in of_groups else derived


def _whose_name(attempt: RegistrationAttempt, record: RegistrationRecord | None) -> str:
    name = attempt.claimed_registration_id
    if record is None:
        return (
            f"This attempt proved nothing, so anybody may have called itself {name}. "
            "No device has registered under that name."
        )
    return (
        f"This attempt proved nothing, so anybody may have called itself {name}. There is a registration record of "
        f"that name ({record.get_status_display().lower()}), and denying shuts that device out as well."
    )


def _what_denies(
    service: ProvisioningService,
    registration_id: str,
    mechanism: str,
    *,
    by_certificate: str,
    certificates: int,
    unread: Sequence[str],
) -> str:
    individual = individual_of(service, registration_id)
    if individual is None:
        bars = bars_by_name_alone(unread)
        if not bars or certificates:
            bars = f"{_what_it_bars(mechanism, by_certificate, certificates)} {bars}".rstrip()
        else:
            bars = f". It bars this registration ID, whatever is shown for it. {bars}"
        return f"A disabled individual enrollment is added for {registration_id}{bars}"
    kind = AttestationMechanism(individual.mechanism).label
    is_x509 = individual.mechanism == AttestationMechanism.X509
    if switches_now(service).enabled(individual):
        return (
            f"Its individual enrollment is disabled, and {registration_id} is refused from its next request on, "
            f"whatever it shows ({kind} is enrolled).{_BARS_KEYS if is_x509 else ''}"
        )
    if individual.disabled_until is not None:
        until = as_text(individual.disabled_until)
        return f"Its individual enrollment is disabled until {until}, and stays so until further notice."
    return f"Its individual enrollment is disabled already, so {registration_id} is refused as it is."


def _what_it_bars(mechanism: str, by_certificate: str, certificates: int) -> str:
    if certificates > 1:
        return (
            f" with the two certificates {by_certificate}, whose keys are then barred under any name and anywhere on a "
            "chain: other devices that have one of them are refused as well."
        )
    if certificates:
        return (
            f" with the certificate {by_certificate}, whose key is then barred under any name and anywhere on a chain: "
            "other devices that have it are refused as well."
        )
    if mechanism == AttestationMechanism.SYMMETRIC_KEY:
        return (
            ". It bars this registration ID, whichever key signs for it; the keys of its group stay as they are. "
            "Other devices of its group are not touched."
        )
    return (
        ". It bars this registration ID, whatever is shown for it; no certificate of the device is known, so no key is "
        "barred."
    )


_BARS_KEYS = " The keys of its certificates are then barred under any name and anywhere on a chain."
