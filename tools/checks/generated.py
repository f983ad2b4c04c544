"""Generated pages must be what tools/gen_docs.py would write."""

import sys
from collections.abc import Iterator

from checks.tree import ROOT, Finding


def check_generated() -> Iterator[Finding]:
    """Pages that are stale."""
    sys.path.insert(0, str(ROOT / "tools"))
    import gen_docs

    for path, text in gen_docs.pages():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            yield Finding(str(path.relative_to(ROOT)), 1, "is stale: run make docs")
