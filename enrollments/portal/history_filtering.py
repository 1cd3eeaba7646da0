"""Which rows of the history a person sees, and which of these a filter asks for (R17)."""

from django.db.models import Q
from django.http import HttpRequest

from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.models.history import HistoryQuerySet
from enrollments.portal.access import person
from enrollments.portal.forms_filters import SHUTS_OUT, HistoryFilter
from enrollments.portal.history_rows import SHUTTING_OUT


def visible(request: HttpRequest, service: ProvisioningService | None, *, sees_all: bool) -> HistoryQuerySet:
    """R17: everything for those who may see the history, what one did oneself for everybody else."""
    events = (
        HistoryEvent.objects.of_service(service.pk)
        if service
        else HistoryEvent.objects.filter(service_id__isnull=True)
    )
    if sees_all:
        return events
    # Names can be given again: what a former person of this name did is not one's own.
    user = person(request)
    return events.filter(actor_kind="user", actor_name=user.get_username(), at__gte=user.date_joined)


def filtered(events: HistoryQuerySet, form: HistoryFilter) -> HistoryQuerySet:
    conditions = Q()
    for name, value in form.chosen.items():
        match name:
            case "since":
                conditions &= Q(at__gte=value)
            case "until":
                conditions &= Q(at__lte=value)
            case "event" if value == SHUTS_OUT:
                conditions &= Q(event__in=SHUTTING_OUT)
            case "event" | "way":
                conditions &= Q(**{name: value})
            case "actor":
                conditions &= Q(actor_name__icontains=value)
            case "subject":
                conditions &= Q(subject_name__icontains=value)
            case "reason":
                conditions &= Q(reason__icontains=value)
    return events.filter(conditions)
