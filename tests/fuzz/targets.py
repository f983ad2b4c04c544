"""All fuzz targets of parsers: add yours here, and `run_fuzz.py` runs them, too.

(name, seeds, function of bytes, mutator): the function returns normally whatever the bytes are.
"""

from fuzz import model_targets, tokenizer_targets
from fuzz.mutate import mutate

TARGETS = [
    *model_targets.TARGETS,
    *((name, seeds, target, mutate) for name, seeds, target in tokenizer_targets.TARGETS),
]
