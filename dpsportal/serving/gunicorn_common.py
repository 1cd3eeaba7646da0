"""Settings of gunicorn that all listeners share, and how a listener's limits reach its workers."""

import gc
import ipaddress
import os
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings

from dpsportal.env import refuse
from dpsportal.serving import departure
from dpsportal.serving.limits import Limits
from dpsportal.serving.refusals import InWords
from dpsportal.serving.worker import ListenerWorker

THREADS = 8
MOST_CONNECTIONS = 1000
# What a worker needs besides its clients: database, logs, libraries, certificates.
OTHER_DESCRIPTORS = 200


def _metrics_folder() -> Path:
    return Path(settings.DPS_DATA_DIR) / "metrics"


def empty_metrics_folder() -> None:
    """A service that starts counts from nothing, as a Prometheus server expects it."""
    shutil.rmtree(_metrics_folder(), ignore_errors=True)
    _metrics_folder().mkdir(mode=0o700)


def listener_settings(limits: Limits, in_words: InWords) -> dict[str, Any]:
    """Names and meanings are gunicorn's; see its documentation of settings."""
    if settings.DPS_METRICS_BIND:
        # Where each process keeps its counts. Read when the library is first imported, in the workers.
        _metrics_folder().mkdir(mode=0o700, exist_ok=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics_folder())
    limits = replace(
        limits,
        connections_per_address=getattr(
            settings, "DPS_CONNECTIONS_PER_ADDRESS", limits.connections_per_address
        ),
    )
    return {
        "worker_class": ListenerWorker,
        "post_fork": _hand_over(limits, in_words),
        "when_ready": departure.prepare,
        "post_worker_init": _keep_for_good,
        "worker_exit": _write_down_what_is_counted,
        "workers": settings.DPS_WORKERS,
        "threads": THREADS,
        "worker_connections": _connections_per_worker(),
        "keepalive": int(limits.idle_seconds),
        # A stopping worker finishes what it has begun, but no longer than this.
        "graceful_timeout": 10,
        # Nobody's word is taken for scheme or address, loopback's neither, unless the operator says so.
        "forwarded_allow_ips": ",".join(_trusted_proxies()),
        "forwarder_headers": "",
        # WSGI cannot tell Client_Cert from Client-Cert, and a proxy that overwrites the one may pass the other on.
        "header_map": "drop",
        # The worker bounds the head as a whole; within that, one header may hold a chain of certificates.
        "limit_request_field_size": limits.head_bytes,
        "secure_scheme_headers": {"X-FORWARDED-PROTO": "https"},
        # The application writes a line for each request.
        "accesslog": None,
        "errorlog": "-",
        "logconfig_dict": _logging(),
        # A control socket would lie outside the data folder and be shared between installations.
        "control_socket_disable": True,
    }


def _hand_over(limits: Limits, in_words: InWords) -> Callable[[object, ListenerWorker], None]:
    def post_fork(server: object, worker: ListenerWorker) -> None:
        worker.limits = limits
        worker.in_words = in_words

    return post_fork


def _keep_for_good(_worker: object) -> None:
    """What a worker holds when it begins, it holds until it ends: garbage need not be looked for among it."""
    gc.collect()
    gc.freeze()


def _write_down_what_is_counted(_server: object, _worker: object) -> None:
    """In the worker, after its last answer."""
    if apps.ready:
        from enrollments.actions.adding_up import write_down_everything  # needs the applications

        write_down_everything()


def _connections_per_worker() -> int:
    """Clients alone must not use up the descriptors, or a request could not open its database."""
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft_limit == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(THREADS + 1, min(MOST_CONNECTIONS, soft_limit - OTHER_DESCRIPTORS))


def _trusted_proxies() -> list[str]:
    for proxy in settings.DPS_TRUSTED_PROXIES:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            refuse("DPS_TRUSTED_PROXIES", f"holds {proxy!r}: give addresses or networks, such as 10.0.0.0/8")
    return list(settings.DPS_TRUSTED_PROXIES)


def _logging() -> dict[str, Any]:
    """The project's own logging, with gunicorn's messages in the same form."""
    ours: dict[str, Any] = settings.LOGGING
    gunicorns = {"handlers": ours["root"]["handlers"], "level": "WARNING", "propagate": False}
    return {**ours, "loggers": {**ours["loggers"], "gunicorn.error": gunicorns}}
