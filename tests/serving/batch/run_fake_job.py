"""A process that runs DIRECTORY/in.jsonl with a fake target, as the command line would."""

import sys
from pathlib import Path

from fake_target import FakeTarget
from job_harness import job_at, run_job

from sixfold.core.errors import SixfoldError

directory = Path(sys.argv[1])
try:
    run_job(job_at(directory / "in.jsonl", directory / "out.jsonl"), FakeTarget(delay=0.002))
except SixfoldError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)
