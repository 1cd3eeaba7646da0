"""What counts as one client's address."""

import ipaddress


def address_key(client: object) -> str:
    """What counts as one address: IPv4 as it is, IPv6 by its /64, which one customer is given whole."""
    if not isinstance(client, tuple):
        return ""
    address = ipaddress.ip_address(client[0].partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)
