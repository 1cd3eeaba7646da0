"""Numbers in sentences, and sentences in others."""


def counted(number: int, noun: str) -> str:
    """`1 device`, `2 devices`, `10,000 devices`; for nouns whose plural takes an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def as_part(sentence: str) -> str:
    """Without its stop, to go on after it or to be ended by whoever shows it."""
    return sentence.removesuffix(".")
