"""The GGUF reader: what a sound file holds, and a clear error for every way to be unsound."""

import struct

import numpy as np
import pytest

from engine.models.gguf_writer import Tensor, f32_tensor, gguf_bytes, string
from engine.models.model_files import MIXED, small_gguf
from sixfold.core.errors import ModelError
from sixfold.engine.models.gguf import StringArray, read_gguf

ONE = f32_tensor("w", np.arange(8, dtype=np.float32).reshape(2, 4))
TWO = f32_tensor("v", np.arange(4, dtype=np.float32))


@pytest.fixture
def parse(tmp_path):
    def write_and_read(data: bytes):
        (tmp_path / "m.gguf").write_bytes(data)
        return read_gguf(tmp_path / "m.gguf")

    return write_and_read


@pytest.mark.parametrize("version", [2, 3])
def test_a_sound_file_reads_back(parse, version):
    metadata = {
        "i": 7, "f": 0.5, "b": True, "s": "häh", "ints": [1, -2], "floats": [0.5, 1.5],
        "flags": [True, False], "words": ["a", "", "ä€"], "u64": struct.pack("<IQ", 10, 2**63),
    }  # fmt: skip
    file = parse(gguf_bytes(metadata, [ONE, TWO], version))
    m = file.metadata
    assert file.version == version
    assert (m["i"], m["f"], m["b"], m["s"], m["u64"]) == (7, 0.5, True, "häh", 2**63)
    assert [m[k].tolist() for k in ("ints", "floats", "flags", "words")] == [
        [1, -2], [0.5, 1.5], [True, False], ["a", "", "ä€"],
    ]  # fmt: skip
    w = file.tensors["w"]
    assert (w.kind, w.shape, w.size, w.offset % 32) == ("f32", (2, 4), 32, 0)
    assert np.frombuffer(file.reader.read(w.offset, w.size), "<f4").tolist() == list(range(8))


def test_a_string_array_is_a_sequence(parse):
    words = parse(gguf_bytes({"w": ["a", "bb", "ccc"]}, [])).metadata["w"]
    assert isinstance(words, StringArray)
    assert (len(words), words[1], words[-1], words[1:], list(words)) == (
        3, "bb", "ccc", ["bb", "ccc"], ["a", "bb", "ccc"],
    )  # fmt: skip
    with pytest.raises(IndexError):
        words[3]


def test_strings_may_be_larger_than_the_reading_window(parse):
    words = ["x" * 700_000, "y" * 1_500_000, "z"] * 3
    assert parse(gguf_bytes({"w": words, "after": 1}, [ONE])).metadata["w"].tolist() == words


def test_alignment_is_taken_from_the_file(parse):
    file = parse(gguf_bytes({"general.alignment": 256}, [ONE, TWO], alignment=256))
    assert [t.offset % 256 for t in file.tensors.values()] == [0, 0]


def _nested() -> bytes:
    return struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 4, 0)


UNSOUND = {
    "no GGUF": b"GGML" + bytes(60),
    "too short": b"GGUF",
    "version": gguf_bytes({}, [ONE], version=1),
    "big endian": b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(64),
    "key twice": gguf_bytes([("a", 1), ("a", 2)], [ONE]),
    "tensor twice": gguf_bytes({}, [ONE, ONE]),
    "unaligned": gguf_bytes({}, [ONE, TWO], offsets={"v": 33}),
    "overlap": gguf_bytes({}, [ONE, TWO], offsets={"v": 0}),
    "outside": gguf_bytes({}, [ONE, TWO], offsets={"v": 1 << 40}),
    "offset that wraps": gguf_bytes({}, [ONE, TWO], offsets={"v": (1 << 64) - 32}),
    "truncated data": gguf_bytes({}, [ONE, TWO])[:-1],
    "alignment 0": gguf_bytes({"general.alignment": 0}, [ONE]),
    "alignment 24": gguf_bytes({"general.alignment": 24}, [ONE]),
    "alignment text": gguf_bytes({"general.alignment": "32"}, [ONE]),
    "many tensors": b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0) + bytes(64),
    "many keys": b"GGUF" + struct.pack("<IQQ", 3, 0, (1 << 64) - 1) + bytes(64),
    "long key": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 50) + bytes(64),
    "long array": gguf_bytes({"a": struct.pack("<IIQ", 9, 10, 1 << 61)}, [ONE]),
    "long string array": gguf_bytes({"a": struct.pack("<IIQ", 9, 8, 1 << 40)}, [ONE]),
    "long string in array": gguf_bytes(
        {"a": struct.pack("<IIQ", 9, 8, 1) + struct.pack("<Q", 1 << 63)}, [ONE]
    ),
    "array of arrays": gguf_bytes({"a": _nested()}, [ONE]),
    "unknown value type": gguf_bytes({"a": struct.pack("<II", 77, 0)}, [ONE]),
    "bool of 2": gguf_bytes({"a": struct.pack("<IB", 7, 2)}, [ONE]),
    "key not UTF-8": gguf_bytes([], [])[:16]
    + struct.pack("<Q", 1)
    + string(b"\xff\xfe")
    + bytes(9),
    "no dimensions": gguf_bytes({}, [Tensor("w", "f32", (), b"")]),
    "five dimensions": gguf_bytes({}, [Tensor("w", "f32", (1,) * 5, bytes(4))]),
    "empty dimension": gguf_bytes({}, [Tensor("w", "f32", (0, 4), b"")]),
    "huge product": gguf_bytes({}, [Tensor("w", "f32", (1 << 40, 1 << 40), b"")]),
    "half a block": gguf_bytes({}, [Tensor("w", "q8_0", (1, 16), bytes(34))]),
    "split": gguf_bytes({"split.count": 3}, [ONE]),
}


@pytest.mark.parametrize("what", UNSOUND)
def test_an_unsound_file_is_a_model_error_with_a_hint(parse, what):
    with pytest.raises(ModelError) as caught:
        parse(UNSOUND[what])
    assert caught.value.hint


def test_an_unknown_tensor_type_names_the_known_ones(parse):
    with pytest.raises(ModelError, match="ggml type 39") as caught:
        parse(gguf_bytes({}, [Tensor("w", "mxfp4", (1, 32), bytes(17))]))
    assert "Q4_K" in caught.value.hint


def test_every_truncation_is_a_model_error(parse):
    data = small_gguf(MIXED)
    header = data.index(b"blk.0.ffn_down") + 64
    cuts = [*range(0, header, 7), *range(header, len(data), 1009), len(data) - 1]
    for cut in cuts:
        with pytest.raises(ModelError):
            parse(data[:cut])


def test_what_is_no_file_is_a_model_error(tmp_path):
    for path in (tmp_path, tmp_path / "nothing.gguf"):
        with pytest.raises(ModelError):
            read_gguf(path)


def test_strings_that_are_not_utf8_fail_where_they_are_read(parse):
    bad = struct.pack("<IIQ", 9, 8, 2) + string("fine") + string(b"\xff")
    words = parse(gguf_bytes({"w": bad}, [])).metadata["w"]
    assert words[0] == "fine"
    with pytest.raises(ModelError, match="UTF-8"):
        words.tolist()
    with pytest.raises(ModelError, match="UTF-8"):
        words[1]


def test_a_large_vocabulary_is_scanned_once(parse):
    tokens = [f"token number {i}" for i in range(262_144)]
    file = parse(gguf_bytes({"t": tokens}, []))
    assert len(file.metadata["t"]) == 262_144 and file.metadata["t"][262_143] == tokens[-1]
