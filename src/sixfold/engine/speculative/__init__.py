"""Speculative decoding: tokens guessed cheaply, checked by the model in one step."""
