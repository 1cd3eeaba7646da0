"""Addresses of the portal. Names say object, then verb; paths end in a slash."""

from django.urls import URLPattern, URLResolver, include, path

from enrollments.portal import urls_enrollments, urls_imports, urls_service

app_name = "portal"
urlpatterns: list[URLPattern | URLResolver] = [
    *urls_service.installation_urlpatterns,
    path("services/<slug:service_name>/", include(urls_service.urlpatterns)),
    path("services/<slug:service_name>/", include(urls_enrollments.urlpatterns)),
    path("services/<slug:service_name>/", include(urls_imports.urlpatterns)),
]
