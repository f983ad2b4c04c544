"""Flags against help texts, made up and real; and the grid language."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends.flags import check_flags, installed_flags, parse_help
from sixfold.instrument.backends.grid import format_scalar, parse_grid
from sixfold.instrument.backends.spec import EngineSpec, Scalar

HELP = """usage: serve [-h] [--old-style | --no-old-style] [--choice {a,b}]
             [model]

options:
  -h, --help            show this and see --not-a-flag
                        --neither-this one
  --model-tag MODEL_TAG, -m MODEL_TAG
  --tensor-parallel-size INT, -tp INT
                        Number of workers.
  --kind {auto,x-y}, -k {auto,x-y}
  --async, --no-async   Overlap.
----- common params -----
-c,    --ctx-size N                     size (default: 4096, --nor-this)
-cb,   --cont-batching, -nocb, --no-cont-batching
                                        whether (env: LLAMA)
-fa,   --flash-attn [on|off|auto]       set it
--list A [A ...], -l A [A ...]
"""


def test_help_texts() -> None:
    assert parse_help(HELP) == {
        "-h", "--help", "--old-style", "--no-old-style", "--choice", "--model-tag", "-m",
        "--tensor-parallel-size", "-tp", "--kind", "-k", "--async", "--no-async", "-c",
        "--ctx-size", "-cb", "--cont-batching", "-nocb", "--no-cont-batching", "-fa",
        "--flash-attn", "--list", "-l",
    }  # fmt: skip


@given(st.text(alphabet="-,a b[]{}|=\n.", max_size=300))
def test_any_help_text(text: str) -> None:
    assert all(flag.startswith("-") for flag in parse_help(text))


def test_our_own_flags() -> None:
    good = {"max_num_seqs": 4, "enable-prefix-caching": False, "batching": "static"}
    check_flags(EngineSpec(engine="sixfold", model="m", flags=good))
    with pytest.raises(ConfigError, match=r"--max-num-seq\b") as caught:
        check_flags(EngineSpec(engine="sixfold", model="m", flags={"max_num_seq": 4}))
    assert caught.value.hint == "did you mean --max-num-seqs?"


def _fake(path: Path, text: str, code: int = 0) -> str:
    path.write_text(f"#!/bin/sh\ncat <<'EOF'\n{text}\nEOF\nexit {code}\n")
    path.chmod(0o755)
    return str(path)


def test_asked_anew_when_the_engine_changes(tmp_path: Path) -> None:
    engine = _fake(tmp_path / "llama-server", "--one N  text")
    assert installed_flags((engine, "--help")) == {"--one"}
    _fake(tmp_path / "llama-server", "--two N  text")
    os.utime(engine, ns=(1, 1))
    assert installed_flags((engine, "--help")) == {"--two"}
    spec = EngineSpec(engine="llamacpp", model="m.gguf", executable=engine, flags={"tw": 1})
    with pytest.raises(ConfigError, match="llamacpp has no flag --tw"):
        check_flags(spec)


def test_help_that_fails(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="broken"):
        installed_flags((_fake(tmp_path / "e", "broken", 1), "--help"))


def test_those_who_cannot_be_asked_pass() -> None:
    check_flags(EngineSpec(engine="command", start_command="x {port} {args}", flags={"any": 1}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [{}]),
        (" ; ", [{}]),
        ("k=3", [{"k": 3}]),
        ("k=[a,b]", [{"k": "a"}, {"k": "b"}]),
        ("n=range(1,9,2)", [{"n": 1}, {"n": 3}, {"n": 5}, {"n": 7}]),
        ("n=range(2)", [{"n": 0}, {"n": 1}]),
        (
            "tp_size*dp_size=[(1,4),(2,2)];max_concurrency=[8, 16]",
            [
                {"tp_size": tp, "dp_size": dp, "max_concurrency": c}
                for tp, dp in ((1, 4), (2, 2))
                for c in (8, 16)
            ],
        ),
        (
            "enable=[true,False];x=[1.5,-2,1e3];s='a;b'",
            [{"enable": e, "x": x, "s": "a;b"} for e in (True, False) for x in (1.5, -2, 1e3)],
        ),
        (
            "chunked_prefill_size=[2048,4096,8192];schedule_policy=[lpm,fcfs];range=[1]",
            [
                {"chunked_prefill_size": c, "schedule_policy": p, "range": 1}
                for c in (2048, 4096, 8192)
                for p in ("lpm", "fcfs")
            ],
        ),
        ("ranged=rangers", [{"ranged": "rangers"}]),
    ],
)
def test_grids(text: str, expected: list[dict[str, Scalar]]) -> None:
    found = parse_grid(text)
    assert found == expected
    kinds = [[type(v) for v in d.values()] for d in found]
    assert kinds == [[type(v) for v in d.values()] for d in expected]


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("=1", 1), ("k", 2), ("k=", 3), ("k=[", 4), ("k=[1", 5), ("k=[]", 4), ("k=[1,]", 6),
        ("a*b=[(1,2),(3)]", 12), ("a*b=3", 5), ("k=1;k=2", 5), ("a*a=[(1,2)]", 3),
        ("n=range(1,9,0)", 9), ("n=range(5,1)", 9), ("n=range(a)", 9), ("k=1 2", 5),
        ("k=__import__('os')", 13), ("k='a", 3),
    ],
)  # fmt: skip
def test_grid_errors_tell_the_place(text: str, position: int) -> None:
    with pytest.raises(ConfigError, match=rf"position {position}:"):
        parse_grid(text)


def test_grid_is_bounded() -> None:
    with pytest.raises(ConfigError, match="points"):
        parse_grid("a=range(1000);b=range(1000)")
    with pytest.raises(ConfigError, match="too many"):
        parse_grid("a=range(1000000000)")


scalars = st.one_of(
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
names = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)


@given(st.dictionaries(names, st.lists(scalars, min_size=1, max_size=3), max_size=4))
def test_grid_round_trip(axes: dict[str, list[Scalar]]) -> None:
    text = " ; ".join(f"{k} = [{', '.join(map(format_scalar, v))}]" for k, v in axes.items())
    points = parse_grid(text)
    for name, values in axes.items():
        assert list(dict.fromkeys(map(repr, (p[name] for p in points)))) == list(
            dict.fromkeys(map(repr, values))
        )


@given(st.text(alphabet="ab=[](),;*1.'\" range", max_size=40))
def test_any_grid(text: str) -> None:
    try:
        parse_grid(text)
    except ConfigError as error:
        assert "position" in error.message or "points" in error.message
