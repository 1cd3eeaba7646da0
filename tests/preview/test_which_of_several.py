"""Of several credentials of one device: which counts, and what is said of the others."""

import pytest

from enrollments.actions.ca_certificates import add_ca_certificate
from enrollments.actions.certificates import parsed
from enrollments.actions.deleting import delete_and_deny
from enrollments.actions.enrollment_groups import (
    change_enrollment_group,
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import change_individual_enrollment
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.newcomers import Examined
from enrollments.actions.preview import (
    Act,
    Effect,
    coming_by,
    limits,
    preview_of,
    preview_of_act,
    ref_of,
    sent_along,
)
from enrollments.actions.preview.acts import turn
from enrollments.actions.preview.limits import NO_LIMITS
from enrollments.actions.preview.sent_along import preview_with_what_is_sent_along
from enrollments.actions.preview.table import csv_text
from enrollments.actions.preview.words import did, in_lines
from enrollments.actions.revocation import release_registration
from enrollments.actions.services import change_settings
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import MAX_SENT
from enrollments.errors import Conflict
from enrollments.models import AttestationMechanism, Certificate, Slot
from tests.certificates import root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_device, enroll_keys, new_service, register, shows, signs

pytestmark = pytest.mark.django_db

NEW_KEY = "bmV3IHNlY3JldCBrZXkgd2l0aCBieXRlcw=="


@pytest.fixture(autouse=True)
def however_busy_this_machine_is(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)


@pytest.fixture
def service():
    return new_service()


def alone(leaf):
    return PresentedCredential(certificates=(leaf.der,))


def came_alone(service, leaf):
    """By its leaf alone; nobody holds its name."""
    assert register(service, alone(leaf), "p-1").outcome == "assigned"
    release_registration(service, "p-1", actor=ALICE)


def only_device(said):
    assert said.not_examined == 0
    (device,) = said.devices
    return device


def renewed(service, former, ca):
    """A device that came below one CA and then below another. Returns its leaves."""
    leaves = former.leaf("p-1"), ca.leaf("p-1")
    for leaf in leaves:
        assert register(service, leaf).outcome == "assigned"
        release_registration(service, "p-1", actor=ALICE)
    return leaves


class TestWhoComesInByOneOfThem:
    def test_comes_in_though_a_former_certificate_is_good_all_the_time(self, service):
        first, top = root("First"), root("Top")
        line = top.intermediate("Line")
        enroll_ca(service, first, "first")
        enroll_ca(service, top, "top")
        group = enroll_ca(service, line, "line")
        _, leaf = renewed(service, first, line)
        disable_enrollment_group(service, "line", actor=ALICE)
        assert register(service, leaf).outcome == "disabled"

        device = only_device(preview_of_act(service, Act.DELETE, [group]))

        assert (device.effect, str(device.through)) == (Effect.COMES_IN, "enrollment group top")
        assert device.before.admitted is False
        assert delete_and_deny(service, [group], actor=ALICE).denied == 1
        assert register(service, leaf).outcome == "disabled"

    def test_does_so_where_its_name_is_freed(self, service):
        """R11: before that it fails, whichever entry admits it."""
        first, second = root("First"), root("Second")
        group = enroll_ca(service, first, "first")
        enroll_ca(service, second, "second")
        leaf = second.leaf("p-1")
        register(service, first.leaf("p-1"))
        disable_enrollment_group(service, "first", actor=ALICE)
        assert register(service, leaf).outcome == "failed"

        said = preview_of_act(service, Act.DELETE, [group])

        device = only_device(said)
        assert (device.effect, str(device.through)) == (Effect.COMES_IN, "enrollment group second")
        row = "".join(csv_text(said.devices)).splitlines()[1]
        assert row == "p-1,comes_in,failed,enrollment group second,admitted,enrollment group second,,"
        assert delete_and_deny(service, [group], actor=ALICE).denied == 1
        assert register(service, leaf).outcome == "disabled"

    def test_or_where_the_former_group_is_named_as_predecessor(self, service):
        first, second = root("First"), root("Second")
        former = enroll_ca(service, first, "first")
        group = enroll_ca(service, second, "second")
        leaf = second.leaf("p-1")
        register(service, first.leaf("p-1"))
        disable_enrollment_group(service, "first", actor=ALICE)
        assert register(service, leaf).outcome == "failed"
        spec = GroupSpec(certificates={Slot.PRIMARY: second.parsed}, predecessor=former)

        def change():
            change_enrollment_group(service, "second", spec, expected_etag=group.etag, actor=ALICE)
            return []

        assert only_device(preview_of(service, change, [group])).effect is Effect.COMES_IN
        change()
        assert register(service, leaf).outcome == "assigned"


class TestWhoSentItsLeafAlone:
    """R7: its issuers are at hand as long as they are enrolled; it may send them along afterwards."""

    @pytest.fixture(params=[0, sent_along.MANY], ids=["of many", "of few"], autouse=True)
    def many(self, request, monkeypatch):
        monkeypatch.setattr(sent_along, "MANY", request.param)

    @pytest.fixture
    def line(self, service):
        top = root("Top")
        line = top.intermediate("Line")
        enroll_ca(service, top, "top")
        enroll_ca(service, line, "line")
        return line

    def test_is_refused_so_and_would_be_admitted_with_what_is_deleted(self, service, line):
        leaf = line.leaf("p-1")
        assert register(service, alone(leaf), "p-1").outcome == "assigned"
        group = service.enrollmentgroups.get(group_id="line")

        device = only_device(preview_of_act(service, Act.DELETE, [group]))

        assert (device.effect, str(device.unless)) == (Effect.REFUSED, "enrollment group top")
        assert in_lines(preview_of_act(service, Act.DELETE, [group]))[1] == (
            "1 of these is admitted all the same, through enrollment group top, if it sends the CA certificates along "
            "that are removed."
        )
        delete_enrollment_groups(service, ["line"], actor=ALICE)
        assert register(service, alone(leaf), "p-1").outcome == "unauthorized"
        assert register(service, shows(leaf, line), "p-1").outcome == "assigned"

    def test_so_is_who_was_barred_by_that(self, service, line):
        leaf = line.leaf("p-1")
        register(service, alone(leaf), "p-1")
        disable_enrollment_group(service, "line", actor=ALICE)
        group = service.enrollmentgroups.get(group_id="line")

        said = preview_of_act(service, Act.DELETE, [group])

        assert [(one.effect, str(one.unless)) for one in said.devices] == [
            (Effect.STILL_OUT, "enrollment group top")
        ]
        assert delete_and_deny(service, [group], actor=ALICE).denied == 1
        assert register(service, shows(leaf, line), "p-1").outcome == "disabled"

    def test_is_kept_out_with_them_where_that_is_asked_for(self, service, line):
        leaf = line.leaf("p-1")
        register(service, alone(leaf), "p-1")
        group = service.enrollmentgroups.get(group_id="line")

        assert delete_and_deny(service, [group], actor=ALICE).denied == 1
        assert register(service, shows(leaf, line), "p-1").outcome == "disabled"

    def test_nor_does_one_come_in_that_registers_meanwhile(self, service, line):
        leaf = line.leaf("p-1")
        register(service, alone(leaf), "p-1")
        group = service.enrollmentgroups.get(group_id="line")

        examined = Examined(service, ["p-1"], [group])
        delete_enrollment_groups(service, ["line"], actor=ALICE)

        assert examined.passing_to_others({ref_of(group)}) == ["p-1"]

    def test_so_is_who_showed_something_else_last(self, service, line):
        """That is refused afterwards, and the leaf that it sent alone before is let in with its issuer."""
        first, leaf = root("First"), line.leaf("p-1")
        group = enroll_ca(service, first, "first")
        assert register(service, alone(leaf), "p-1").outcome == "assigned"
        release_registration(service, "p-1", actor=ALICE)
        assert register(service, first.leaf("p-1")).outcome == "assigned"
        gone = [group, service.enrollmentgroups.get(group_id="line")]

        assert delete_and_deny(service, gone, actor=ALICE).denied == 1
        assert register(service, shows(leaf, line), "p-1").outcome == "disabled"

    def test_with_a_new_key_that_the_former_one_of_the_same_name_has_signed(self, service):
        old = root("Plant CA")
        new = old.intermediate("Plant CA")
        enroll_ca(service, old, "old")
        group = enroll_ca(service, new, "new")
        leaf = new.leaf("p-1")
        assert register(service, alone(leaf), "p-1").outcome == "assigned"

        assert delete_and_deny(service, [group], actor=ALICE).denied == 1
        assert register(service, shows(leaf, new), "p-1").outcome == "disabled"

    def test_of_many_groups_that_are_deleted_what_stands_above_it_is_sent_along(self, service):
        top = root("Top")
        lines = [top.intermediate(f"Line {number}") for number in range(MAX_SENT + 1)]
        enroll_ca(service, top, "top")
        groups = [enroll_ca(service, line, f"line-{number}") for number, line in enumerate(lines)]
        register(service, alone(lines[-1].leaf("p-1")), "p-1")

        examined = Examined(service, ["p-1"], groups)
        delete_enrollment_groups(service, [one.group_id for one in groups], actor=ALICE)

        assert examined.passing_to_others({ref_of(one) for one in groups}) == ["p-1"]

    def test_that_is_not_looked_for_where_nothing_known_stands_above_what_is_deleted(
        self, service, many, monkeypatch
    ):
        monkeypatch.setattr(sent_along, "MANY", 0)
        top = root("Top")
        line = top.intermediate("Line")
        enroll_ca(service, root("Other"), "other")
        groups = [enroll_ca(service, line, "line")]
        register(service, alone(line.leaf("p-1")), "p-1")
        looks = []
        really = sent_along.preview_of
        monkeypatch.setattr(sent_along, "preview_of", lambda *a, **k: looks.append(1) or really(*a, **k))

        preview_of_act(service, Act.DELETE, groups)
        assert len(looks) == 1
        enroll_ca(service, top, "top")
        preview_of_act(service, Act.DELETE, groups)
        assert len(looks) == 3

    def test_where_no_other_group_is_there_nobody_comes_in(self, service):
        line = root("Top").intermediate("Line")
        group = enroll_ca(service, line, "line")
        register(service, alone(line.leaf("p-1")), "p-1")

        device = only_device(preview_of_act(service, Act.DELETE, [group]))

        assert (device.effect, device.unless) == (Effect.REFUSED, None)

    def test_nor_is_it_where_another_group_holds_what_is_removed(self, service, line):
        """It is at hand all the same."""
        enroll_ca(service, root("Other"), "other", helpers=(line.parsed,))
        register(service, alone(line.leaf("p-1")), "p-1")
        group = service.enrollmentgroups.get(group_id="line")

        device = only_device(preview_of_act(service, Act.DELETE, [group]))

        assert (device.effect, device.unless) == (Effect.STILL_ADMITTED, None)

    @pytest.fixture
    def crossed(self, service):
        """A CA with two certificates of its key, of which one leads to what bars."""
        top, bad = root("Top"), root("Bad")
        line = top.intermediate("Line")
        crossed = line.cross_signed_by(bad)
        both = {Slot.PRIMARY: line.parsed, Slot.SECONDARY: crossed.parsed}
        enroll_ca(service, top, "top")
        enroll_ca(service, line, "line", certificates=both)
        came_alone(service, line.leaf("p-1"))
        enroll_ca(service, bad, "bad", enabled=False)
        return line, crossed

    def test_of_two_ways_up_it_may_take_the_one_that_is_not_barred(self, service, crossed):
        line, other = crossed
        leaf, group = line.leaf("p-1"), service.enrollmentgroups.get(group_id="line")
        assert register(service, alone(leaf), "p-1").outcome == "disabled"

        device = only_device(preview_of_act(service, Act.DELETE, [group]))

        assert (device.effect, str(device.unless)) == (Effect.STILL_OUT, "enrollment group top")
        assert delete_and_deny(service, [group], actor=ALICE).denied == 1
        assert register(service, shows(leaf, line), "p-1").outcome == "disabled"
        assert register(service, shows(leaf, other), "p-1").outcome == "disabled"

    def test_where_there_are_too_many_ways_it_is_not_examined(self, service, crossed, monkeypatch):
        """R16: then nothing is deleted that is to keep it out."""
        monkeypatch.setattr(sent_along, "MOST_LEFT_OUT", 1)
        monkeypatch.setattr(sent_along, "MOST_LEFT_OUT_OF_ALL", 1)
        group = service.enrollmentgroups.get(group_id="line")

        preview = preview_of_act(service, Act.DELETE, [group])
        assert (preview.not_examined, preview.known) == (1, 0)
        with pytest.raises(Conflict, match="Of 1 device it is not known"):
            delete_and_deny(service, [group], actor=ALICE)
        assert service.enrollmentgroups.filter(group_id="line").exists()

    def test_where_all_is_examined_more_ways_are_looked_at(self, service, crossed, monkeypatch):
        monkeypatch.setattr(sent_along, "MOST_LEFT_OUT", 1)
        group = service.enrollmentgroups.get(group_id="line")

        preview = preview_of_act(service, Act.DELETE, [group], limits=NO_LIMITS)

        assert (preview.not_examined, preview.known) == (0, 1)
        assert str(preview.devices[0].unless) == "enrollment group top"

    @pytest.mark.parametrize("how", ["held", "sent"])
    def test_what_another_service_knows_of_the_same_keys_does_not_show(self, service, how):
        """R1: there are as many ways up as this service knows."""
        top, other, foreign = root("Top"), root("Other"), new_service("foreign")
        line = top.intermediate("Line")
        helpers = [top.intermediate(f"helper-{number}") for number in range(sent_along.MOST_LEFT_OUT)]
        enroll_ca(service, line, "line", helpers=tuple(one.parsed for one in helpers))
        enroll_ca(service, top, "top")
        came_alone(service, line.leaf("p-1"))
        disable_enrollment_group(service, "top", actor=ALICE)
        group = service.enrollmentgroups.get(group_id="line")
        before = preview_of_act(service, Act.DELETE, [group])
        twins = [one.cross_signed_by(other) for one in (line, *helpers)]
        if how == "held":
            enroll_ca(foreign, twins[0], "b", helpers=tuple(one.parsed for one in twins[1:]), enabled=False)
        else:
            enroll_ca(foreign, other, "b")
            for number, twin in enumerate(twins):
                register(foreign, shows(twin.leaf(f"b-{number}"), twin), f"b-{number}")

        after = preview_of_act(service, Act.DELETE, [group])

        assert Certificate.objects.filter(spki_sha256=line.parsed.spki_sha256).count() == 2
        assert before.known == 1
        assert (after.devices, after.not_examined) == (before.devices, before.not_examined)

    @pytest.mark.parametrize("how", ["held", "ca", "record", "attempt"])
    def test_twins_that_the_service_knows_count(self, service, how):
        """However it knows them: a device may go by each."""
        top, bad = root("Top"), root("Bad")
        line = top.intermediate("Line")
        twin = line.cross_signed_by(bad)
        enroll_ca(service, line, "line")
        group = service.enrollmentgroups.get(group_id="line")
        gone = sent_along.held_by([group])
        assert sent_along._with_others_of_their_keys(service, gone) == []
        if how == "held":
            enroll_ca(service, bad, "bad", helpers=(twin.parsed,))
        elif how == "ca":
            add_ca_certificate(service, "twin", twin.parsed, actor=ALICE)
        else:
            enroll_ca(service, bad, "bad")
            register(service, shows(line.leaf("p-2"), twin), "p-2")
            if how == "attempt":
                service.registrations.all().delete()

        assert sent_along._with_others_of_their_keys(service, gone) == [gone[0].certificate_id]


class TestWhatAGroupHoldsNoMore:
    """The same where a group stays, and what it held is replaced or removed: no secret either."""

    def changing(self, service, group_id, **spec):
        """Its preview, and what makes the change. spec: but for its CA, if none is given."""
        group = service.enrollmentgroups.get(group_id=group_id)
        if "certificates" not in spec:
            spec["certificates"] = {Slot.PRIMARY: group_certificate(group)}

        def change():
            how = {"expected_etag": group.etag, "actor": ALICE}
            change_enrollment_group(service, group_id, GroupSpec(**spec), **how)
            return []

        def look(at=None):
            return preview_with_what_is_sent_along(service, change, [group], at=at)

        return look, change

    def test_a_ca_that_another_takes_the_place_of(self, service):
        top = root("Top")
        line = top.intermediate("Line")
        enroll_ca(service, top, "top")
        enroll_ca(service, line, "line")
        leaf = line.leaf("p-1")
        came_alone(service, leaf)
        look, change = self.changing(service, "line", certificates={Slot.PRIMARY: root("New").parsed})

        said = look()

        device = only_device(said)
        assert (device.effect, str(device.unless)) == (Effect.REFUSED, "enrollment group top")
        assert in_lines(said)[1].endswith("if it sends the CA certificates along that are removed.")
        change()
        assert register(service, alone(leaf), "p-1").outcome == "unauthorized"
        assert register(service, shows(leaf, line), "p-1").outcome == "assigned"

    def test_not_while_the_group_holds_the_name(self, service):
        """R11: as the group stays, another one that admits the device may not have it."""
        top = root("Top")
        line = top.intermediate("Line")
        enroll_ca(service, top, "top")
        enroll_ca(service, line, "line")
        leaf = line.leaf("p-1")
        assert register(service, alone(leaf), "p-1").outcome == "assigned"
        look, change = self.changing(service, "line", certificates={Slot.PRIMARY: root("New").parsed})

        device = only_device(look())

        assert (device.effect, device.unless) == (Effect.REFUSED, None)
        change()
        assert register(service, shows(leaf, line), "p-1").outcome == "failed"

    def test_which_may_be_the_one_above_it_in_the_only_group(self, service):
        """A helper is no anchor: it leads to what the group holds then, and to nothing else."""
        top = root("Top")
        line = top.intermediate("Line")
        enroll_ca(service, line, "line")
        leaf = line.leaf("p-1")
        register(service, alone(leaf), "p-1")
        look, change = self.changing(service, "line", certificates={Slot.PRIMARY: top.parsed})
        other, _ = self.changing(service, "line", certificates={Slot.PRIMARY: root("Other").parsed})

        above, beside = only_device(look()), only_device(other())

        assert (above.effect, str(above.unless)) == (Effect.REFUSED, "enrollment group line")
        assert (beside.effect, beside.unless) == (Effect.REFUSED, None)
        change()
        assert register(service, alone(leaf), "p-1").outcome == "unauthorized"
        assert register(service, shows(leaf, line), "p-1").outcome == "assigned"

    def test_one_of_its_two_cas(self, service):
        top = root("Top")
        line, other = top.intermediate("Line"), root("Other")
        enroll_ca(service, top, "top")
        both = {Slot.PRIMARY: other.parsed, Slot.SECONDARY: line.parsed}
        enroll_ca(service, line, "line", certificates=both)
        came_alone(service, line.leaf("p-1"))
        look, _ = self.changing(service, "line", certificates={Slot.PRIMARY: other.parsed})

        device = only_device(look())

        assert (device.effect, str(device.unless)) == (Effect.REFUSED, "enrollment group top")

    @pytest.mark.parametrize("deletes", [False, True], ids=["removed", "with its group"])
    def test_a_helper_that_leads_to_another_group(self, service, deletes):
        """Kept at hand, it leads there as before: the change makes no difference then."""
        top, other = root("Top"), root("Other")
        line = top.intermediate("Line")
        enroll_ca(service, top, "top")
        group = enroll_ca(service, other, "other", helpers=(line.parsed,))
        leaf = line.leaf("p-1")
        assert register(service, alone(leaf), "p-1").outcome == "assigned"
        look, _ = self.changing(service, "other")

        device = only_device(preview_of_act(service, Act.DELETE, [group]) if deletes else look())

        assert (device.effect, str(device.unless)) == (Effect.REFUSED, "enrollment group top")

    def test_a_bar_that_it_leads_to_holds(self, service):
        top = root("Top")
        line = top.intermediate("Line")
        enroll_ca(service, line, "line")
        leaf = line.leaf("p-1")
        register(service, alone(leaf), "p-1")
        enroll_ca(service, top, "top", enabled=False)
        look, change = self.changing(service, "line", certificates={Slot.PRIMARY: root("New").parsed})

        device = only_device(look())

        assert (device.effect, device.unless) == (Effect.STILL_OUT, None)
        change()
        assert register(service, shows(leaf, line), "p-1").outcome == "disabled"

    def test_one_that_the_group_itself_barred_by(self, service):
        top = root("Top")
        line = top.intermediate("Line")
        enroll_ca(service, top, "top")
        enroll_ca(service, line, "line", enabled=False)
        leaf = line.leaf("p-1")
        assert register(service, alone(leaf), "p-1").outcome == "disabled"
        new = {Slot.PRIMARY: root("New").parsed}
        look, change = self.changing(service, "line", certificates=new, enabled=False)

        device = only_device(look())

        assert (device.effect, str(device.unless)) == (Effect.STILL_OUT, "enrollment group top")
        change()
        assert register(service, shows(leaf, line), "p-1").outcome == "assigned"

    def test_at_a_time_to_come(self, service, database_clock):
        """Whoever may come in then is not called out for good."""
        top, at = root("Top"), database_clock.ahead(days=1)
        line = top.intermediate("Line")
        of_top = enroll_ca(service, top, "top")
        enroll_ca(service, line, "line")
        came_alone(service, line.leaf("p-1"))
        turn(service, Act.DISABLE, of_top, actor=ALICE, until=at)
        look, _ = self.changing(service, "line", certificates={Slot.PRIMARY: root("New").parsed})

        coming = coming_by(service, look(), look)

        assert only_device(coming.now).unless is None
        assert only_device(coming.looks[at]).unless == ref_of(of_top)
        assert coming.now.out_until == at

    def test_a_group_that_gets_keys_instead(self, service):
        change_settings(service, {"symmetric_key_groups": True}, actor=ALICE)
        top = root("Top")
        line = top.intermediate("Line")
        enroll_ca(service, top, "top")
        enroll_ca(service, line, "line")
        came_alone(service, line.leaf("p-1"))
        keyed = {"mechanism": AttestationMechanism.SYMMETRIC_KEY, "certificates": {}}
        look, _ = self.changing(service, "line", **keyed)

        device = only_device(look())

        assert (device.effect, str(device.unless)) == (Effect.REFUSED, "enrollment group top")


def test_who_registers_meanwhile_is_kept_out_though_a_former_certificate_is_good(service):
    first, top = root("First"), root("Top")
    line = top.intermediate("Line")
    enroll_ca(service, first, "first")
    enroll_ca(service, top, "top")
    group = enroll_ca(service, line, "line")
    renewed(service, first, line)
    disable_enrollment_group(service, "line", actor=ALICE)

    examined = Examined(service, ["p-1"], [group])
    delete_enrollment_groups(service, ["line"], actor=ALICE)

    assert examined.passing_to_others({ref_of(group)}) == ["p-1"]


def test_nothing_is_deleted_where_it_is_not_known_who_comes_in_later(service, database_clock):
    """Its last certificate is good until a time; of a former one not all is kept that it was sent with (R16)."""
    own, top = root("Own"), root("Top")
    line = top.intermediate("Line")
    below = line.intermediate("Below")
    of_own = enroll_ca(service, own, "own")
    enroll_ca(service, top, "top")
    group = enroll_ca(service, line, "line")
    register(service, shows(below.leaf("p-1"), below, line), "p-1")
    release_registration(service, "p-1", actor=ALICE)
    assert register(service, own.leaf("p-1")).outcome == "assigned"
    turn(service, Act.DISABLE, of_own, actor=ALICE, at=database_clock.ahead(days=1))
    Certificate.objects.filter(thumbprint_sha256=below.parsed.thumbprint_sha256).delete()

    assert preview_of_act(service, Act.DELETE, [group], limits=NO_LIMITS).not_examined == 0
    with pytest.raises(Conflict, match="Of 1 device it is not known by what else they may come in"):
        delete_and_deny(service, [group], actor=ALICE)
    assert service.enrollmentgroups.filter(group_id="line").exists()


def test_what_it_showed_again_since_is_the_last_be_it_refused(service):
    first, second = root("First"), root("Second")
    one, other = enroll_ca(service, first, "first"), enroll_ca(service, second, "second")
    leaf = first.leaf("p-1")
    assert register(service, leaf).outcome == "assigned"
    release_registration(service, "p-1", actor=ALICE)
    disable_enrollment_group(service, "second", actor=ALICE)
    assert register(service, second.leaf("p-1")).outcome == "disabled"
    disable_enrollment_group(service, "first", actor=ALICE)
    assert register(service, leaf).outcome == "disabled"
    for name in ("first", "second"):
        enable_enrollment_group(service, name, actor=ALICE)

    refused = only_device(preview_of_act(service, Act.DISABLE, [one]))
    still = only_device(preview_of_act(service, Act.DISABLE, [other]))

    assert (refused.effect, still.effect) == (Effect.REFUSED, Effect.STILL_ADMITTED)


class TestWhoseNameAnotherEntryHolds:
    """R11: it fails, and so is out, whichever entry would admit it."""

    @pytest.fixture
    def leaf(self, service):
        first, second = root("First"), root("Second")
        enroll_ca(service, first, "first")
        enroll_ca(service, second, "second")
        register(service, first.leaf("p-1"))
        disable_enrollment_group(service, "first", actor=ALICE)
        leaf = second.leaf("p-1")
        assert register(service, leaf).outcome == "failed"
        return leaf

    def test_is_out_already_where_the_entry_is_disabled_that_would_admit_it(self, service, leaf):
        group = service.enrollmentgroups.get(group_id="second")

        assert only_device(preview_of_act(service, Act.DISABLE, [group])).effect is Effect.STILL_OUT

    def test_comes_in_by_an_entry_of_its_own(self, service, leaf):
        own = self_signed("p-1")

        device = only_device(preview_of(service, lambda: [enroll_device(service, own)]))

        assert device.effect is Effect.COMES_IN
        enroll_device(service, own)
        assert register(service, own).outcome == "assigned"

    def test_stays_out_where_it_is_held_all_the_same(self, service, leaf):
        group = service.enrollmentgroups.get(group_id="second")
        spec = GroupSpec(
            certificates={Slot.PRIMARY: group_certificate(group)}, helpers=(root("Other").parsed,)
        )

        def change():
            change_enrollment_group(service, "second", spec, expected_etag=group.etag, actor=ALICE)
            return []

        said = preview_of(service, change, [group])

        assert only_device(said).effect is Effect.STILL_OUT
        assert "".join(csv_text(said.devices)).splitlines()[1].startswith("p-1,still_out,failed,")
        assert "held through enrollment group first" in in_lines(said)[1]


def group_certificate(group):
    return parsed(group.certificates.anchors().get().certificate.pem)


class TestWhoIsRefusedWithWhatItShowed:
    def test_is_refused_though_its_former_certificate_is_good(self, service):
        first, second = root("First"), root("Second")
        enroll_ca(service, first, "first")
        group = enroll_ca(service, second, "second")
        former, leaf = renewed(service, first, second)

        said = preview_of_act(service, Act.DISABLE, [group])

        device = only_device(said)
        assert (device.effect, str(device.unless)) == (Effect.REFUSED, "enrollment group first")
        besides = (
            "1 of these is admitted all the same, through enrollment group first, if it sends another credential that "
            "is known of it."
        )
        assert in_lines(said) == ["1 device will be refused: p-1.", besides]
        assert did(said) == f"1 device is refused from now on. {besides}"
        disable_enrollment_group(service, "second", actor=ALICE)
        assert register(service, leaf).outcome == "disabled"
        release_registration(service, "p-1", actor=ALICE)
        assert register(service, former).outcome == "assigned"

    def test_and_kept_out_by_all_that_it_has_where_that_is_asked_for(self, service):
        first, second = root("First"), root("Second")
        enroll_ca(service, first, "first")
        group = enroll_ca(service, second, "second")
        former, _ = renewed(service, first, second)

        assert delete_and_deny(service, [group], actor=ALICE).denied == 1
        assert register(service, former).outcome == "disabled"

    def test_is_still_admitted_where_only_a_former_certificate_is_good_no_more(self, service):
        first, second = root("First"), root("Second")
        former = enroll_ca(service, first, "first")
        enroll_ca(service, second, "second")
        renewed(service, first, second)

        device = only_device(preview_of_act(service, Act.DISABLE, [former]))

        assert (device.effect, str(device.through)) == (Effect.STILL_ADMITTED, "enrollment group second")

    def test_is_not_let_in_by_a_certificate_whose_name_another_entry_holds(self, service):
        first, second = root("First"), root("Second")
        former = enroll_ca(service, first, "first")
        group = enroll_ca(service, second, "second", predecessor=former)
        for leaf in (first.leaf("p-1"), second.leaf("p-1")):
            assert register(service, leaf).outcome == "assigned"

        device = only_device(preview_of_act(service, Act.DISABLE, [group]))

        assert (device.effect, device.unless) == (Effect.REFUSED, None)

    def test_is_refused_though_its_entry_keeps_a_key_that_it_never_showed(self, service):
        entry = enroll_keys(service, "p-1")
        shown = signs(service, "p-1", entry.primary_key)
        register(service, shown, "p-1")
        keys = {"primary_key": NEW_KEY, "secondary_key": entry.secondary_key}
        spec = IndividualSpec(mechanism=AttestationMechanism.SYMMETRIC_KEY, **keys)

        device = only_device(preview_of(service, changing(service, entry, spec), [entry]))

        assert (device.effect, str(device.unless)) == (Effect.REFUSED, "individual enrollment p-1")
        changing(service, entry, spec)()
        assert register(service, shown, "p-1").outcome == "unauthorized"

    def test_or_a_certificate_that_it_never_showed(self, service):
        first, second = self_signed("p-1"), self_signed("p-1")
        entry = enroll_device(
            service, first, certificates={Slot.PRIMARY: first.parsed, Slot.SECONDARY: second.parsed}
        )
        register(service, first)
        spec = IndividualSpec(certificates={Slot.SECONDARY: second.parsed})

        device = only_device(preview_of(service, changing(service, entry, spec), [entry]))

        assert (device.effect, str(device.unless)) == (Effect.REFUSED, "individual enrollment p-1")
        changing(service, entry, spec)()
        assert register(service, first).outcome == "unauthorized"


def changing(service, entry, spec):
    def change():
        entry.refresh_from_db()
        change_individual_enrollment(
            service, entry.registration_id, spec, expected_etag=entry.etag, actor=ALICE
        )
        return []

    return change


def test_deleting_what_is_disabled_lets_nobody_in_whom_no_other_entry_admits(service):
    ca = root("Plant CA")
    enroll_ca(service, ca, "plant")
    register(service, ca.leaf("p-1"))
    disable_enrollment_group(service, "plant", actor=ALICE)

    device = only_device(
        preview_of(
            service,
            lambda: delete_enrollment_groups(service, ["plant"], actor=ALICE) and [],
            [service.enrollmentgroups.get()],
        )
    )

    assert device.effect is Effect.STILL_OUT
