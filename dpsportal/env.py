"""Reading the environment: a value that cannot be read stops the start and names its variable."""

import os
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from environs import Env, EnvError

from enrollments.policy.addresses import problem_of_https_url

_env = Env()
T = TypeVar("T")


def refuse(variable: str, problem: str) -> NoReturn:
    """Stop the process with one sentence; a traceback would bury it."""
    sys.exit(f"{variable} {problem}.")


def _read(reader: Callable[..., T], variable: str, default: object, wanted: str) -> T:
    try:
        return reader(variable, default)
    except EnvError:
        refuse(variable, f"cannot be read: {wanted}")


def env_str(variable: str, default: str = "") -> str:
    return _read(_env.str, variable, default, "give text")


def env_bool(variable: str, default: bool = False) -> bool:
    return _read(_env.bool, variable, default, "give true or false")


def env_int(variable: str, default: int, *, minimum: int, maximum: int) -> int:
    value = _read(_env.int, variable, default, "give a whole number")
    if not minimum <= value <= maximum:
        refuse(variable, f"is {value}: give a whole number from {minimum} to {maximum}")
    return value


def env_list(variable: str, default: list[str]) -> list[str]:
    items = _read(_env.list, variable, default, "give values separated by commas")
    return [item.strip() for item in items if item.strip()]


def env_bind(variable: str, default: str) -> str:
    """`host:port`, the form in which a listener's address is written."""
    value = env_str(variable, default)
    host, _, port = value.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        refuse(variable, f"is {value!r}: give host:port, such as {default}")
    return value


def env_optional_bind(variable: str, example: str) -> str:
    """As env_bind, or empty for "not at all"."""
    return env_bind(variable, example) if env_str(variable) else ""


def env_choice(variable: str, default: str, choices: tuple[str, ...]) -> str:
    """One of a few words, in whatever case."""
    value = env_str(variable, default)
    for choice in choices:
        if value.lower() == choice.lower():
            return choice
    refuse(variable, f"is {value!r}: give one of {', '.join(choices)}")


def env_folder(variable: str, default: Path) -> Path:
    """A folder of our own, made if it is missing, closed to others."""
    folder = Path(env_str(variable, str(default))).absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        refuse(variable, f"names {folder}, which cannot be made: {problem.strerror}")
    return folder


def env_path(variable: str) -> Path | None:
    value = env_str(variable)
    if not value:
        return None
    path = Path(value)
    if not path.is_file():
        refuse(variable, f"names {value}, which is no file")
    return path


def env_database(variable: str, default: str) -> dict[str, Any]:
    value = env_str(variable, default)
    if not re.match(r"(sqlite|postgres|postgresql)://", value):
        refuse(variable, "cannot be read: give sqlite:///path or postgres://user:password@host/name")
    return _read(
        _env.dj_db_url, variable, default, "give sqlite:///path or postgres://user:password@host/name"
    )


def env_secret(
    variable: str, kept_in: Path, make: Callable[[], str], check: Callable[[str], bool] = bool
) -> str:
    """A secret from VARIABLE, from the file named by VARIABLE_FILE, or made once and kept in the data folder."""
    value = env_str(variable)
    file_variable = f"{variable}_FILE"
    if not value and (path := env_path(file_variable)):
        variable, value = file_variable, path.read_text().strip()
    if not value:
        variable, value = str(kept_in), _kept_secret(kept_in, make)
    if not check(value):
        refuse(variable, "does not hold a usable key: see docs/configuration.md for its form")
    return value


def are_fernet_keys(value: str) -> bool:
    """One key or several, separated by commas, spaces or line ends."""
    keys = value.replace(",", " ").split()
    try:
        for key in keys:
            Fernet(key)
    except ValueError:
        return False
    return bool(keys)


def is_ed25519_seed(value: str) -> bool:
    """32 bytes in URL-safe base64, the form of the encryption key as well."""
    return len(value.split()) == 1 and "," not in value and are_fernet_keys(value)


def env_https_url(variable: str) -> str:
    value = env_str(variable)
    if value and (problem := problem_of_https_url(value)):
        refuse(variable, problem)
    return value


def env_cache_url(variable: str) -> str:
    """Of a Valkey or Redis server; empty for none. What is wrong is said without the password that may be in it."""
    value = env_str(variable)
    if value:
        parts = urlsplit(value)
        if parts.scheme not in ("redis", "rediss", "valkey", "valkeys", "unix") or not (
            parts.hostname or parts.path
        ):
            refuse(variable, "cannot be read: give redis://host:6379/0, or rediss:// for TLS")
    return value


def env_writable_file(variable: str, default: Path) -> Path:
    """A file that is appended to; its folder has to be there."""
    path = Path(env_str(variable, str(default))).absolute()
    if not path.parent.is_dir() or path.is_dir():
        refuse(
            variable, f"names {path}, which cannot be a file: its folder is missing, or it is a folder itself"
        )
    return path


def new_django_key() -> str:
    return secrets.token_urlsafe(64)


def _kept_secret(path: Path, make: Callable[[], str]) -> str:
    """Create the file whole or not at all: two processes that start at once must agree on one secret."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was first; its secret counts
        finally:
            draft.unlink()
    return path.read_text().strip()
