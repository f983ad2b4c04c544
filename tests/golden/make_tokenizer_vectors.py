"""Make the tokenizer vectors: what llama.cpp's tokenizer answers on ``hard_strings.STRINGS``.

One compact JSON per GGUF file, ``tokenizer_NAME.json``:

- ``model``, ``pre``: the file's ``tokenizer.ggml.model`` and ``tokenizer.ggml.pre`` (may be null);
- ``prefix``, ``suffix``: the ids that ``add_special=True`` puts around the others (checked on
  every string; strings that do not follow this rule carry ``with_special``);
- ``cases``: a list of objects with ``text``; ``ids`` (``add_special=False, parse_special=False``);
  ``special``, the ids with ``parse_special=True``, only where they differ from ``ids``;
  ``decoded``, only where ``llama_detokenize(ids, unparse_special=True)`` differs from the text:
  its bytes as hexadecimal digits.

Made with: llama.cpp of the llama-cpp-python 0.3.36 source package, gguf 0.19.0.

    python make_tokenizer_vectors.py LIBLLAMA NAME=FILE.gguf [NAME=FILE.gguf ...] [--out DIR]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from gguf import GGUFReader
from hard_strings import STRINGS
from llama_cpp import Tokenizer


def around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids that ``add_special=True`` puts before and after a text."""
    plain = tokenizer.encode("x", add_special=False)
    full = tokenizer.encode("x", add_special=True)
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[:start], full[start + len(plain) :]
    raise AssertionError("add_special changes the text's own tokens")


def vectors(tokenizer: Tokenizer) -> dict[str, Any]:
    """Everything but the file's own metadata."""
    prefix, suffix = around(tokenizer)
    cases: list[dict[str, Any]] = []
    for text in STRINGS:
        ids = tokenizer.encode(text, add_special=False)
        case: dict[str, Any] = {"text": text, "ids": ids}
        special = tokenizer.encode(text, add_special=False, parse_special=True)
        if special != ids:
            case["special"] = special
        with_special = tokenizer.encode(text, add_special=True)
        if with_special != prefix + ids + suffix:
            case["with_special"] = with_special
        decoded = tokenizer.decode(ids)
        if decoded != text.encode():
            case["decoded"] = decoded.hex()
        cases.append(case)
    return {"prefix": prefix, "suffix": suffix, "cases": cases}


def main() -> None:
    """Write one JSON file per model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("libllama", type=Path)
    parser.add_argument("models", nargs="+", metavar="NAME=FILE.gguf")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    for item in args.models:
        name, path = item.split("=", 1)
        fields = GGUFReader(path).fields
        kind, pre = (
            fields[key].contents() if key in fields else None
            for key in ("tokenizer.ggml.model", "tokenizer.ggml.pre")
        )
        result = {"model": kind, "pre": pre} | vectors(Tokenizer(args.libllama, Path(path)))
        target = args.out / f"tokenizer_{name}.json"
        target.write_text(json.dumps(result, ensure_ascii=True, separators=(",", ":")) + "\n")
        cases = result["cases"]
        odd = {k: sum(k in c for c in cases) for k in ("special", "with_special", "decoded")}
        print(f"{name}: {kind}/{pre}, {len(cases)} cases, {odd}, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
