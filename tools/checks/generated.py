"""Generated pages must be what tools/gen_docs.py would write, and no others beside them."""

import sys
from collections.abc import Iterator

from checks.tree import ROOT, Finding


def check_generated() -> Iterator[Finding]:
    """Pages that are stale, or left from a strategy or a record that is gone."""
    sys.path.insert(0, str(ROOT / "tools"))
    import concepts
    import gen_docs
    import scoreboard_page

    for path, text in gen_docs.pages():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            yield Finding(str(path.relative_to(ROOT)), 1, "is stale: run make docs")
    for path in concepts.strays():
        yield Finding(str(path.relative_to(ROOT)), 1, "is of no strategy and no family: delete it")
    for path in scoreboard_page.strays():
        yield Finding(str(path.relative_to(ROOT)), 1, "has no entries: delete it")
