"""Where a request ends, as a table; what real connections make of it is in test_requests.py."""

import pytest

from dpsportal.serving.framing import UnclearLength, read_framing


def head(*fields: bytes, line: bytes = b"PUT /x HTTP/1.1") -> bytes:
    return b"\r\n".join([line, *fields, b"", b""])


CHUNKED = head(b"Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("request_bytes", "rest"),
    [
        pytest.param(head(line=b"GET / HTTP/1.1"), b"", id="no body"),
        pytest.param(b"\r\n" + head(), b"", id="an empty line in front"),
        pytest.param(head(b"Content-Length: 3") + b"abc", b"", id="length"),
        pytest.param(head(b"content-length:3 ") + b"abc", b"GET / HT", id="length, and another request"),
        pytest.param(CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", b"", id="one chunk"),
        pytest.param(CHUNKED + b'3;x="y"\r\nabc\r\n0\r\n\r\n', b"GET ", id="extension, and another request"),
        pytest.param(CHUNKED + b"A\r\n0123456789\r\n00\r\nA: b\r\n\r\n", b"\r\n\r\n", id="trailer"),
        pytest.param(head(b"TRANSFER-ENCODING: Chunked") + b"0\r\n\r\n", b"", id="capitals"),
    ],
)
def test_a_request_ends_where_it_says_and_not_before(request_bytes, rest):
    for arrived in range(len(request_bytes)):
        received = bytearray(request_bytes[:arrived])
        framing = read_framing(received)
        assert framing is None or framing.end(received) is None

    received = bytearray(request_bytes + rest)
    assert read_framing(received).end(received) == len(request_bytes)


def test_chunks_are_followed_while_they_arrive():
    whole = CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n"
    received = bytearray(CHUNKED)
    framing = read_framing(received)

    ends = []
    for byte in whole[len(CHUNKED) :]:
        received.append(byte)
        ends.append(framing.end(received))

    assert ends[:-1] == [None] * (len(ends) - 1)
    assert ends[-1] == len(whole)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([b"Content-Length: 3", b"Content-Length: 3"], id="repeated"),
        pytest.param([b"Content-Length: 3", b"Transfer-Encoding: chunked"], id="both"),
        pytest.param([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], id="chunked twice"),
        pytest.param([b"Transfer-Encoding: identity"], id="identity"),
        pytest.param([b"Transfer-Encoding: chunked, gzip"], id="chunked is not last"),
        pytest.param([b"Content-Length: -1"], id="negative"),
        pytest.param([b"Content-Length: 0x10"], id="hexadecimal"),
        pytest.param([b"Content-Length: "], id="empty"),
        pytest.param(["Content-Length: ٣".encode()], id="digits of another script"),
        pytest.param([b"Content-Length: 1" + b"0" * 20], id="astronomical"),
        pytest.param([b"Content-Length : 3", b"Content-Length: 4"], id="a space before the colon"),
    ],
)
def test_an_unclear_length_is_refused(fields):
    with pytest.raises(UnclearLength):
        read_framing(bytearray(head(*fields)))


@pytest.mark.parametrize("chunks", [b"x\r\n", b"\r\n", b"-1\r\n", b"0x1\r\n", b"1 1\r\n", b"1" * 1100])
def test_an_unreadable_chunk_is_refused(chunks):
    received = bytearray(CHUNKED + chunks)

    with pytest.raises(UnclearLength):
        read_framing(received).end(received)


@pytest.mark.parametrize(
    ("line", "expectation", "expects"),
    [
        (b"PUT / HTTP/1.1", b"100-continue", True),
        (b"PUT / HTTP/1.1", b"100-Continue", True),
        (b"PUT / HTTP/1.0", b"100-continue", False),
        (b"PUT / HTTP/1.1", b"something else", False),
    ],
)
def test_only_a_current_client_is_told_to_continue(line, expectation, expects):
    received = bytearray(head(b"Content-Length: 3", b"Expect: " + expectation, line=line))

    assert read_framing(received).expects_continue is expects
