"""The safetensors reader: sound files, and an error for whatever is not one."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from engine.models.model_files import TINY, safetensors_bytes
from sixfold.core.errors import ModelError
from sixfold.engine.models.safetensors_file import read_directory, read_safetensors
from sixfold.engine.models.tensors import StoredTensor

A = ("F32", (2, 3), np.arange(6, dtype="<f4").tobytes())
B = ("BF16", (4,), (np.arange(4, dtype="<f4").view("<u4") >> 16).astype("<u2").tobytes())
SOUND = {"a": A, "b": B}


def rows(at, name="t"):
    return StoredTensor(at.reader, at.offset, name, at.shape, at.kind).rows(0, at.shape[0])


def write(directory, files):
    for name, data in files.items():
        raw = json.dumps(data).encode() if isinstance(data, dict) else data
        (directory / name).write_bytes(raw)
    return directory


def test_values_of_each_dtype(tmp_path):
    half = ("F16", (2,), np.array([0.5, -2], "<f2").tobytes())
    write(tmp_path, {"m.safetensors": safetensors_bytes(SOUND | {"c": half})})
    found = read_safetensors(tmp_path / "m.safetensors")
    assert rows(found["a"]).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert rows(found["b"]).tolist() == [0, 1, 2, 3]
    assert rows(found["c"]).tolist() == [0.5, -2]
    assert {n: t.kind for n, t in found.items()} == {"a": "f32", "b": "bf16", "c": "f16"}


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_agrees_with_the_safetensors_library(name):
    path = TINY / name / "model.safetensors"
    ours = read_safetensors(path)
    for key, values in load_file(path).items():
        assert np.array_equal(rows(ours[key], key), values.astype(np.float32))


def entry(dtype="F32", shape=(2, 3), offsets=(0, 24)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def raw_header(text: bytes, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + data


UNSOUND = {
    "empty": b"",
    "header beyond the file": (1 << 40).to_bytes(8, "little") + b"{}" + bytes(8),
    "header of 2^64 - 1": b"\xff" * 8 + bytes(8),
    "no JSON": raw_header(b"{nonsense}"),
    "no object": raw_header(b"[1, 2, 3]"),
    "no UTF-8": raw_header(b'{"\xff": 1}'),
    "deep": raw_header(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "key twice": raw_header(b'{"a": {}, "a": {}}'),
    "truncated": safetensors_bytes(SOUND)[:-1],
    "bytes left over": safetensors_bytes(SOUND) + b"x",
    "entry is a list": safetensors_bytes({"a": A}, a=[1]),
    "no dtype": safetensors_bytes({"a": A}, a={"shape": [6]}),
    "unknown dtype": safetensors_bytes({"a": A}, a=entry("F3")),
    "dtype is a list": safetensors_bytes({"a": A}, a=entry(["F32"])),
    "negative offset": safetensors_bytes({"a": A}, a=entry(offsets=(-24, 0))),
    "backwards": safetensors_bytes({"a": A}, a=entry(offsets=(24, 0))),
    "wrong size": safetensors_bytes({"a": A}, a=entry(shape=(2, 4))),
    "huge": safetensors_bytes({"a": A}, a=entry(shape=(1 << 61, 1 << 61))),
    "product that wraps": safetensors_bytes({"a": A}, a=entry(shape=(1 << 61, 8), offsets=(0, 0))),
    "float shape": safetensors_bytes({"a": A}, a=entry(shape=(2.0, 3))),
    "bool shape": safetensors_bytes({"a": A}, a=entry(shape=(True, 6))),
    "nine dimensions": safetensors_bytes({"a": A}, a=entry(shape=(1,) * 8 + (6,))),
    "outside": safetensors_bytes({"a": A}, a=entry(offsets=(24, 48))),
    "overlap": safetensors_bytes(SOUND | {"c": A}, c=entry(offsets=(0, 24))),
    "gap": safetensors_bytes(SOUND | {"c": A}, c=entry(offsets=(40, 64))),
}


@pytest.mark.parametrize("what", UNSOUND)
def test_an_unsound_file_is_a_model_error_with_a_hint(tmp_path, what):
    write(tmp_path, {"model.safetensors": UNSOUND[what]})
    with pytest.raises(ModelError) as caught:
        read_directory(tmp_path)
    assert caught.value.hint


def index(**places):
    return {"metadata": {}, "weight_map": places}


INDEX = "model.safetensors.index.json"


def test_an_index_joins_files(tmp_path):
    files = {
        "x.safetensors": safetensors_bytes({"a": A}),
        "y.safetensors": safetensors_bytes({"b": B}),
    }
    write(tmp_path, files | {INDEX: index(a="x.safetensors", b="y.safetensors")})
    tensors, paths = read_directory(tmp_path)
    assert sorted(tensors) == ["a", "b"]
    assert [p.name for p in paths] == ["x.safetensors", "y.safetensors"]


BAD_INDEX = {
    "lacks the tensor": index(a="x.safetensors", b="x.safetensors"),
    "lacks the file": index(a="z.safetensors"),
    "leads up": index(a="../x.safetensors"),
    "is absolute": index(a="/etc/x.safetensors"),
    "leads down": index(a="sub/x.safetensors"),
    "backslash": index(a="..\\x.safetensors"),
    "pickle": index(a="pytorch_model.bin"),
    "no name": index(a=["x.safetensors"]),
    "a number": index(a=1),
    "NUL": index(a="x\0.safetensors"),
    "very long": index(a="x" * 5000 + ".safetensors"),
    "surrogate": index(a="\ud800.safetensors"),
    "empty": index(),
    "a list": {"weight_map": ["x.safetensors"]},
    "nothing": {},
    "many files": index(**{f"t{i}": f"{i}.safetensors" for i in range(600)}),
}


@pytest.mark.parametrize("what", BAD_INDEX)
def test_a_bad_index_is_a_model_error(tmp_path, what):
    inside = tmp_path / "model"
    (inside / "sub").mkdir(parents=True)
    sound = safetensors_bytes({"a": A})
    write(tmp_path, {"x.safetensors": sound})
    write(inside, {"x.safetensors": sound, "sub/x.safetensors": sound, INDEX: BAD_INDEX[what]})
    with pytest.raises(ModelError) as caught:
        read_directory(inside)
    assert caught.value.hint


def test_a_link_out_of_the_directory_is_refused(tmp_path):
    inside = tmp_path / "model"
    inside.mkdir()
    write(tmp_path, {"secret.safetensors": safetensors_bytes({"a": A})})
    write(inside, {INDEX: index(a="x.safetensors")})
    (inside / "x.safetensors").symlink_to(tmp_path / "secret.safetensors")
    with pytest.raises(ModelError, match="link out"):
        read_directory(inside)


def test_links_of_the_hub_cache_are_followed(tmp_path):
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    blobs = tmp_path / "models--org--name" / "blobs"
    blobs.mkdir()
    write(blobs, {"0123": safetensors_bytes({"a": A})})
    write(snapshot, {INDEX: index(a="x.safetensors")})
    (snapshot / "x.safetensors").symlink_to("../../blobs/0123")
    tensors, _ = read_directory(snapshot)
    assert rows(tensors["a"]).shape == (2, 3)


def test_a_directory_without_weights_says_what_it_wants(tmp_path):
    write(tmp_path, {"pytorch_model.bin": b"never read"})
    with pytest.raises(ModelError, match=r"neither model\.safetensors"):
        read_directory(tmp_path)
