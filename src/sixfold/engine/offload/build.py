"""What `--kv-offload-*` says, made. Not here: moving blocks (offloader.py)."""

import hashlib
from pathlib import Path

from sixfold.core.config import EngineConfig
from sixfold.core.errors import ConfigError
from sixfold.engine.kernels.program import Program
from sixfold.engine.offload.disk_tier import DiskTier
from sixfold.engine.offload.offloader import Offloader
from sixfold.engine.offload.ram_tier import RamTier
from sixfold.engine.runner.executor import Executor


def build_offloader(
    config: EngineConfig, program: Program, executor: Executor, model_key: str
) -> Offloader | None:
    """None where nothing is offloaded. Raises ConfigError for models and settings that can't be.

    `model_key` differs wherever keys and values do, but for the kernels that compute them.
    """
    if not (config.kv_offload_dir or config.kv_offload_ram_mb):
        return None
    from sixfold.engine.kernels import ops

    if not isinstance(executor, ops.NativeModel):
        raise ConfigError("offloading needs the native executor", "leave --executor out")
    if len(program.kv_groups) != 1 or program.kv_groups[0].window is not None:
        raise ConfigError(
            "the model has sliding windows: its blocks are not offloaded",
            "leave --kv-offload-dir and --kv-offload-ram-mb out",
        )
    if config.kv_cache == "contiguous" or not config.enable_prefix_caching:
        raise ConfigError("offloading is for cached prefixes", "turn prefix caching on")
    disk = None
    if config.kv_offload_dir:
        fingerprint = hashlib.blake2b(
            f"{model_key} {executor.isa}".encode(), digest_size=16
        ).digest()
        disk = DiskTier(
            Path(config.kv_offload_dir).expanduser() / fingerprint.hex(), fingerprint,
            config.kv_offload_gb << 30, 3600.0 * config.kv_offload_ttl_hours,
        )  # fmt: skip
    ram = RamTier(config.kv_offload_ram_mb << 20) if config.kv_offload_ram_mb else None
    return Offloader([executor.arena(0)], disk, ram)
