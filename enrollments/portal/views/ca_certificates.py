"""CA certificates with proof of possession: the list, uploading, the code and its answer, deleting."""

from datetime import datetime

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from enrollments.actions.ca_certificates import (
    CODE_VALID,
    CaCertificateInUse,
    add_ca_certificate,
    ca_certificate_named,
    delete_ca_certificate,
    groups_of,
    groups_that_refer_to,
    make_verification_code,
    may_let_in_by_proof,
    preview_of_verifying,
    signing_commands,
    verify_ca_certificate,
    what_deleting_did,
)
from enrollments.actions.certificates import as_stored
from enrollments.actions.possession import possession_of, state_of
from enrollments.actions.preview import Preview, coming_by
from enrollments.attestation.x509 import ParsedCertificate
from enrollments.errors import Conflict, Invalid, PreviewOutdated
from enrollments.models import CaCertificate, ProvisioningService
from enrollments.models.keyset import starting_with
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.certificate_input import Card, validity
from enrollments.portal.confirmation import ReasonForm, ask, show_invalid
from enrollments.portal.entry_pages import and_what_it_did
from enrollments.portal.explanations import possession_mark
from enrollments.portal.forms_ca_certificates import CaFilter, CaUploadForm, ProofForm
from enrollments.portal.htmx import render_page
from enrollments.portal.paging import paged
from enrollments.portal.preview_changes import OfCaCertificate, in_question, shut_out_in_question
from enrollments.portal.previews import comings_shown
from enrollments.portal.refusals import refused_page


@require_safe
@requires(Right.SEE)
def ca_list(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    filters = CaFilter(request.GET)
    rows = service.ca_certificates.select_related("certificate").defer("certificate__pem")
    if not filters.is_valid():
        rows = rows.none()
    elif filters.prefix_key:
        rows = rows.filter(starting_with("name_key", filters.prefix_key))
    page = paged(rows, request.GET, {"name": "name_key", "created": "created_at"}, "name")
    now = timezone.now()
    context = {
        "service": service,
        "filters": filters,
        "page": page,
        "rows": [
            {
                "ca": one,
                "mark": possession_mark(service, state_of(one, now)),
                "validity": validity(one.certificate.not_before, one.certificate.not_after, now),
            }
            for one in page.rows
        ],
    }
    return render_page(
        request, "portal/ca_certificates/list.html", "portal/ca_certificates/_results.html", context
    )


@sensitive_post_parameters("certificate_pem")
@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def ca_add(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    if request.method != "POST":
        return _add_page(request, service, CaUploadForm())
    form = CaUploadForm(request.POST, request.FILES)
    if form.is_valid() and "preview" not in request.POST and form.certificate is not None:
        try:
            row = add_ca_certificate(
                service,
                form.cleaned_data["name"],
                form.certificate,
                actor=actor_of(request),
                reason=form.cleaned_data["reason"],
            )
        except Invalid as problem:
            form.show_invalid(problem)
        else:
            messages.success(
                request, f"CA certificate {row} is uploaded. Possession of its key is not verified."
            )
            return redirect(_url("ca-detail", row))
    return _add_page(request, service, form)


@require_safe
@requires(Right.SEE)
def ca_detail(request: HttpRequest, service: ProvisioningService, ca_name: str) -> HttpResponse:
    return _detail_page(request, ca_certificate_named(service, ca_name))


@require_POST
@requires(Right.CHANGE_ENTRIES)
def ca_code(request: HttpRequest, service: ProvisioningService, ca_name: str) -> HttpResponse:
    """A new code takes the place of the one that stands: whoever saw that one asks for it deliberately."""
    try:
        row = make_verification_code(
            service, ca_name, actor=actor_of(request), expected_etag=request.POST.get("etag", "")
        )
    except Conflict as problem:
        messages.error(request, problem.message)
        return redirect(_url("ca-detail", ca_certificate_named(service, ca_name)))
    messages.success(
        request, f"CA certificate {row} has a new verification code, good for {CODE_VALID.days} days."
    )
    return redirect(_url("ca-detail", row))


@sensitive_post_parameters("proof_pem")
@require_POST
@requires(Right.CHANGE_ENTRIES)
def ca_verify(request: HttpRequest, service: ProvisioningService, ca_name: str) -> HttpResponse:
    """The answer to the code. Where devices may come in by it, it rests on a preview that was confirmed."""
    row, form = ca_certificate_named(service, ca_name), ProofForm(request.POST, request.FILES)
    if not form.is_valid() or form.certificate is None:
        return _detail_page(request, row, form)
    # Read first: whatever changes while the preview is worked out makes the answer void.
    epoch = ProvisioningService.epoch_of(service.pk)
    given = request.POST.get("epoch", "")
    try:
        if may_let_in_by_proof(row) and given != str(epoch):
            return _ask_to_verify(request, row, form, form.certificate, epoch, outdated=bool(given))
        verify_ca_certificate(
            service,
            row.name,
            form.certificate,
            actor=actor_of(request),
            reason=form.cleaned_data["reason"],
            expected_etag=form.cleaned_data["etag"],
            expected_epoch=epoch,
        )
    except Invalid as problem:
        form.show_invalid(problem)
        return _detail_page(request, row, form)
    except PreviewOutdated:
        messages.warning(
            request, "Something was changed while you answered: nothing was verified. Try again."
        )
        return redirect(_url("ca-detail", row))
    except Conflict as problem:
        messages.error(request, problem.message)
        return redirect(_url("ca-detail", row))
    messages.success(request, f"Possession of the key of CA certificate {row} is verified.")
    return redirect(_url("ca-detail", row))


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def ca_delete(request: HttpRequest, service: ProvisioningService, ca_name: str) -> HttpResponse:
    """It narrows access at most, so nobody waits for a preview; what it would do is told all the same."""
    row = ca_certificate_named(service, ca_name)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    try:
        if request.method == "POST" and form.is_valid():
            gone = delete_ca_certificate(
                service, row.name, actor=actor_of(request), reason=form.cleaned_data["reason"]
            )
            said = f"CA certificate {gone} is deleted"
            messages.success(request, and_what_it_did(said, what_deleting_did(service, gone)))
            return redirect("portal:ca-list", service_name=service.name)
        shown = shut_out_in_question(service, OfCaCertificate("delete", row))
    except Invalid as problem:
        show_invalid(form, problem)
        shown = shut_out_in_question(service, OfCaCertificate("delete", row))
    except CaCertificateInUse as problem:
        return refused_page(request, problem.message, 409)
    return ask(
        request,
        title=f"Delete CA certificate {row}?",
        body="",
        body_template="portal/ca_certificates/_delete.html",
        form=form,
        yes="Delete",
        cancel_url=_url("ca-detail", row),
        extra={**shown, "ca": row},
    )


def _url(view: str, row: CaCertificate) -> str:
    return reverse(f"portal:{view}", args=[row.service.name, row.name])


def _add_page(request: HttpRequest, service: ProvisioningService, form: CaUploadForm) -> HttpResponse:
    # Who only looked is told of what was read, and not of what is missing for saving it.
    context = {"service": service, "form": form}
    return render(request, "portal/ca_certificates/add.html", context, status=422 if form.errors else 200)


def _ask_to_verify(
    request: HttpRequest,
    row: CaCertificate,
    form: ProofForm,
    proof: ParsedCertificate,
    epoch: int,
    *,
    outdated: bool,
) -> HttpResponse:
    def look(at: datetime | None = None) -> Preview:
        return preview_of_verifying(row.service, row, proof, at=at)

    coming = coming_by(row.service, look(), look)
    shown = in_question(row.service, OfCaCertificate("verify", row), coming.now)
    response = ask(
        request,
        title=f"Verify possession of the key of {row}?",
        body="",
        body_template="portal/ca_certificates/_verify.html",
        danger=False,
        yes="Verify",
        cancel_url=_url("ca-detail", row),
        hidden=(
            ("proof_pem", form.given.text),
            ("reason", form.cleaned_data["reason"]),
            ("etag", form.cleaned_data["etag"]),
            ("epoch", str(epoch)),
        ),
        extra={
            **shown,
            "comings": comings_shown(coming, shown["all_url"], shown["export_url"]),
            "outdated": outdated,
        },
    )
    if outdated:
        response.status_code = 409
    return response


def _detail_page(request: HttpRequest, row: CaCertificate, form: ProofForm | None = None) -> HttpResponse:
    service, now = row.service, timezone.now()
    key = (row.subject_sha256, row.spki_sha256)
    state = state_of(row, now)
    by_others = possession_of(service, [key], now)[key]
    if form is None:
        form = ProofForm()
        form.initial["etag"] = row.etag
    context = {
        "service": service,
        "ca": row,
        "card": Card.of(as_stored(row.certificate), "ca"),
        "mark": possession_mark(service, state),
        "state": state,
        "proven_by": by_others.name if by_others.is_verified and not row.is_verified else "",
        "referring": list(groups_that_refer_to(row)),
        "holding": groups_of(row).first(),
        "commands": signing_commands(row.code) if row.is_waiting(now) else "",
        "form": form,
        "may_change": may(request, Right.CHANGE_ENTRIES, service),
    }
    status = 422 if form.is_bound and form.errors else 200
    return render(request, "portal/ca_certificates/detail.html", context, status=status)
