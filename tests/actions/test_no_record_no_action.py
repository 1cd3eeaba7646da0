"""R15, no record, no action: for every action there is, if its history row cannot be written, nothing has changed."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.utils import timezone

from enrollments import actions
from enrollments.actions.access_policies import (
    add_policy,
    change_policy,
    delete_policy,
    disable_policy,
    regenerate_policy_key,
    reveal_policy_keys,
)
from enrollments.actions.api_tokens import add_api_token, revoke_api_token
from enrollments.actions.attempts_forgotten import forget_old_attempts
from enrollments.actions.ca_certificates import (
    delete_ca_certificate,
    make_verification_code,
    verify_ca_certificate,
)
from enrollments.actions.deleting import delete_and_deny
from enrollments.actions.enrollment_groups import (
    cancel_group_schedule,
    change_enrollment_group,
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
    reveal_group_keys,
)
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import (
    cancel_enrollment_schedule,
    change_individual_enrollment,
    delete_enrollments,
    disable_enrollment,
    drop_certificates,
    enable_enrollment,
    reveal_enrollment_keys,
)
from enrollments.actions.enrollments_together import (
    Asked,
    add_individual_enrollments,
    change_individual_enrollments,
)
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.history import export_history, note_export
from enrollments.actions.history_checks import begin_check, continue_check
from enrollments.actions.hubs import HubSpec, change_hub, link_hub, reveal_device_keys, unlink_hub
from enrollments.actions.imports import cancel_import
from enrollments.actions.kept_attempts import find_attempt
from enrollments.actions.people import (
    add_person,
    change_password,
    note_signing,
    remove_person,
    restore_administrator,
    set_active,
    set_role,
    set_role_in_service,
)
from enrollments.actions.preview import Act, carry_out
from enrollments.actions.preview.acts import cancel, turn
from enrollments.actions.quiet_periods import end_quiet_period, start_quiet_period
from enrollments.actions.refusals import Tried, note_refusal, note_refused_look
from enrollments.actions.refused_again import Repeated, note_refused_again
from enrollments.actions.revocation import (
    delete_registration,
    deny_device,
    deny_device_of,
    deny_devices,
    deprovision_device,
    deregister_device,
    free_names,
    release_registration,
)
from enrollments.actions.services import add_service, change_settings
from enrollments.audit.events import Event
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HubDevice,
    ProvisioningService,
    RegistrationAttempt,
    Slot,
)
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Role
from tests.certificates import Minted, root, self_signed
from tests.devices import (
    ALICE,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    new_service,
    register,
    signs,
    upload_ca,
)
from tests.tables import tables
from tests.transfer.lists import checked, json_lines, keys, started

pytestmark = pytest.mark.django_db
READ = [AccessRight.ENROLLMENT_READ]


@dataclass(frozen=True)
class World:
    """One of everything: entries on and off, devices that registered, and one that was refused."""

    service: ProvisioningService
    ca: Minted
    group: EnrollmentGroup
    attempt: RegistrationAttempt
    people: dict[str, Any]

    @property
    def device(self) -> HubDevice:
        return HubDevice.objects.get(device_id="keyed-001")


@pytest.fixture
def world() -> World:
    service, ca = new_service(), root("Plant CA")
    people = {
        name: add_person(name, role=Role.ADMINISTRATOR, service=None, actor=ALICE)[0]
        for name in ("anna", "bert")
    }
    group = enroll_ca(service, ca, "plant-7")
    enroll_ca(service, root("Barred CA"), "barred", enabled=False)
    enroll_key_group(service, "keyed-group")
    keyed = enroll_keys(service, "keyed-001")
    enroll_device(service, self_signed("shut-out"), enabled=False)
    register(service, ca.leaf("pump-042"))
    register(service, signs(service, "keyed-001", keyed.primary_key), "keyed-001")
    refused = register(service, self_signed("stranger"))
    attempt = find_attempt(service, refused.tracking_id)
    assert attempt is not None
    link_hub(service, HubSpec(name="second", host_name="second.example"), actor=ALICE)
    for name in ("reader", "idle"):
        add_policy(service, name, READ, actor=ALICE)
    disable_policy(service, "idle", actor=ALICE)
    return World(service, ca, group, attempt, people)


def later() -> datetime:
    return timezone.now() + timedelta(hours=1)


def _change_group(world: World) -> None:
    spec = GroupSpec(certificates={Slot.PRIMARY: root("Another CA").parsed})
    change_enrollment_group(world.service, "plant-7", spec, expected_etag=world.group.etag, actor=ALICE)


def _change_individual(world: World) -> None:
    entry = world.service.individualenrollments.get(registration_id="keyed-001")
    spec = IndividualSpec(registration_id="keyed-001", mechanism=entry.mechanism, device_id="another-name")
    change_individual_enrollment(world.service, "keyed-001", spec, expected_etag=entry.etag, actor=ALICE)


def _change_individuals(world: World) -> None:
    entry = world.service.individualenrollments.get(registration_id="keyed-001")
    spec = IndividualSpec(mechanism=entry.mechanism, device_id="another-name")
    asked = [Asked("keyed-001", spec, entry.etag), Asked("enrolled-001"), Asked("nowhere")]
    change_individual_enrollments(world.service, asked, actor=ALICE)


def _change_policy(world: World) -> None:
    etag = world.service.access_policies.get(name="reader").etag
    rights = [*READ, AccessRight.ENROLLMENT_WRITE]
    change_policy(world.service, "reader", rights=rights, enabled=True, expected_etag=etag, actor=ALICE)


def _with_two_certificates(world: World) -> str:
    first, second = self_signed("twice"), self_signed("twice")
    enroll_device(
        world.service, first, certificates={Slot.PRIMARY: first.parsed, Slot.SECONDARY: second.parsed}
    )
    return second.parsed.thumbprint_sha256


def _hub(world: World) -> int:
    return world.service.hubs.get(name="second").pk


# By the name of the action; what it is called with makes a change that would be seen.
CASES: dict[str, Callable[[World], object]] = {
    "add_policy": lambda w: add_policy(w.service, "another", READ, actor=ALICE),
    "change_policy": _change_policy,
    "disable_policy": lambda w: disable_policy(w.service, "reader", actor=ALICE),
    "delete_policy": lambda w: delete_policy(w.service, "idle", actor=ALICE),
    "regenerate_policy_key": lambda w: regenerate_policy_key(w.service, "reader", "primary", actor=ALICE),
    "reveal_policy_keys": lambda w: reveal_policy_keys(w.service, "reader", actor=ALICE),
    "add_api_token": lambda w: add_api_token(w.service, w.people["anna"], "ci", READ, days=1, actor=ALICE),
    "delete_and_deny": lambda w: delete_and_deny(w.service, [w.group], actor=ALICE),
    "add_enrollment_group": lambda w: enroll_ca(w.service, root("New CA"), "new"),
    "change_enrollment_group": _change_group,
    "disable_enrollment_group": lambda w: disable_enrollment_group(w.service, "plant-7", actor=ALICE),
    "enable_enrollment_group": lambda w: enable_enrollment_group(w.service, "barred", actor=ALICE),
    "delete_enrollment_groups": lambda w: delete_enrollment_groups(
        w.service, ["plant-7", "barred"], actor=ALICE
    ),
    "reveal_group_keys": lambda w: reveal_group_keys(w.service, "keyed-group", actor=ALICE),
    "add_individual_enrollment": lambda w: enroll_device(w.service, self_signed("new")),
    "add_individual_enrollments": lambda w: add_individual_enrollments(
        w.service,
        [
            IndividualSpec(registration_id=name, mechanism=AttestationMechanism.SYMMETRIC_KEY)
            for name in ("new-1", "new-2")
        ],
        actor=ALICE,
    ),
    "change_individual_enrollment": _change_individual,
    "change_individual_enrollments": _change_individuals,
    "disable_enrollment": lambda w: disable_enrollment(w.service, "keyed-001", actor=ALICE),
    "enable_enrollment": lambda w: enable_enrollment(w.service, "shut-out", actor=ALICE),
    "delete_enrollments": lambda w: delete_enrollments(w.service, ["keyed-001", "shut-out"], actor=ALICE),
    "reveal_enrollment_keys": lambda w: reveal_enrollment_keys(w.service, "keyed-001", actor=ALICE),
    "note_export": lambda w: note_export("attempts", {}, actor=ALICE, service=w.service),
    "export_history": lambda w: export_history(w.service, actor=ALICE),
    "continue_check": lambda w: continue_check(begin_check(), 60, actor=ALICE, service=w.service),
    "reveal_device_keys": lambda w: reveal_device_keys(w.service, w.device, actor=ALICE),
    "link_hub": lambda w: link_hub(w.service, HubSpec(name="third", host_name="third.example"), actor=ALICE),
    "change_hub": lambda w: change_hub(
        w.service,
        _hub(w),
        HubSpec(name="second", host_name="second.example", allocation_weight=2),
        actor=ALICE,
    ),
    "unlink_hub": lambda w: unlink_hub(w.service, _hub(w), actor=ALICE),
    "add_person": lambda w: add_person("carl", role=Role.VIEWER, service=w.service, actor=ALICE),
    "set_role": lambda w: set_role("bert", Role.VIEWER, service=None, actor=ALICE),
    "set_role_in_service": lambda w: set_role_in_service(
        "bert", Role.VIEWER, service=w.service, by=w.people["anna"], actor=ALICE
    ),
    "set_active": lambda w: set_active("bert", False, actor=ALICE),
    "remove_person": lambda w: remove_person("bert", actor=ALICE),
    "change_password": lambda w: change_password("bert", actor=ALICE),
    "restore_administrator": lambda w: restore_administrator("bert", actor=ALICE, reason="locked out"),
    "note_signing": lambda w: note_signing(Event.SIGNED_IN, w.people["bert"], actor=ALICE),
    "note_refusal": lambda w: note_refusal(Tried("POST /people/"), actor=ALICE, service=w.service),
    "note_refused_look": lambda w: note_refused_look(Tried("GET /people/"), actor=ALICE, service=w.service),
    "note_refused_again": lambda w: note_refused_again(
        Tried("POST /people/"), Repeated("POST /people/"), actor=ALICE, service=w.service
    ),
    "turn": lambda w: turn(w.service, Act.DISABLE, w.group, actor=ALICE, at=later()),
    "carry_out": lambda w: carry_out(w.service, Act.DISABLE, [w.group], actor=ALICE, until=later()),
    "start_quiet_period": lambda w: start_quiet_period(w.service, w.attempt, timedelta(hours=1), actor=ALICE),
    "deny_device": lambda w: deny_device(w.service, "pump-042", actor=ALICE),
    "deny_devices": lambda w: deny_devices(w.service, ["pump-042", "keyed-001"], actor=ALICE),
    "free_names": lambda w: free_names(
        w.service, {"pump-042": "", "keyed-001": ""}, by_deleting=True, actor=ALICE
    ),
    "deny_device_of": lambda w: deny_device_of(w.service, w.attempt, actor=ALICE),
    "deprovision_device": lambda w: deprovision_device(w.service, "pump-042", actor=ALICE),
    "delete_registration": lambda w: delete_registration(w.service, "pump-042", actor=ALICE),
    "release_registration": lambda w: release_registration(w.service, "pump-042", actor=ALICE),
    "deregister_device": lambda w: deregister_device(w.service, w.device, actor=ALICE),
    "add_ca_certificate": lambda w: upload_ca(w.service, w.ca),
    "add_service": lambda w: add_service("lab", actor=ALICE),
    "change_settings": lambda w: change_settings(w.service, {"description": "another"}, actor=ALICE),
    # Not somebody's deed, and a row all the same: an assignment.
    "register_device": lambda w: register(w.service, w.ca.leaf("pump-043")),
}
# What needs something made first, which the world cannot hold without being in the way of others.
PREPARED: dict[str, tuple[Callable[[World], Any], Callable[[World, Any], object]]] = {
    "revoke_api_token": (
        lambda w: add_api_token(w.service, w.people["anna"], "ci", READ, days=1, actor=ALICE)[0],
        lambda w, token: revoke_api_token(w.service, token.pk, actor=ALICE),
    ),
    "drop_certificates": (
        _with_two_certificates,
        lambda w, thumbprint: drop_certificates(
            w.service, "twice", {Slot.SECONDARY: thumbprint}, actor=ALICE
        ),
    ),
    "cancel_enrollment_schedule": (
        lambda w: disable_enrollment(w.service, "keyed-001", actor=ALICE, until=later()),
        lambda w, _: cancel_enrollment_schedule(w.service, "keyed-001", actor=ALICE),
    ),
    "cancel_group_schedule": (
        lambda w: disable_enrollment_group(w.service, "plant-7", actor=ALICE, at=later()),
        lambda w, _: cancel_group_schedule(w.service, "plant-7", actor=ALICE),
    ),
    "cancel": (
        lambda w: turn(w.service, Act.DISABLE, w.group, actor=ALICE, until=later()),
        lambda w, entry: cancel(w.service, entry, actor=ALICE),
    ),
    "make_verification_code": (
        lambda w: upload_ca(w.service, w.ca).name,
        lambda w, name: make_verification_code(w.service, name, actor=ALICE),
    ),
    "verify_ca_certificate": (
        lambda w: make_verification_code(w.service, upload_ca(w.service, w.ca).name, actor=ALICE),
        lambda w, row: verify_ca_certificate(w.service, row.name, w.ca.leaf(row.code).parsed, actor=ALICE),
    ),
    "delete_ca_certificate": (
        lambda w: upload_ca(w.service, w.ca).name,
        lambda w, name: delete_ca_certificate(w.service, name, actor=ALICE),
    ),
    "start_import": (
        lambda w: checked(w.service, json_lines(keys("new"))),
        lambda w, run: started(run),
    ),
    "cancel_import": (
        lambda w: started(checked(w.service, json_lines(keys("new")))),
        lambda w, run: cancel_import(run, actor=ALICE),
    ),
    "forget_old_attempts": (
        lambda w: w.service.attempts.update(last_at=timezone.now() - timedelta(days=99)),
        lambda w, _: forget_old_attempts(w.service, actor=ALICE),
    ),
    "end_quiet_period": (
        lambda w: start_quiet_period(w.service, w.attempt, timedelta(hours=1), actor=ALICE),
        lambda w, quiet: end_quiet_period(w.service, quiet.pk, actor=ALICE),
    ),
}
# Parts of others, or shown elsewhere.
NOT_ALONE = {
    "add_owner_policy": "a part of add_service",
    "add_hub_row": "a part of link_hub",
    "do_changes": "a part of an import",
    "end_run": "a part of cancelling an import, and of its end",
    "carry_out_changes": "a part of an import, to see what it does and take it back",
    "begin_import": "keeps a file that decides nothing; tests/transfer has what becomes of it",
    "add_part": "the same",
    "file_is_there": "the same",
    "add_all": "a part of adding one enrollment, and of adding many",
    "change_all": "a part of changing one enrollment, and of changing many",
    "set_enabled": "a part of enabling and disabling",
    "disable_entry": "a part of disabling, now and at a time",
    "delete_all": "a part of deleting",
    "disabled_for_good": "a part of disabling many, and of set_enabled",
    "write_common": "a part of adding and changing",
    "schedule": "a part of enabling and disabling for a time",
    "cancel_schedule": "a part of cancelling what is scheduled",
    "note_told_keys": "a part of adding by the service API",
    "bring_under_newest_key": "changes no value, batch by batch; tests/management/test_rotate_encryption_key.py",
}


# What is done in steps, each with a row of its own: what is done stays done, and is in the history.
IN_STEPS = {
    "deprovision_device": "the device is shut out first, and nothing takes that back (R13)",
}


def every_action() -> set[str]:
    """Whatever takes an actor."""
    found = set()
    for module in pkgutil.walk_packages(actions.__path__, f"{actions.__name__}."):
        for name, function in vars(importlib.import_module(module.name)).items():
            is_public = inspect.isfunction(function) and not name.startswith("_")
            if is_public and function.__module__ == module.name:
                found |= {name} if "actor" in inspect.signature(function).parameters else set()
    return found


@contextmanager
def history_that_is_full_after(rows: int) -> Iterator[list[str]]:
    """Insertions into the history fail from then on, as on a full disk. Yields those that were tried."""
    tried: list[str] = []

    def refuse(execute, sql, params, many, context):
        if sql.startswith('INSERT INTO "enrollments_historyevent"'):
            tried.append(sql)
            if len(tried) > rows:
                raise DatabaseError("the history cannot be written")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse):
        yield tried


def test_every_action_is_tried():
    assert every_action() - set(NOT_ALONE) == {*CASES, *PREPARED} - {"register_device"}


@pytest.mark.parametrize("action", [*CASES, *PREPARED])
def test_r15_without_its_row_nothing_has_changed(world, action):
    if action in PREPARED:
        prepare, do = PREPARED[action]
        made = prepare(world)
        act = lambda: do(world, made)  # noqa: E731
    else:
        act = lambda: CASES[action](world)  # noqa: E731
    before = tables()

    # Whichever of its rows it is that has no place, until all of them have.
    for rows in count():
        with history_that_is_full_after(rows) as tried:
            try:
                act()
            except DatabaseError as problem:
                if "cannot be written" not in str(problem):
                    raise
            else:
                break
        if rows == 0 or action not in IN_STEPS:
            assert tables() == before, f"after {rows} rows"

    assert rows > 0
    assert len(tried) == rows or action in IN_STEPS
    # And that it changes something.
    assert tables() != before
