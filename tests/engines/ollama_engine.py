"""What the double of Ollama knows of the llama.cpp server behind it: the model, and the native endpoints."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from tests.engines import ollama_wire as wire

Lines = AsyncIterator[dict[str, Any]]


class Model:
    """The one model there is: its name, and what the files and llama.cpp tell about it."""

    def __init__(self, name: str, properties: dict[str, Any], listed: dict[str, Any]) -> None:
        """Take llama.cpp's /props and its entry of /v1/models."""
        self.name = name if ":" in name else f"{name}:latest"
        self.file = Path(properties["model_path"])
        self.template: str = properties["chat_template"]
        self.context_tokens: int = properties["default_generation_settings"]["n_ctx"]
        self.meta: dict[str, Any] = listed["meta"]
        self.digest = hashlib.sha256(self.file.read_bytes()).hexdigest()

    def expect(self, asked: str) -> None:
        """Refuse any other name; a name without a tag means `latest`, and case does not count."""
        if not asked:
            raise wire.OllamaError(400, "model is required")
        if (asked if ":" in asked else f"{asked}:latest").lower() != self.name.lower():
            raise wire.OllamaError(404, f"model '{asked}' not found")

    def details(self) -> dict[str, Any]:
        """Return the block that the listings share."""
        family = {"parent_model": "", "format": "gguf", "family": "gemma3", "families": ["gemma3"]}
        size = f"{self.meta['n_params'] / 1e6:.2f}M"
        return {**family, "parameter_size": size, "quantization_level": "F16"}

    def listed(self) -> dict[str, Any]:
        """Return the entry that /api/tags and /api/ps share."""
        size = self.file.stat().st_size
        names = {"name": self.name, "model": self.name}
        return {**names, "size": size, "digest": self.digest, "details": self.details()}

    def shown(self) -> dict[str, Any]:
        """Return the reply of /api/show."""
        info = {
            "general.architecture": "gemma3",
            "general.parameter_count": self.meta["n_params"],
            "gemma3.context_length": self.meta["n_ctx_train"],
            "gemma3.embedding_length": self.meta["n_embd"],
        }
        described = {"modelfile": f"FROM {self.file.name}\n", "parameters": "", "template": self.template}
        can = {"capabilities": ["completion"], "modified_at": wire.now()}
        return {**described, "details": self.details(), "model_info": info, **can}


class LlamaCpp:
    """The llama.cpp server's native endpoints that Ollama uses."""

    def __init__(self, url: str) -> None:
        """Keep no connection alive: llama.cpp closes them without a word after a stream."""
        limits = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.AsyncClient(base_url=url, timeout=300, limits=limits, trust_env=False)

    async def model(self, name: str) -> Model:
        """Ask what is being served."""
        properties = (await self.client.get("/props")).raise_for_status().json()
        listed = (await self.client.get("/v1/models")).raise_for_status().json()
        return Model(name, properties, listed["data"][0])

    async def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Post, and return the reply; an error keeps its status."""
        reply = await self.client.post(path, json=body)
        if reply.is_error:
            raise wire.OllamaError(reply.status_code, error_text(reply.json()))
        return reply.json()

    async def completion(self, body: dict[str, Any]) -> Lines:
        """Stream the chunks of a completion."""
        async with self.client.stream("POST", "/completion", json=body) as reply:
            if reply.is_error:
                raise wire.OllamaError(reply.status_code, error_text(json.loads(await reply.aread())))
            async for line in lines(reply):
                if line.startswith(b"data: "):
                    chunk = json.loads(line.removeprefix(b"data: "))
                    if "error" in chunk:
                        raise wire.OllamaError(500, error_text(chunk))
                    yield chunk


async def lines(reply: httpx.Response) -> AsyncIterator[bytes]:
    """Split at newlines only: httpx would split at U+2028 and its like too, inside a text."""
    rest = b""
    async for piece in reply.aiter_bytes():
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line
    yield rest


def error_text(reply: dict[str, Any]) -> str:
    """Return the message of one of llama.cpp's errors."""
    return str(reply["error"]["message"])
