"""Any segmentation of a response gives the same events."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from instrument.loadgen.mock_server import DONE, HEAD, LAST, chunk, event, finish, token
from sixfold.instrument.loadgen.events import one_per_token, read_answer, sse
from sixfold.instrument.loadgen.framing import MalformedError, Response

BODY = [
    token("0\r\n\r\n"),
    b": comment\r\n\r\n",
    b"event: x\ndata:  two\ndata:lines\n\n",
    event(choices=[{"text": "\u00e9\U0001f600", "finish_reason": "stop"}]),
    b'data: {"choices": []}\r\n\r\n' + token("tail"),
    finish(4),
]
CHUNKED = (
    HEAD
    + b"".join(map(chunk, BODY[:3]))
    + b"%X ; note=1\r\n%b\r\n" % (len(BODY[3]), BODY[3])
    + b"".join(map(chunk, BODY[4:]))
    + b"0\r\nTrailer: x\r\n\r\n"
)
WHOLE = b"".join(BODY)
COUNTED = b"HTTP/1.1 200 OK\r\ncontent-length:%d\r\n\r\n%b" % (len(WHOLE), WHOLE)


def read(segments: list[bytes]) -> Response:
    """Feed segments, one a second. Complete with the last and not before."""
    response = Response()
    ends = [response.feed(segment, float(i)) for i, segment in enumerate(segments)]
    assert ends == [False] * (len(segments) - 1) + [True]
    return response


def split(raw: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(raw), *(p % len(raw) for p in places)})
    return [raw[a:b] for a, b in itertools.pairwise(edges)]


@given(st.sampled_from([CHUNKED, COUNTED]), st.lists(st.integers(0, 10**6), max_size=40))
def test_any_segmentation_parses_to_the_same_events(raw: bytes, places: list[int]) -> None:
    response = read(split(raw, places))
    assert b"".join(response.parts) == WHOLE and response.keep
    assert [data for _, data in sse(response.parts, response.times)] == [
        data for _, data in sse([WHOLE], [0.0])
    ]
    answer = read_answer(response.parts, response.times)
    # "two\nlines" is no JSON: an error, and the rest is read all the same.
    assert answer.error.startswith("malformed event") and answer.ended
    assert answer.text == "0\r\n\r\n\u00e9\U0001f600tail"
    times = list(answer.token_times)
    assert times == sorted(times) and len(times) == 4


@given(st.lists(st.integers(0, 10**6), max_size=10))
def test_events_have_the_time_of_their_last_byte(places: list[int]) -> None:
    raw = HEAD + b"".join(chunk(token(c)) for c in "abc") + chunk(finish(3)) + LAST
    segments = split(raw, places)
    response = read(segments)
    ends, at = [], 0
    for segment in segments:
        at += len(segment)
        ends.append(at)
    places_of_last = [raw.index(token(c)) + len(token(c)) - 3 for c in "abc"]
    wanted = [float(next(i for i, e in enumerate(ends) if e > p)) for p in places_of_last]
    assert list(read_answer(response.parts, response.times).token_times) == wanted


@given(st.binary(max_size=300), st.lists(st.integers(0, 10**6), max_size=5))
def test_noise_is_malformed_or_unfinished(noise: bytes, places: list[int]) -> None:
    for start in (b"", HEAD, HEAD + b"5\r\nhello"):
        response = Response()
        try:
            for segment in split(start + noise, places) if start + noise else []:
                if response.feed(segment, 0.0):
                    break
        except MalformedError:
            continue
        read_answer(response.parts, response.times)


def test_what_follows_a_response_spoils_the_connection() -> None:
    response = Response()
    assert response.feed(HEAD + LAST + b"HTTP/1.1 200 OK", 0.0) and not response.keep
    response = Response()
    assert response.feed(b"HTTP/1.0 204 No Content\r\n\r\n", 0.0) and not response.keep


def test_one_time_per_token() -> None:
    assert one_per_token([1.0, 2.0], 6) == (1.0, 1.0, 1.0, 2.0, 2.0, 2.0)
    assert one_per_token([1.0, 2.0, 3.0], 4) == (1.0, 1.0, 2.0, 3.0)
    assert one_per_token([1.0, 2.0, 3.0], 2) == (1.0, 2.0)
    assert one_per_token([], 3) == () == one_per_token([1.0], 0)


def test_tokens_without_text_have_the_time_of_their_event() -> None:
    parts = [token("", finish_reason="stop"), finish(2), DONE]
    assert read_answer(parts, [4.0, 5.0, 6.0]).token_times == (5.0, 5.0)
