"""KV offload: blocks of keys and values outside the arena, on disk and compressed in memory."""
