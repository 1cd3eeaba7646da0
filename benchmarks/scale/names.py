"""What filled-in devices are called, by their kind and number."""

KEY_NAME, CERTIFICATE_NAME, BELOW_GROUP = "press", "pump", "robot"
# Devices that are there with their certificates, to be met at the listener: below enrolled CAs, and below nobody's.
KNOWN, FOREIGN = "known", "foreign"
WIDTH = 7
# Of the devices with keys; the others are enabled.
DISABLED_EVERY = 5


def name_of(kind: str, number: int) -> str:
    return f"{kind}-{number:0{WIDTH}}"
