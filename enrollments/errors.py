"""Failures with a stable code and one sentence for people."""


class DpsError(Exception):
    """A failure that we expect and can name. Each class has a stable `code`, each instance one sentence."""

    code = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class AttestationError(DpsError):
    """Evidence that is missing, unreadable, or does not prove what it should."""

    code = "attestation"


class SecretUnreadable(DpsError):
    """A secret in the database does not fit the key of the installation."""

    code = "secret_unreadable"

    def __init__(self) -> None:
        super().__init__(
            "A stored secret cannot be decrypted: DPS_ENCRYPTION_KEY is not the key it was written with."
        )


class HistoryIsFinal(DpsError):
    """Somebody tried to change or delete a row of the history (R15)."""

    code = "history_is_final"

    def __init__(self) -> None:
        super().__init__("Rows of the history are never changed or deleted.")


class HistoryDisagrees(DpsError):
    """The history is not what was signed of it before: somebody changed it behind our back, or set it back."""

    code = "history_disagrees"


class NotFound(DpsError):
    """The named object does not exist in this service."""

    code = "not_found"


class Invalid(DpsError):
    """What was given cannot be accepted. `errors`: field name to sentences; "" for the whole."""

    code = "invalid"

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__(" ".join(sentence for sentences in errors.values() for sentence in sentences))
        self.errors = errors


class Conflict(DpsError):
    """The change is well formed, and does not fit the state of things."""

    code = "conflict"


class ChangedMeanwhile(Conflict):
    """Somebody else changed the object after it was read."""

    code = "changed_meanwhile"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} was changed by somebody else after you opened it. Look at the current state and try again."
        )


class PreviewOutdated(ChangedMeanwhile):
    """What was confirmed rests on a preview of a state that has passed (R12)."""

    code = "preview_outdated"

    def __init__(self, service: str) -> None:
        Conflict.__init__(
            self, f"Something in service {service} was changed after the preview was made. Look at it again."
        )


class HubUnavailable(DpsError):
    """A hub did not confirm what it was asked to do."""

    code = "hub_unavailable"
