"""Work that makes very many objects, none of which is part of a cycle."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collecting() -> Iterator[None]:
    """Inside, nobody looks for cycles among what is made, over and over through all that the process holds.

    That would be a sixth of an import's work, and more of a preview's. It holds for all threads of the process; of two
    who work so at once, the first who is done ends it for both.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def collect_what_is_new() -> None:
    """Free the cycles that were made since this was last called, of whoever works without collecting.

    What outlives this is not looked at again: it costs as much as was made, however much the process holds.
    """
    gc.collect(0)
