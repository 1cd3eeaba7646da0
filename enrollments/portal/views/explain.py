"""Explain: which entry decides about a device, and why the others do not. For who may see the history (R17)."""

from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from enrollments.actions.certificates import StoredUnreadable
from enrollments.actions.explaining import Question, explain, explain_group, is_judged_now
from enrollments.actions.explanations import ExplainedGroup, Explanation
from enrollments.errors import Invalid, NotFound
from enrollments.models import ProvisioningService, RegistrationRecord
from enrollments.policy.names import registration_key
from enrollments.policy.roles import Right
from enrollments.portal.access import requires
from enrollments.portal.certificate_input import read_chain
from enrollments.portal.explanations import ShownChain, shown, shown_chain
from enrollments.portal.forms_explain import ChainForm, KnownDeviceForm
from enrollments.portal.htmx import render_page

LATEST_DEVICES = 5


@dataclass(frozen=True, slots=True)
class AskedGroup:
    """A group that was come from: its CAs as paths, and devices of it to ask about."""

    explained: ExplainedGroup
    chains: tuple[ShownChain, ...]
    devices: tuple[RegistrationRecord, ...]


@sensitive_post_parameters("chain_pem")
@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.SEE_HISTORY)
def explain_page(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    """By name in the address, by certificates in a post. Nothing is stored either way."""
    if request.method == "POST":
        return _by_chain(request, service)
    form = KnownDeviceForm(request.GET)
    explanation: Explanation | None = None
    asked: AskedGroup | None = None
    unreadable = ""
    chosen = form.chosen if form.is_valid() else {}
    if chosen.get("registration_id") or chosen.get("tracking_id"):
        question = Question(
            tracking_id=chosen.get("tracking_id", ""),
            registration_id=chosen.get("registration_id", ""),
            group_id=chosen.get("group", ""),
            at=chosen.get("at"),
        )
        try:
            explanation = explain(service, question)
        except Invalid as problem:
            form.show(problem)
        except NotFound as problem:
            form.add_error("tracking_id" if question.tracking_id else "registration_id", problem.message)
        except StoredUnreadable as problem:
            unreadable = problem.message
    if explanation is None and chosen.get("group") and "at" not in form.errors:
        try:
            asked = _asked_group(service, explain_group(service, chosen["group"], at=chosen.get("at")))
        except Invalid as problem:
            form.show(problem)
        except NotFound:
            pass  # an address of a group that is gone leads to the questions
    return _page(request, service, form, ChainForm(), explanation, asked, unreadable)


def _by_chain(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    given = read_chain(request.POST, request.FILES)
    # A file outlives a form error as text, and what is no certificate comes back never.
    data = request.POST.copy()
    data["chain_pem"] = given.text
    form = ChainForm(data)
    explanation: Explanation | None = None
    if form.is_valid():
        if given.certificates:
            question = Question(
                certificates=given.certificates,
                registration_id=form.chosen.get("registration_id", ""),
                at=form.chosen.get("at"),
            )
            try:
                explanation = explain(service, question)
            except Invalid as problem:
                form.show(problem)
        else:
            form.add_error("chain_pem", given.sentence or "Choose a file, or paste the certificates as text.")
    return _page(request, service, KnownDeviceForm(), form, explanation, None)


def _asked_group(service: ProvisioningService, explained: ExplainedGroup) -> AskedGroup:
    chains = tuple(shown_chain(service, one, lowest="Enrolled CA") for one in explained.chains)
    devices = service.registrations.filter(group=explained.group).order_by("-updated_at", "-id")
    return AskedGroup(explained, chains, tuple(devices[:LATEST_DEVICES]))


def _page(
    request: HttpRequest,
    service: ProvisioningService,
    form: KnownDeviceForm,
    chain_form: ChainForm,
    explanation: Explanation | None,
    asked_group: AskedGroup | None,
    unreadable: str = "",
) -> HttpResponse:
    failed = bool((form.is_bound and form.errors) or (chain_form.is_bound and chain_form.errors))
    context = {
        "service": service,
        "form": form,
        "chain_form": chain_form,
        "shown": shown(service, explanation) if explanation else None,
        "asked_group": asked_group,
        "unreadable": unreadable,
        "record": _record(service, explanation) if explanation else None,
        "is_judged_now": bool(
            explanation and explanation.was_kept and is_judged_now(service, explanation.registration_id)
        ),
    }
    return render_page(
        request,
        "portal/explain/page.html",
        "portal/explain/_page.html",
        context,
        status=422 if failed else 200,
    )


def _record(service: ProvisioningService, explanation: Explanation) -> RegistrationRecord | None:
    key = registration_key(explanation.registration_id)
    return service.registrations.filter(registration_key=key).first()
