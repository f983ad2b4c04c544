"""`python -m sixfold`: the command line."""

import sys

from sixfold.cli.main import main

sys.exit(main())
