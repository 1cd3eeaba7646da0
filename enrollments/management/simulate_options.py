"""The options of `manage.py simulate`."""

from argparse import ArgumentParser
from pathlib import Path

from enrollments.management.command import seconds, whole_number
from enrollments.simulator.building import MIXED, SWTPM, SYMMETRIC, SYMMETRIC_GROUP, TPM, VIRTUAL, X509
from enrollments.simulator.profiles import PLAIN, PROFILES
from enrollments.simulator.storm import LONGEST_SECONDS

DEFAULT_DEVICES, DEFAULT_STORM_SECONDS = 10, 30
MOST_RESTLESS, MOST_HEALTHY = 1000, 50
ALL_PROFILES = "all"
IMPOLITE, POLITE = "impolite", "polite"


def add_simulate_options(parser: ArgumentParser) -> None:
    _add_fleet_options(parser)
    _add_file_options(parser)
    _add_target_options(parser)
    _add_storm_options(parser)


def _add_fleet_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--devices", type=whole_number(1, 100_000), metavar="N", help="How many (default 10)."
    )
    parser.add_argument(
        "--mechanism",
        choices=(X509, SYMMETRIC, SYMMETRIC_GROUP, TPM, MIXED),
        default=X509,
        help="symmetric: a key for each device. symmetric-group: one key, from which each device derives its own. "
        "mixed: x509 and symmetric, every other one each.",
    )
    parser.add_argument(
        "--tpm",
        choices=(VIRTUAL, SWTPM),
        default=VIRTUAL,
        help="What plays the TPMs of --mechanism tpm: the simulator itself, or swtpm, which must be installed.",
    )
    parser.add_argument(
        "--profile",
        choices=(*PROFILES, ALL_PROFILES),
        default=PLAIN.name,
        help="Behave like one of the HTTPS clients: headers, spelling of tokens, what they insist on, how they wait "
        "and give up. all: dealt out in turn.",
    )
    parser.add_argument(
        "--enroll",
        action="store_true",
        help="Enroll them first: the root in a group PREFIX-root, the key of a group as PREFIX-group, everything "
        "else one by one.",
    )
    parser.add_argument(
        "--allow-key-groups",
        action="store_true",
        help="With --enroll and --mechanism symmetric-group: switch on the service's setting for groups with symmetric "
        "keys, where it is off. It stays on.",
    )
    parser.add_argument(
        "--prefix",
        default="",
        help="Registration IDs are PREFIX-0001 and so on (default: that of the fleet in the folder of --write-pki, "
        "else by chance).",
    )
    parser.add_argument(
        "--intermediates",
        type=whole_number(0, 100),
        default=0,
        metavar="N",
        help="How many intermediate CAs stand between root and devices, side by side.",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="Makes prefix, order and the devices' intermediates the same again. Keys are always random.",
    )


def _add_file_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--write-pki",
        type=Path,
        metavar="DIR",
        help="Keep certificates, keys, TPMs and the prefix in this folder, for curl or for the same fleet again: what "
        "is there is used, what is missing is made.",
    )
    parser.add_argument("--cert", type=Path, metavar="FILE", help="The certificate of one device, PEM.")
    parser.add_argument("--key", type=Path, metavar="FILE", help="Its key (default: in the same file).")
    parser.add_argument("--chain", type=Path, metavar="FILE", help="Intermediates to be sent along, PEM.")
    parser.add_argument(
        "--issue", action="store_true", help="--cert is a CA certificate: make the devices below it."
    )


def _add_target_options(parser: ArgumentParser) -> None:
    parser.add_argument("--host", metavar="HOST:PORT", help="The device API (default: DPS_DEVICE_BIND).")
    parser.add_argument(
        "--cacert",
        type=Path,
        metavar="FILE",
        help="The CA of its certificate (default: this installation's).",
    )
    parser.add_argument(
        "--concurrency",
        type=whole_number(1, 200),
        default=8,
        metavar="N",
        help="Devices at a time; in a storm, requests at a time (default 8).",
    )
    parser.add_argument(
        "--hurry",
        type=seconds,
        metavar="SECONDS",
        help="Wait no longer than this where Retry-After says so. For demonstrations: real devices must not.",
    )
    parser.add_argument(
        "--patience",
        type=seconds,
        default=120,
        metavar="SECONDS",
        help="A device that has no outcome by then counts as an error (default 120).",
    )


def _add_storm_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--storm",
        nargs="?",
        choices=(IMPOLITE, POLITE),
        const=IMPOLITE,
        metavar="polite",
        help="Devices that never stop: each comes back at once, whatever it was told; with polite, after the "
        f"Retry-After that it was given. At most {MOST_RESTLESS} of them. Ends with figures for each kind of answer.",
    )
    parser.add_argument(
        "--seconds",
        type=whole_number(1, LONGEST_SECONDS),
        metavar="N",
        help=f"How long a storm lasts (default {DEFAULT_STORM_SECONDS}). Ctrl-C ends it with the figures so far.",
    )
    parser.add_argument(
        "--healthy",
        type=whole_number(1, MOST_HEALTHY),
        metavar="N",
        help="So many devices beside the storm that are enrolled and behave, and whose latencies are printed too.",
    )
