"""Settings of the test suite: the product's, with a data folder that is thrown away and cheap passwords."""

import atexit
import os
import shutil
import tempfile

_DATA = tempfile.mkdtemp(prefix="dpsportal-tests-")
atexit.register(shutil.rmtree, _DATA, ignore_errors=True)
os.environ["DPS_DATA_DIR"] = _DATA
os.mkdir(os.path.join(_DATA, "static"))  # WhiteNoise warns where its folder is missing

from dpsportal.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
# A file, not memory: threads of a test must meet at real locks.
DATABASES["default"].setdefault("TEST", {})  # noqa: F405
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):  # noqa: F405
    DATABASES["default"]["TEST"]["NAME"] = os.path.join(_DATA, "test.sqlite3")  # noqa: F405
    # Durability is what the product promises and no test measures; without the syncs the suite is quick.
    DATABASES["default"]["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL;PRAGMA synchronous=OFF;"  # noqa: F405
