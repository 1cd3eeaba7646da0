"""What was found out about certificates from nothing but their bytes, and is true for ever: it need not be asked twice.

Never what an enrollment, a bar or a date decides: those are looked at anew each time (R12).
"""

from collections.abc import Callable, Hashable
from typing import TypeVar

T = TypeVar("T")


class Remembered:
    """Answers by the digests of what they are about. At most `most` of them; a full one begins anew.

    Threads may ask at once: two may find out the same, and neither sees half an answer.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._answers: dict[Hashable, object] = {}

    def get(self, about: Hashable, find_out: Callable[[], T]) -> T:
        """What `find_out` answers, asked once. An exception is no answer."""
        try:
            return self._answers[about]  # type: ignore[return-value]  # put there by the same question
        except KeyError:
            answer = find_out()
        if len(self._answers) >= self._most:
            self._answers.clear()
        self._answers[about] = answer
        return answer
