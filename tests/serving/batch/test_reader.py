import gzip

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sixfold.core.errors import SixfoldError
from sixfold.serving.batch.reader import LineReader, Place, open_compressed


def read(path, place=None, limit=1000):
    reader = LineReader(path, place or Place(), limit)
    try:
        return list(reader.lines())
    finally:
        reader.close()


def written(path, data):
    if path.suffix == ".gz":
        # Two members, as tools that append leave them.
        half = len(data) // 2
        data = gzip.compress(data[:half]) + gzip.compress(data[half:])
    elif path.suffix == ".zst":
        half = len(data) // 2
        data = zstandard.compress(data[:half]) + zstandard.compress(data[half:])
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@given(
    texts=st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"").rstrip(b"\r"))),
    end=st.sampled_from([b"\n", b"\r\n"]),
    last=st.booleans(),
    start=st.integers(0, 5),
)
def test_lines_are_those_of_the_text_from_any_place(
    tmp_path_factory, suffix, texts, end, last, start
):
    path = tmp_path_factory.getbasetemp() / f"in.jsonl{suffix}"
    data = end.join(texts) + (end if last and texts else b"")
    written(path, data)
    expected = data.split(b"\n")
    expected = expected[:-1] if expected[-1] == b"" else expected
    lines = read(path)
    assert [line.data for line in lines] == [text.rstrip(b"\r") for text in expected]
    assert [line.number for line in lines] == list(range(1, len(expected) + 1))
    if start < len(lines):
        place = Place(lines[start].number, lines[start].end)
        assert read(path, place) == lines[start + 1 :]


@pytest.mark.parametrize("length", [999, 1000, 1001, 1002, 5000, 300_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_that_is_too_long_is_passed_over(tmp_path, length, end):
    path = tmp_path / "in"
    path.write_bytes(b"a\n" + b"x" * length + end + (b"b\n" if end else b""))
    lines = read(path)
    assert lines[0].data == b"a" and len(lines[1].data or b"") == (length if length <= 1000 else 0)
    assert (lines[1].data is None) == (length > 1000)
    assert [line.data for line in lines[2:]] == ([b"b"] if end else [])


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_damaged_archive_is_a_clear_error(tmp_path, suffix):
    path = written(tmp_path / f"in{suffix}", b'{"prompt": "x"}\n' * 5000)
    path.write_bytes(path.read_bytes()[:-20])
    if suffix == ".gz":
        with pytest.raises(SixfoldError, match="can't be read to its end"):
            read(path)
    path.write_bytes(b"no archive at all")
    with pytest.raises(SixfoldError, match="can't be read to its end"):
        read(path)
    with pytest.raises(SixfoldError, match="can't read"):
        read(tmp_path / "missing")


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_what_is_written_compressed_is_read_again(tmp_path, suffix):
    path = tmp_path / f"out.jsonl{suffix}"
    with open_compressed(path, path.suffix) as out:
        out.write(b"a\nb\n")
    assert [line.data for line in read(path)] == [b"a", b"b"]
