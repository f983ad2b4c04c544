"""The OpenAI-compatible server: HTTP in this process, the engine in its own.

`config.run_server` is the way in. Not here: models and steps (engine/), many servers (router/).
"""
