"""Settings, top to bottom. Values come from the environment; docs/configuration.md lists them."""

import os
from pathlib import Path

from cryptography.fernet import Fernet
from psycopg import IsolationLevel

from dpsportal.env import (
    are_fernet_keys,
    env_bind,
    env_bool,
    env_cache_url,
    env_choice,
    env_database,
    env_folder,
    env_https_url,
    env_int,
    env_list,
    env_optional_bind,
    env_path,
    env_secret,
    env_str,
    env_writable_file,
    is_ed25519_seed,
    new_django_key,
)

BASE_DIR = Path(__file__).resolve().parent.parent

# Whatever this process writes, the database and its secrets above all, is for its own account alone.
os.umask(0o077)

# --- Where things are kept -------------------------------------------------------------------
DPS_DATA_DIR = env_folder("DPS_DATA_DIR", BASE_DIR / "var")

# --- Listeners -------------------------------------------------------------------------------
# Each listener is a process of its own kind: those for devices carry no sessions, no CSRF, no pages.
DPS_LISTENER = env_choice("DPS_LISTENER", "portal", ("portal", "device", "metrics"))
DPS_PORTAL_BIND = env_bind("DPS_PORTAL_BIND", "127.0.0.1:8000")
DPS_DEVICE_BIND = env_bind("DPS_DEVICE_BIND", "localhost:8443")
# Devices once more, with plain HTTP, for proxies that terminate TLS and hand certificates on. Off, unless told.
DPS_PROXIED_BIND = env_optional_bind("DPS_PROXIED_BIND", "127.0.0.1:8444")
# Counts and times for Prometheus, with plain HTTP and without sign-in. Off, unless told.
DPS_METRICS_BIND = env_optional_bind("DPS_METRICS_BIND", "127.0.0.1:9464")
DPS_WORKERS = env_int("DPS_WORKERS", os.cpu_count() or 1, minimum=1, maximum=256)
# Connections from one address, counted per worker process; a believed proxy is exempt.
DPS_CONNECTIONS_PER_ADDRESS = env_int("DPS_CONNECTIONS_PER_ADDRESS", 256, minimum=1, maximum=100_000)
DPS_TLS_CERT = env_path("DPS_TLS_CERT")
DPS_TLS_KEY = env_path("DPS_TLS_KEY")
# Peers whose X-Forwarded-For and X-Forwarded-Proto are believed; on the proxied listener also their Client-Cert and
# Client-Cert-Chain. Nobody, unless told.
DPS_TRUSTED_PROXIES = env_list("DPS_TRUSTED_PROXIES", [])

# --- Allocation webhooks ---------------------------------------------------------------------
# Where the webhooks of entries may be: the portal's operators write their addresses, and this process calls them.
DPS_WEBHOOK_HOSTS = env_list("DPS_WEBHOOK_HOSTS", [])
DPS_WEBHOOK_SECONDS = env_int("DPS_WEBHOOK_SECONDS", 5, minimum=1, maximum=20)
# Whom their certificates must come from, beside or instead of those that the machine trusts.
DPS_WEBHOOK_CA = env_path("DPS_WEBHOOK_CA")

# --- Secrets ---------------------------------------------------------------------------------
SECRET_KEY = env_secret("DPS_SECRET_KEY", DPS_DATA_DIR / "secret_key", new_django_key)
# The first key encrypts, all decrypt: so it can be exchanged while the service runs.
DPS_ENCRYPTION_KEY = env_secret(
    "DPS_ENCRYPTION_KEY",
    DPS_DATA_DIR / "encryption_key",
    make=lambda: Fernet.generate_key().decode(),
    check=are_fernet_keys,
)

# Ed25519: signs checkpoints of the history.
DPS_HISTORY_KEY = env_secret(
    "DPS_HISTORY_KEY",
    DPS_DATA_DIR / "history_key",
    make=lambda: Fernet.generate_key().decode(),
    check=is_ed25519_seed,
)

# --- Checkpoints of the history --------------------------------------------------------------
# Where they are kept outside of the database, so that nobody can cut the history off unnoticed.
DPS_CHECKPOINT_FILE = env_writable_file("DPS_CHECKPOINT_FILE", DPS_DATA_DIR / "history_checkpoints")
DPS_CHECKPOINT_URL = env_https_url("DPS_CHECKPOINT_URL")
DPS_CHECKPOINT_MINUTES = env_int("DPS_CHECKPOINT_MINUTES", 60, minimum=1, maximum=7 * 24 * 60)

# --- Django ----------------------------------------------------------------------------------
DEBUG = env_bool("DPS_DEBUG", False)
ALLOWED_HOSTS = env_list("DPS_ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env_list("DPS_CSRF_TRUSTED_ORIGINS", [])
INSTALLED_APPS = [
    # Before those of Django: some commands that they bring would go past the history, and stand aside for ours.
    "enrollments",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_htmx",
]
ROOT_URLCONF = "dpsportal.urls"
MIDDLEWARE = [
    "dpsportal.request_log.RequestLogMiddleware",
    "dpsportal.certificate_headers.IgnoredCertificateHeadersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "dpsportal.security_headers.SecurityHeadersMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "enrollments.portal.refusals.PortalErrorsMiddleware",
]
if DPS_LISTENER == "device":
    ROOT_URLCONF = "dpsportal.device_urls"
    # A device names its service by ID scope in the path; the host name it dialled is not even looked at.
    MIDDLEWARE = [
        "dpsportal.request_log.RequestLogMiddleware",
        "dpsportal.certificate_headers.IgnoredCertificateHeadersMiddleware",
        "dpsportal.certificate_headers.RefusalMiddleware",
    ]
if DPS_LISTENER == "metrics":
    # A scrape names whatever host its configuration has, and leaves no line in the log.
    ROOT_URLCONF, MIDDLEWARE = "dpsportal.metrics_urls", []
APPEND_SLASH = DPS_LISTENER == "portal"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "enrollments.portal.context.portal",
            ],
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-gb"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

# --- Database --------------------------------------------------------------------------------
DATABASES = {"default": env_database("DATABASE_URL", f"sqlite:///{DPS_DATA_DIR / 'db.sqlite3'}")}
DATABASES["default"]["CONN_MAX_AGE"] = None
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # IMMEDIATE: a transaction that will write takes its turn when it begins, so what it then reads stays true
    # until it commits (R12). FULL: a revocation that was answered survives a power cut.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;",
    }

else:
    # R12 rests on it: under a stricter level a transaction that waited for the lock reads the state from before.
    # Values travel apart from the statement, so that it can be prepared.
    DATABASES["default"]["OPTIONS"] = {
        "isolation_level": IsolationLevel.READ_COMMITTED,
        "server_side_binding": True,
    }
DATABASES["default"]["ENGINE"] = DATABASES["default"]["ENGINE"].replace(
    "django.db.backends", "dpsportal.databases"
)
# Where the server itself answers, and no pooler that gives each transaction another connection.
DPS_PREPARED_STATEMENTS = env_bool("DPS_PREPARED_STATEMENTS", True)

# --- Several nodes ---------------------------------------------------------------------------
# Valkey or Redis, where all nodes count together how often devices come. Without, each counts for itself.
DPS_CACHE_URL = env_cache_url("DPS_CACHE_URL")

# --- Signing in ------------------------------------------------------------------------------
LOGIN_URL = "portal:sign-in"
LOGIN_REDIRECT_URL = "portal:service-list"
LOGOUT_REDIRECT_URL = "portal:sign-in"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
SESSION_ENGINE = "dpsportal.sessions"
# Idle sessions end; requests within the time renew it (dpsportal/sessions.py).
SESSION_COOKIE_AGE = env_int("DPS_SESSION_MINUTES", 60, minimum=5, maximum=24 * 60) * 60
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
DPS_SIGN_IN_FAILURES = env_int("DPS_SIGN_IN_FAILURES", 5, minimum=3, maximum=100)
DPS_SIGN_IN_LOCKOUT_MINUTES = env_int("DPS_SIGN_IN_LOCKOUT_MINUTES", 15, minimum=1, maximum=24 * 60)

# --- What the browser is told ----------------------------------------------------------------
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
# The portal itself speaks plain HTTP; behind a proxy that terminates TLS the cookies must be marked Secure.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env_bool("DPS_SECURE_COOKIES", False)
if DPS_TRUSTED_PROXIES:
    # Only a believed peer's header gets this far: the listener removes it from everybody else's requests.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# --- Static files ----------------------------------------------------------------------------
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = DPS_DATA_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# --- Bounds ----------------------------------------------------------------------------------
# The portal's listener takes bodies of 1 MiB; what gets through it is answered by the form it was meant for.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500
DATA_UPLOAD_MAX_NUMBER_FILES = 10

# --- Logs: one JSON line each, on standard error ---------------------------------------------
DPS_LOG_LEVEL = env_choice("DPS_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "dpsportal.request_log.JsonLineFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "dpsportal": {"level": DPS_LOG_LEVEL},
        "enrollments": {"level": DPS_LOG_LEVEL},
        # Our own line per request says what these would say again, with the same status.
        "django.request": {"level": "ERROR"},
        "django.security": {"level": "CRITICAL"},
        # It writes whole addresses, whose queries may hold the key of a webhook.
        "urllib3": {"level": "CRITICAL"},
    },
}
DPS_ENVIRONMENT_LABEL = env_str("DPS_ENVIRONMENT_LABEL", "")
