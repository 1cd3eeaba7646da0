"""What the preview of a list says, held against carrying the list out."""

import hashlib
from ssl import PEM_cert_to_DER_cert

from enrollments.actions.preview import Effect
from enrollments.attestation.credential import PresentedCredential
from enrollments.audit.actor import Actor, Way
from enrollments.transfer.foreseen import foresee
from tests.devices import derived_key
from tests.preview.worlds import may_be_untold, sides_of, together
from tests.transfer.lists import carried_out
from tests.transfer.random_lines import NAMES_OF_KEYS, NEW_KEY

ROOT = Actor("cli", "root", Way.COMMAND_LINE)


def compare(world, run, listed, *, is_whole, within=None):
    known, unshown = world.credentials(), world.unshown
    given = given_by(world, listed)
    every = {key: {**given.get(key, {}), **known.get(key, {})} for key in {*known, *given}}
    before = world.judged(every)
    there = {one.registration_key for one in world.service.individualenrollments.all()}

    seen = foresee(run, within).now

    assert world.judged(every) == before, "a preview leaves nothing behind"
    assert seen.not_examined == 0 or not is_whole
    carried_out(run, actor=ROOT)
    after, enrolled = world.judged(every), world.enrolled()
    told = {device.registration_id.lower(): device for device in seen.devices}
    assert len(told) == len(seen.devices), "each device is told once"
    assert told.keys() <= every.keys(), "nobody else is told about"
    # Nobody knows them, and they bar no key.
    new = {
        one.registration_key
        for one in world.service.individualenrollments.all()
        if one.registration_key not in {*there, *known} and (one.enabled or not one.certificates.exists())
    }
    for name in every:
        device = told.get(name)
        if device is None and not is_whole:
            continue
        shown = {*known.get(name, {}), *enrolled.get(name, {})}
        sides = [
            {one: side[name][one] for one in side.get(name, {}) if one in shown} for side in (before, after)
        ]
        if not sides[0]:
            assert device is None or device.effect is Effect.UNKNOWN, name
            continue
        expected = together(*sides, known.get(name, {}), unshown.get(name, ()))
        if device is None:
            assert may_be_untold(expected) or name in {*world.vague, *new}, name
        elif device.effect is Effect.UNKNOWN:
            assert name not in world.identified or name in world.vague, name
        elif name not in world.vague:
            assert sides_of(device) in expected, name


def given_by(world, listed):
    """By registration key, what these lines may give to an entry; of keys all that any line gives."""
    found = {name: may_be_brought(world, name) for name in NAMES_OF_KEYS}
    for line in listed:
        pair = line.get("attestation", {}).get("x509", {}).get("clientCertificates", {})
        for held in pair.values():
            der = PEM_cert_to_DER_cert(held["certificate"])
            shown = {hashlib.sha256(der).hexdigest(): PresentedCredential(certificates=(der,))}
            found[line["registrationId"].lower()] = found.get(line["registrationId"].lower(), {}) | shown
    return found


def may_be_brought(world, name):
    groups = world.key_group.primary_key, world.key_group.secondary_key
    keys = [NEW_KEY, *groups, *(derived_key(one, name) for one in groups)]
    return {f"key {key}": world.signs(name, key) for key in keys}
