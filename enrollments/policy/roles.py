"""Who may do what (R17)."""

from enum import StrEnum


class Right(StrEnum):
    SEE = "see"
    SEE_HISTORY = "see_history"
    EXPORT = "export"
    CHANGE_ENTRIES = "change_entries"
    REVEAL_KEYS = "reveal_keys"
    ADMINISTER = "administer"

    @property
    def in_words(self) -> str:
        """As it goes on after «the right to»."""
        return _IN_WORDS[self]


class Role(StrEnum):
    VIEWER = "viewer"
    AUDITOR = "auditor"
    OPERATOR = "operator"
    ADMINISTRATOR = "administrator"

    @property
    def label(self) -> str:
        return self.value.capitalize()

    @property
    def rights(self) -> frozenset[Right]:
        return _RIGHTS[self]


_IN_WORDS = {
    Right.SEE: "see what services hold",
    Right.SEE_HISTORY: "see history, attempts and explanations",
    Right.EXPORT: "export what is shown",
    Right.CHANGE_ENTRIES: "change entries",
    Right.REVEAL_KEYS: "reveal keys",
    Right.ADMINISTER: "administer hubs, settings and people",
}
_AUDITOR = frozenset({Right.SEE, Right.SEE_HISTORY, Right.EXPORT})
_RIGHTS = {
    Role.VIEWER: frozenset({Right.SEE}),
    Role.AUDITOR: _AUDITOR,
    Role.OPERATOR: _AUDITOR | {Right.CHANGE_ENTRIES},
    Role.ADMINISTRATOR: frozenset(Right),
}
