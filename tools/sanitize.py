"""Run the kernel tests on a native module built with sanitizers (`make sanitize`).

AddressSanitizer and UBSan watch the kernels through Python; ThreadSanitizer watches the pool in a
C++ program of its own, since Python itself is not built for it. Needs g++ or clang++.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE = f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
TESTS = ("tests/engine/kernels", "tests/engine/test_llm.py", "tests/engine/test_invariance.py")


def run(*command: str | Path, **options: object) -> None:
    """Run a command; its failure is ours."""
    subprocess.run([str(c) for c in command], check=True, cwd=ROOT, **options)  # type: ignore[call-overload]


def kernels(folder: Path, compiler: str) -> None:
    """ASan and UBSan: a copy of the package with the sanitized module in it."""
    build = folder / "build"
    run("cmake", "-S", ROOT, "-B", build, "-DSIXFOLD_SANITIZE=address,undefined",
        f"-DPython_EXECUTABLE={sys.executable}", f"-DCMAKE_CXX_COMPILER={compiler}")  # fmt: skip
    run("cmake", "--build", build, "-j", str(os.cpu_count()))
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.so"))
    (module,) = build.glob("_native*.so")
    shutil.copy(module, folder / "src" / "sixfold" / "engine" / "kernels" / MODULE)
    command = [compiler, "-print-file-name=libasan.so"]
    asan = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    # -S leaves out the editable install, whose finder would go before PYTHONPATH.
    path = f"{folder / 'src'}{os.pathsep}{sysconfig.get_path('purelib')}"
    environment = os.environ | {
        "LD_PRELOAD": asan,
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "PYTHONPATH": path,
    }
    run(sys.executable, "-S", "-m", "pytest", "-x", "-p", "no:cacheprovider", "-m", "not slow",
        "-k", "not real_model", *TESTS, env=environment)  # fmt: skip


def pool(folder: Path, compiler: str) -> None:
    """TSan and ASan on the thread pool's stress program."""
    for sanitizer in ("thread", "address,undefined"):
        program = folder / f"pool_stress_{sanitizer.split(',')[0]}"
        run(compiler, "-std=c++20", "-O1", "-g", f"-fsanitize={sanitizer}", "-pthread", "-Inative",
            "tests/native/pool_stress.cpp", "native/pool.cpp", "-o", program)  # fmt: skip
        run(program)


def main() -> None:
    """Both."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        sys.exit("error: sanitizers need g++ or clang++\nhint: install one")
    with tempfile.TemporaryDirectory() as name:
        pool(Path(name), compiler)
        kernels(Path(name), compiler)


if __name__ == "__main__":
    main()
