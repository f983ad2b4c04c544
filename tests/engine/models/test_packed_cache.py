"""The cache of packed weights: shared between users, and made anew where it is damaged."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sixfold.core.errors import ModelError
from sixfold.engine.models.checkpoint import open_checkpoint
from sixfold.engine.models.weights import Vector, Weights, load_weights

TINY = Path(__file__).parents[2] / "golden" / "tiny_gguf" / "tiny-llama.gguf"


def loaded(cache: Path) -> Weights:
    return load_weights(open_checkpoint(TINY), "int8", cache)


def equal(ours: Weights, theirs: Weights) -> bool:
    def raw(weights: Weights, name: str) -> np.ndarray:
        one = weights[name]
        return one.values if isinstance(one, Vector) else one.data

    return ours.keys() == theirs.keys() and all(
        np.array_equal(raw(ours, name), raw(theirs, name)) for name in ours
    )


def only_file(cache: Path) -> Path:
    (path,) = (cache / "packed").iterdir()
    return path


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda data: b"",
        lambda data: data[:12],
        lambda data: b"x" + data[1:],
        lambda data: data[:8] + b"\xff" * 8 + data[16:],
        lambda data: data[:16] + b"[" + data[17:],
        lambda data: data + b"more",
    ],
)
def test_a_damaged_file_is_made_anew(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    right = loaded(tmp_path)
    path = only_file(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert equal(loaded(tmp_path), right)
    assert only_file(tmp_path).read_bytes() == whole


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_are_as_open_as_the_user_wants(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        loaded(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(only_file(tmp_path).stat().st_mode) == 0o666 & ~mask


def test_a_file_that_cannot_be_read_is_replaced(tmp_path: Path) -> None:
    """As another user's private file is; a loop of links stands for it, root may read the rest."""
    right = loaded(tmp_path)
    path = only_file(tmp_path)
    path.unlink()
    path.symlink_to(path)
    assert equal(loaded(tmp_path), right)


def test_a_cache_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "packed").write_text("a file where the folder should be")
    with pytest.raises(ModelError, match="cannot write the packed weights") as caught:
        loaded(tmp_path)
    assert "SIXFOLD_CACHE_DIR" in caught.value.hint
