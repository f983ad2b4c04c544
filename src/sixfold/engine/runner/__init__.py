"""From scheduled chunks to tokens."""
