"""Opens a model's files: a configuration, and lazy tensors by the project's own names.

The only door to weights on disk: a .gguf file or a directory of safetensors. Reads headers only;
packing the tensors for the kernels is `weights.py`.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from sixfold.core.config import ModelConfig
from sixfold.core.errors import ModelError, NotFoundError
from sixfold.engine.models.content_key import content_key
from sixfold.engine.models.dequant import READABLE
from sixfold.engine.models.gguf import read_gguf
from sixfold.engine.models.gguf_config import read_gguf_config
from sixfold.engine.models.hf_config import read_hf_config
from sixfold.engine.models.registry import only_gguf, sixfold_home
from sixfold.engine.models.safetensors_file import read_directory
from sixfold.engine.models.tensors import (
    OnePlusTensor,
    SourceTensor,
    StoredTensor,
    UnpermutedTensor,
)
from sixfold.engine.models.weight_names import (
    check_layers,
    check_shapes,
    expected_shapes,
    find_prefix,
    gguf_name,
    hf_name,
)

__all__ = ["Checkpoint", "SourceTensor", "open_checkpoint"]


class Checkpoint:
    """A model on disk. `tensors` has every tensor that `config` implies, in the right shape."""

    def __init__(
        self,
        path: Path,
        config: ModelConfig,
        tensors: Mapping[str, SourceTensor],
        files: list[Path],
        cache_dir: Path,
    ) -> None:
        """Use `open_checkpoint`."""
        self.path, self.config, self.tensors = path, config, tensors
        self._files, self._cache_dir = files, cache_dir

    @cached_property
    def content_key(self) -> str:
        """Hex digest of the weight files; the first time for a file, this reads all of it."""
        return content_key(self._files, self._cache_dir)


def open_checkpoint(path: Path, cache_dir: Path | None = None) -> Checkpoint:
    """Open a .gguf file or a model directory. `cache_dir` keeps the memo of content keys.

    Raises NotFoundError if there is no such path, ModelError if it is not a model we can run.
    """
    cache_dir = cache_dir or sixfold_home()
    if not path.exists():
        raise NotFoundError(f"there is no model at {path}", "check the path, or pull the model")
    path = only_gguf(path)
    if path.is_dir() and not (path / "config.json").exists():
        raise ModelError(
            f"{path} has neither a config.json nor one .gguf file",
            "name a directory with config.json and safetensors, or a .gguf file",
        )
    return _open_directory(path, cache_dir) if path.is_dir() else _open_gguf(path, cache_dir)


def _open_gguf(path: Path, cache_dir: Path) -> Checkpoint:
    gguf = read_gguf(path)
    config = read_gguf_config(gguf)
    shapes = expected_shapes(config)
    stored = {name: gguf_name(name) for name in shapes}
    check_shapes(shapes, {n: i.shape for n, i in gguf.tensors.items()}, stored)
    check_layers(gguf.tensors, set(stored.values()), "", config)
    tensors: dict[str, SourceTensor] = {}
    for name in shapes:
        info = gguf.tensors[stored[name]]
        _check_kind(stored[name], info.kind)
        tensor: SourceTensor = StoredTensor(gguf.reader, info.offset, name, info.shape, info.kind)
        if config.architecture == "llama" and name.split(".")[-2] in ("q", "k"):
            tensor = UnpermutedTensor(tensor, config.head_dim)
        tensors[name] = tensor
    return Checkpoint(path, config, tensors, [path], cache_dir)


def _open_directory(path: Path, cache_dir: Path) -> Checkpoint:
    config = read_hf_config(path)
    found, files = read_directory(path)
    prefix = find_prefix(found)
    shapes = expected_shapes(config)
    stored = {name: hf_name(name, config.architecture, prefix) for name in shapes}
    check_shapes(shapes, {n: t.shape for n, t in found.items()}, stored)
    check_layers(found, set(stored.values()), prefix, config)
    tensors: dict[str, SourceTensor] = {}
    for name in shapes:
        at = found[stored[name]]
        _check_kind(stored[name], at.kind)
        tensor: SourceTensor = StoredTensor(at.reader, at.offset, name, at.shape, at.kind)
        if config.architecture == "gemma3" and name.endswith("norm.weight"):
            tensor = OnePlusTensor(tensor)
        tensors[name] = tensor
    # Packing depends on the configuration, too: it says how tensors are to be read.
    return Checkpoint(path, config, tensors, [*files, path / "config.json"], cache_dir)


def _check_kind(name: str, kind: str) -> None:
    if kind not in READABLE:
        raise ModelError(
            f"tensor {name} is stored as {kind}, which is no weight format of this build",
            f"use a model in one of: {', '.join(READABLE)}",
        )
