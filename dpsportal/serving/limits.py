"""What one client may cost a listener: times, sizes and numbers of connections, per worker process."""

from dataclasses import dataclass, replace

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Times are seconds from the beginning of a phase; bytes that drip in during it never renew them."""

    # A handshake takes several round trips, and devices sit behind slow radio links.
    handshake_seconds: float = 10
    head_seconds: float = 5
    body_seconds: float = 10
    idle_seconds: float = 15
    sending_seconds: float = 30
    closing_seconds: float = 2

    head_bytes: int = 32 * KIB
    body_bytes: int = 128 * KIB
    # What a response may leave in memory for the poller to send, before its request thread has to wait.
    unsent_bytes: int = 1 * MIB

    # All announced bodies and unsent responses of one worker together.
    held_bytes: int = 64 * MIB
    # A fleet behind one gateway, or a simulated one on this machine, has one address.
    connections_per_address: int = 256


# Messages of devices are limited to 96 KB by the device API, which answers a larger one with an error body of
# its own; the bound here only has to lie above it.
DEVICE_LIMITS = Limits()

# A chain of ten certificates comes in the head there.
PROXIED_LIMITS = replace(DEVICE_LIMITS, head_bytes=64 * KIB)

# Whoever scrapes sends no body.
METRICS_LIMITS = replace(DEVICE_LIMITS, body_bytes=1 * KIB, connections_per_address=16)

# People upload files, over slow lines too, and fetch style sheets of several hundred KB. A browser reads why it was
# refused only when it has sent everything, so that is heard out as long as an upload that is accepted.
PORTAL_LIMITS = Limits(body_seconds=30, sending_seconds=60, closing_seconds=30, body_bytes=1 * MIB)
