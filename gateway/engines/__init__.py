"""Model servers that askonce starts itself: one file each, and one line in this table.

An engine is an async context manager: a `Setting` comes in, the model's server runs for the length of the block, and
how workers reach it comes out. It raises an `AskonceError`, one sentence for the user, when it cannot.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from gateway.config import BackendConfig
from gateway.engines import llamacpp, ollama, vllm
from gateway.engines.engine import Setting, Tell

__all__ = ["ENGINES", "Engine", "Setting", "Tell"]

Engine = Callable[[Setting, str], AbstractAsyncContextManager[BackendConfig]]

ENGINES: dict[str, Engine] = {
    "llamacpp": llamacpp.serving,
    "ollama": ollama.serving,
    "vllm": vllm.serving,
}
