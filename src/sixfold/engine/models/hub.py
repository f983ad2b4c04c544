"""Fetches a model from the Hugging Face hub through the optional huggingface_hub library.

Takes safetensors, GGUF and JSON only: never pickled weights, never code.
"""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from sixfold.core.errors import ModelError, NotFoundError
from sixfold.engine.models.content_key import sha256_file
from sixfold.engine.models.registry import model_dir, only_gguf
from sixfold.engine.models.safetensors_file import INDEX, SINGLE
from sixfold.engine.models.wheels import Progress

_POLL_SECONDS = 0.1

_CONFIG = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "LICENSE*",
    "chat_template.json", "chat_template.jinja",
)  # fmt: skip


def pull_hub(name: str, home: Path, progress: Progress) -> Path:
    """Fetch org/name (its safetensors, or its only GGUF file) or org/name/file.gguf.

    An interrupted pull goes on where it was. Raises ModelError, NotFoundError.
    """
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise ModelError(
            f"{name} comes from the Hugging Face hub, which needs the extra 'hub'",
            "run: pip install 'sixfold[hub]'",
        ) from error
    repo, file = name, ""
    if name.endswith(".gguf"):
        repo, _, file = name.rpartition("/")
    goal = model_dir(repo, home)
    if (goal / file).is_file() if file else goal.is_dir():
        return only_gguf(goal / file)
    downloads = home / "downloads" / goal.name
    try:
        info = hub.model_info(repo, files_metadata=True)
        listed = {s.rfilename: s for s in info.siblings or []}
        wanted = choose_files(repo, list(listed), file)
        sizes = [listed[item].size or 0 for item in wanted]
        for number, item in enumerate(wanted):
            shown = _Shown(progress, sum(sizes[:number]), sum(sizes), item)
            with _watched(downloads, sizes[number], shown):
                hub.hf_hub_download(repo, item, local_dir=downloads, revision=info.sha)
            _check(downloads / item, listed[item])
        progress(sum(sizes), sum(sizes), repo)
    except (ModelError, NotFoundError):
        raise
    except Exception as error:  # the library raises its own, its HTTP client's and OSErrors
        raise _hub_error(repo, error) from error
    return only_gguf(_move(downloads, goal, wanted) / file)


class _Shown(NamedTuple):
    """What of a pull is shown: bytes done `before` this file, and `total`."""

    progress: Progress
    before: int
    total: int
    item: str

    def at(self, now: int) -> None:
        """Show `now` bytes of this file."""
        self.progress(self.before + now, self.total, self.item)


@contextmanager
def _watched(downloads: Path, size: int, shown: _Shown) -> Iterator[None]:
    """Show how the file grows that the library is fetching meanwhile."""
    ended = threading.Event()

    def watch() -> None:
        most = 0
        while not ended.wait(_POLL_SECONDS):
            most = max(most, min(_growing(downloads), size))
            shown.at(most)

    shown.at(0)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _growing(downloads: Path) -> int:
    """Bytes of the unfinished file that was written to last."""
    found = [(0.0, 0)]
    for path in downloads.glob(".cache/**/*.incomplete"):
        with suppress(OSError):  # the library finished it in this moment
            stat = path.stat()
            found.append((stat.st_mtime, stat.st_size))
    return max(found)[1]


def _check(path: Path, listed: Any) -> None:
    """Hold a file against the hub's own list: the library compares the size only, and not always.

    Raises ModelError; the file is deleted then, so that the next pull fetches it anew.
    """
    checksum = getattr(getattr(listed, "lfs", None), "sha256", None)
    whole = listed.size is None or path.stat().st_size == listed.size
    if not whole or (checksum and sha256_file(path) != checksum):
        path.unlink()
        raise ModelError(f"{path.name} is not the file that the hub lists", "pull again")


def choose_files(repo: str, files: list[str], file: str = "") -> list[str]:
    """What to fetch of a repository's files: the top level's weights and JSON, small ones first.

    Raises NotFoundError if `file` is not among them, ModelError if there is nothing to run.
    """
    top = [f for f in files if "/" not in f and "\\" not in f and not f.startswith(".")]
    if file:
        if file not in top:
            raise NotFoundError(f"{repo} has no file {file}", "look at the repository's files")
        return [file]
    config = [f for f in top if any(fnmatchcase(f, pattern) for pattern in _CONFIG)]
    if "config.json" in config and SINGLE in top:
        return [*config, SINGLE]
    if "config.json" in config and INDEX in top:
        parts = sorted(f for f in top if f.endswith(".safetensors"))
        return [*config, INDEX, *(f for f in parts if not f.startswith("consolidated"))]
    gguf = sorted(f for f in top if f.endswith(".gguf"))
    if len(gguf) == 1:
        return gguf
    if gguf:
        raise ModelError(
            f"{repo} has {len(gguf)} GGUF files: {', '.join(gguf[:20])}",
            f"name one: sixfold pull {repo}/{gguf[0]}",
        )
    raise ModelError(
        f"{repo} has neither safetensors with a config.json nor GGUF files",
        "other formats are never loaded: choose another repository",
    )


def _move(downloads: Path, goal: Path, wanted: list[str]) -> Path:
    """Give the finished files their place: a new directory at once, or one file more in it."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(downloads / ".cache", ignore_errors=True)  # the library's own bookkeeping
    if goal.is_dir():
        for item in wanted:
            os.replace(downloads / item, goal / item)
        shutil.rmtree(downloads, ignore_errors=True)
    else:
        os.replace(downloads, goal)
    return goal


def _hub_error(repo: str, error: Exception) -> ModelError:
    kind = type(error).__name__
    status: Any = getattr(getattr(error, "response", None), "status_code", None)
    if kind == "GatedRepoError" or status in (401, 403):
        return ModelError(
            f"the hub does not give out {repo} to everybody",
            "accept its terms on its page and set HF_TOKEN, or check the name",
        )
    if kind == "RepositoryNotFoundError" or status == 404:
        return ModelError(f"the hub has no model {repo}", "check the name")
    return ModelError(
        f"cannot fetch {repo} from the hub: {kind}: {str(error)[:200]}",
        "is the hub reachable? pull again to go on",
    )
