"""Trace readers: each format, the sharing tree, windows and scales, damaged files."""

import gzip
import json
from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sixfold.core.errors import ConfigError
from sixfold.instrument.workloads.content import Content
from sixfold.instrument.workloads.formats import FORMATS
from sixfold.instrument.workloads.traces import TraceConfig, trace

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,48,10
2023-11-16 18:17:04.4799600,31,8
2023-11-16 18:17:13.9799600,110,27
"""
BURST = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,\
Total tokens,Log Type
5,1,2.5,ChatGPT,472,18,490,Conversation log
45,,1.5,GPT-4,10,0,10,API log
118,2,9,GPT-4,1087,230,1317,API log
"""
OLD_BURST = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
"""
BAILIAN = [
    {
        "chat_id": 159, "parent_chat_id": -1, "timestamp": 61.25, "input_length": 40,
        "output_length": 7, "type": "text", "turn": 1, "hash_ids": [3, 4, 5],
    },
    {
        "chat_id": 160, "parent_chat_id": 159, "timestamp": 63.25, "input_length": 64,
        "output_length": 9, "type": "text", "turn": 2, "hash_ids": [3, 4, 6, 7],
    },
]  # fmt: skip
FAST = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def mooncake(*rows: tuple[int, int, list[int]]) -> str:
    names = ("timestamp", "input_length", "hash_ids")
    made = [dict(zip(names, row, strict=True)) | {"output_length": 9} for row in rows]
    return "\n".join(map(json.dumps, made))


@pytest.fixture
def file(tmp_path):
    def write(text: str | bytes, name: str = "trace") -> str:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def prompts(sessions) -> list[tuple[int, ...]]:
    return [s.turns[0].token_ids for s in sessions]


def test_azure(file):
    sessions = trace(TraceConfig(file=file(AZURE)), 0)
    assert [s.at for s in sessions] == pytest.approx([0, 0.5, 10])
    assert list(map(len, prompts(sessions))) == [48, 31, 110]
    assert [s.turns[0].max_tokens for s in sessions] == [10, 8, 27]


def test_burstgpt_leaves_out_failed_requests(file):
    sessions = trace(TraceConfig(file=file(BURST)), 0)
    assert [s.at for s in sessions] == [0, 113]
    assert list(map(len, prompts(sessions))) == [472, 1087]
    assert len(trace(TraceConfig(file=file(OLD_BURST)), 0)) == 1


def test_bailian(file):
    sessions = trace(TraceConfig(file=file("\n".join(map(json.dumps, BAILIAN)))), 0)
    assert [s.at for s in sessions] == [0, 2]
    first, second = prompts(sessions)
    assert (len(first), len(second)) == (40, 64)
    assert first[:32] == second[:32] and first[32:] != second[32:40]


def test_mooncake_in_gzip_named_or_detected(file):
    text = mooncake((0, 1000, [0, 1]), (2000, 1024, [0, 2])).encode()
    path = file(gzip.compress(text))
    sessions = trace(TraceConfig(file=path), 0)
    assert sessions == trace(TraceConfig(file=path, format="mooncake"), 0)
    assert [s.at for s in sessions] == [0, 2]
    first, second = prompts(sessions)
    assert len(first) == 1000 and first[:512] == second[:512] and first[512] != second[512]


@FAST
@given(
    st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=6), min_size=1, max_size=8),
    st.sampled_from([1, 3, 16]),
    st.sampled_from([Content(), Content(text=True), Content(low=0, high=20)]),
)
def test_equal_ids_are_equal_blocks_and_different_ids_differ(file, rows, block, content):
    path = file(mooncake(*[(i, 512 * len(ids), ids) for i, ids in enumerate(rows)]))
    sessions = trace(TraceConfig(file=path, block=block, content=content), 3)
    words = [s.turns[0].token_ids or tuple(s.turns[0].text.split()) for s in sessions]
    size = len(words[0]) // len(rows[0])
    blocks: dict[int, set] = {}
    for ids, units in zip(rows, words, strict=True):
        assert len(units) == size * len(ids)
        for i, hash_id in enumerate(ids):
            blocks.setdefault(hash_id, set()).add(units[i * size : (i + 1) * size])
    assert all(len(seen) == 1 for seen in blocks.values())
    assert all(not a & b for a, b in combinations(blocks.values(), 2))


def test_the_last_block_is_cut_and_missing_ids_are_filled_apart(file):
    path = file(mooncake((0, 700, [1, 2]), (0, 1024, [1, 2]), (0, 1024, [1]), (0, 1024, [1])))
    cut, whole, filled, other = prompts(trace(TraceConfig(file=path), 0))
    assert whole[:700] == cut
    assert len(filled) == 1024 and filled[:512] == other[:512] and filled[512:] != other[512:]


def test_window_speed_caps_and_scales(file):
    rows = [(1000 * i, 1024, [2 * i, 2 * i + 1]) for i in range(10)]
    path = file(mooncake(*rows))
    sessions = trace(TraceConfig(file=path, start=2.0, end=8.0, first=4, speed=2.0), 0)
    assert [s.at for s in sessions] == [0, 0.5, 1, 1.5]
    capped = TraceConfig(file=path, block=16, max_input=20, max_output=2, output_scale=0.5)
    for session in trace(capped, 0):
        assert len(session.turns[0].token_ids) == 20
        assert session.turns[0].max_tokens == 2
    scaled = trace(TraceConfig(file=file(AZURE, "azure"), input_scale=0.5), 0)
    assert list(map(len, prompts(scaled))) == [24, 16, 55]


def test_rows_out_of_order_are_sorted(file):
    path = file(mooncake((1000, 5, []), (3000, 6, []), (2000, 7, [])))
    assert list(map(len, prompts(trace(TraceConfig(file=path), 0)))) == [5, 7, 6]


def test_seeds_differ_in_contents_only(file):
    path = file(mooncake((0, 512, [1]), (0, 512, [1])))
    one, two = trace(TraceConfig(file=path), 1), trace(TraceConfig(file=path), 2)
    assert one == trace(TraceConfig(file=path), 1)
    assert prompts(one)[0] == prompts(one)[1] != prompts(two)[0]


GOOD = mooncake((0, 5, [1]))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (GOOD + "\n{", 2),
        (GOOD + "\n\n" + mooncake((0, -5, [1])), 3),
        (GOOD + "\n" + mooncake((0, 1 << 40, [1])), 2),
        (GOOD + "\n" + mooncake((0, 5, [-1])), 2),
        (GOOD + '\n{"timestamp": 1}', 2),
        (GOOD + "\n" + "[" * 100_000, 2),
        (AZURE + "2023-11-16 18:17:13.9,1\n", 5),
        (AZURE + "yesterday,1,1\n", 5),
        (AZURE + "2023-11-16 18:17:13.9,1.5,1\n", 5),
        (AZURE.replace("110", "many"), 4),
        (BURST + "nan,2,9,GPT-4,1087,230,1317,API log\n", 5),
        (BURST.replace("Request tokens", "Asked"), 1),
        ("hello", 1),
        (AZURE.encode() + b"\xff,1,1", 5),
    ],
)
def test_wrong_rows_name_file_and_line(file, text, line):
    path = file(text)
    with pytest.raises(ConfigError) as caught:
        trace(TraceConfig(file=path), 0)
    assert caught.value.message.startswith(f"{path}:{line}: ")


def test_files_that_are_not_there_empty_or_damaged(file, tmp_path):
    damaged = gzip.compress(GOOD.encode() * 100)[:-12]
    window = {"start": 5.0, "end": 6.0}
    for config in (
        TraceConfig(file=str(tmp_path / "none")),
        TraceConfig(file=str(tmp_path)),
        TraceConfig(file=file("", "empty")),
        TraceConfig(file=file(damaged, "damaged")),
        TraceConfig(file=file(GOOD, "good"), **window),
        TraceConfig(file=file(GOOD, "good"), start=5.0, end=2.0),
    ):
        with pytest.raises(ConfigError):
            trace(config, 0)


def test_too_few_ids_for_different_blocks(file):
    path = file(mooncake((0, 512 * 5, [1, 2, 3, 4, 5])))
    with pytest.raises(ConfigError, match="too few"):
        trace(TraceConfig(file=path, block=1, content=Content(low=0, high=3)), 0)


PIECES = st.sampled_from(
    [GOOD.encode(), b"\n", b",", b"1e999", b"-1", b'"', b"{", AZURE.encode(), BURST.encode(), b"\0"]
)


@FAST
@given(st.lists(PIECES | st.binary(max_size=20), max_size=6), st.sampled_from([*FORMATS, "auto"]))
def test_any_bytes_give_sessions_or_the_users_error(file, pieces, name):
    try:
        trace(TraceConfig(file=file(b"".join(pieces)), format=name, max_input=9), 0)
    except ConfigError as error:
        assert error.message
