"""Who comes, as far as rates, back-off and quiet periods can tell one from another (R14)."""

import ipaddress

from enrollments.actions.judging import Judgement


def credential_of(judgement: Judgement, address: str) -> str:
    """What stands for the caller: its leaf's key; else what a token proved, or before proof where it came from."""
    own = judgement.token_of if judgement.decision.proven else source_of(address)
    return judgement.leaf_key or own


def source_of(address: str) -> str:
    """Whom an address stands for: with IPv6 one party commonly has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
