"""Numbers in sentences, sentences in others, and what strangers wrote in either."""


def counted(number: int, noun: str) -> str:
    """`1 device`, `2 devices`, `10,000 devices`; for nouns whose plural takes an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def as_part(sentence: str) -> str:
    """Without its stop, to go on after it or to be ended by whoever shows it."""
    return sentence.removesuffix(".")


def printable(text: str) -> str:
    """What strangers wrote, without what would move the cursor."""
    return "".join(one if one.isprintable() else "\ufffd" for one in text)
