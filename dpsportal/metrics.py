"""What the metrics listener answers: the counts of all processes, and what the database says at that moment."""

from collections.abc import Iterator

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from enrollments.audit.chain import count_waiting, head


class DatabaseCollector(Collector):
    """Read at each scrape. A database that does not answer is a value, too: the counts are told all the same."""

    def collect(self) -> Iterator[Metric]:
        try:
            sealed, waiting = head().size, count_waiting()
        except DatabaseError:
            yield GaugeMetricFamily("dps_database_up", "Whether the database answers.", value=0)
            return
        yield GaugeMetricFamily("dps_database_up", "Whether the database answers.", value=1)
        yield GaugeMetricFamily(
            "dps_history_sealed_rows", "Rows of the history in its sequence.", value=sealed
        )
        yield GaugeMetricFamily("dps_history_waiting_rows", "Rows that wait for their place.", value=waiting)


@login_not_required
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    registry = CollectorRegistry()
    # It reads the folder that PROMETHEUS_MULTIPROC_DIR names, which gunicorn_common.py has set.
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # its parameters have no types
    registry.register(DatabaseCollector())
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), content_type=content_type)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _sentence("Here are /metrics, /healthz and /readyz, and nothing else.", 404)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _sentence("The request cannot be read.", 400)


def server_error(request: HttpRequest) -> HttpResponse:
    return _sentence("The metrics could not be read. The log says why.", 500)


def _sentence(text: str, status: int) -> HttpResponse:
    return HttpResponse(f"{text}\n", status=status, content_type="text/plain; charset=utf-8")
