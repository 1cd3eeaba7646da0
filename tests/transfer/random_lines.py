"""Random lists for random worlds: about entries that are there, devices that are known, and new ones."""

import random
from typing import Any

from enrollments.models import AttestationMechanism, EnrollmentGroup, IndividualEnrollment
from tests.certificates import Minted
from tests.devices import derived_key
from tests.preview.worlds import Forest, World
from tests.transfer.lists import below, pinned

NAMES_OF_KEYS = [
    *("keyed-0", "keyed-1", "very-0", "derived-0", "derived-1", "token-0", "token-1"),
    *("line-0", "own-0"),
]
NEW_KEY = "bmV3IHNlY3JldCBrZXkgd2l0aCBieXRlcw=="


def that_bar(forest: Forest) -> list[Minted]:
    """Certificates of devices with the keys of CAs, and of other devices: disabled, they bar more than their own."""
    first, plant, line = (forest.cas[number] for number in (0, 2, 4))
    own = first.leaf("bars-plant", key=plant.key), plant.leaf("bars-line", key=line.key)
    return [
        *own,
        *(line.leaf(f"again-{number}", key=forest.leaves[number].key) for number in range(0, 15, 4)),
    ]


def lines(world: World, barring: list[Minted], chance: random.Random) -> list[dict[str, Any]]:
    """About entries that are there, about devices that are known, and about new ones; each named once."""
    groups = list(EnrollmentGroup.objects.filter(service=world.service))
    entries = list(IndividualEnrollment.objects.filter(service=world.service))
    made = {}
    for _ in range(chance.randint(1, 14)):
        make = chance.choice([of_group, of_keys, of_leaf, of_leaf, of_leaf, switched, switched])
        line = make(world, barring, chance, groups, entries)
        if line is not None:
            name = line.get("registrationId") or f"group {line['enrollmentGroupId']}"
            made.setdefault(name.lower(), line)
    return list(made.values())


def status(chance):
    return {"operation": "createOrUpdate", "provisioningStatus": chance.choice(["enabled", "disabled"])}


def switched(world, barring, chance, groups, entries):
    if chance.random() < 0.3 and groups:
        return {"enrollmentGroupId": chance.choice(groups).group_id, "operation": "disable"}
    return {"registrationId": chance.choice(entries).registration_id, "operation": "disable"}


def of_leaf(world, barring, chance, groups, entries):
    held = [one.registration_id for one in entries]
    leaves = [*world.forest.leaves, *barring]
    if chance.random() < 0.5:
        leaves = [one for one in leaves if one.parsed.common_names[0] in held] or leaves
    leaf = chance.choice(leaves)
    several = [leaf, *world.forest.renewed.get(leaf.parsed.common_names[0], [])]
    return pinned(*chance.sample(several, k=min(len(several), chance.randint(1, 2))), **status(chance))


def of_keys(world, barring, chance, groups, entries):
    name = chance.choice(NAMES_OF_KEYS)
    key = chance.choice([world.a_group_key(), derived_key(world.a_group_key(), name), NEW_KEY])
    given = chance.choice(
        [{}, {"primaryKey": key}, {"secondaryKey": key}, {"primaryKey": key, "secondaryKey": NEW_KEY}]
    )
    attestation = {"type": "symmetricKey", **({"symmetricKey": given} if given else {})}
    return {"registrationId": name, "attestation": attestation, **status(chance)}


def of_group(world, barring, chance, groups, entries):
    keyed = [one for one in groups if one.mechanism == AttestationMechanism.SYMMETRIC_KEY]
    others = [one for one in groups if one not in keyed]
    if keyed and chance.random() < 0.3:
        key = chance.choice([{}, {"primaryKey": world.a_group_key()}, {"primaryKey": NEW_KEY}])
        name = chance.choice([chance.choice(keyed).group_id, "more-keys"])
        attestation = {"type": "symmetricKey", **({"symmetricKey": key} if key else {})}
        return {"enrollmentGroupId": name, "attestation": attestation, **status(chance)}
    name = (
        chance.choice(others).group_id if others and chance.random() < 0.5 else f"new-{chance.randrange(9)}"
    )
    cas = chance.sample(world.forest.cas, k=chance.randint(1, 2))
    waits = {"predecessor": chance.choice(groups).group_id} if groups and chance.random() < 0.2 else {}
    return below(name, *cas, **status(chance), **waits)
