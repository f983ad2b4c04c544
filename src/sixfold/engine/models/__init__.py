"""Models: files, tokenizers, templates, and the programs they draw."""
