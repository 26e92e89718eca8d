"""What each kind of server tells of its model, as Ollama's clients are told it."""

from typing import Any

import pytest

from gateway.canonical import Description
from gateway.errors import BackendError, BackendUnavailable
from gateway.routing.replica import Replica
from tests.suites.faulty import Peer, faulty
from tests.suites.test_tool_ways import Model, build

VECTOR = {"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 1}}
META = {"n_vocab": 1024, "n_ctx_train": 8192, "n_embd": 192, "n_params": 268098176, "size": 5000, "ftype": "Q8_0"}
SHOWN = {
    "capabilities": ["completion", "thinking", "tools", "vision"],
    "details": {"family": "qwen3", "families": ["qwen3"], "parameter_size": "1B", "quantization_level": "Q4_K_M"},
    "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 4096},
    "modelfile": "FROM /srv/models/blobs/sha256-1",
    "template": "{{ .Prompt }}",
    "parameters": "temperature 0.6",
    "modified_at": "2026-01-02T03:04:05Z",
    "license": "MIT",
}


async def described(model: Model) -> Description:
    """What a backend of it tells."""
    async with faulty(model.serve) as server:
        backend = build(model.kind, server.url)
        try:
            return await backend.described()
        finally:
            await backend.aclose()


async def test_ollama_describes_its_models_itself() -> None:
    """All that it shows comes through, but for the places of its files."""
    tags = {"models": [{"model": "other", "size": 1}, {"model": "m:latest", "size": 77}]}
    found = await described(Model("ollama", _api_show=SHOWN, _api_tags=tags))
    assert found.capabilities == tuple(SHOWN["capabilities"])
    assert (found.details, found.model_info) == (SHOWN["details"], SHOWN["model_info"])
    assert (found.template, found.parameters, found.license) == ("{{ .Prompt }}", "temperature 0.6", "MIT")
    assert (found.modified_at, found.size_bytes) == (SHOWN["modified_at"], 77)
    assert "/srv/models" not in str(found)


def llamacpp(*, embeds: bool, vision: bool = False) -> Model:
    """A server that says all it can."""
    replies: dict[str, Any] = {
        "_props": {"chat_template": "{{ m }}", "modalities": {"vision": vision}, "model_ftype": "F16"},
        "_v1_models": {"data": [{"id": "m", "meta": META}]},
        "_v1_embeddings": VECTOR if embeds else 501,
    }
    return Model("llamacpp", **replies)


async def test_llamacpp_describes_what_it_has_loaded() -> None:
    """Size, length, quantization, and whether it sees or embeds."""
    found = await described(llamacpp(embeds=True, vision=True))
    assert found.capabilities == ("completion", "tools", "vision", "embedding")
    assert found.details == {"format": "gguf", "parameter_size": "268.10M", "quantization_level": "Q8_0"}
    assert found.model_info["general.context_length"] == 8192
    assert found.model_info["general.parameter_count"] == 268098176
    assert (found.template, found.size_bytes) == ("{{ m }}", 5000)
    assert "embedding" not in (await described(llamacpp(embeds=False))).capabilities


@pytest.mark.parametrize(("embeds", "can"), [(404, ("completion", "tools")), (VECTOR, ("embedding",))])
async def test_vllm_either_generates_or_embeds(embeds: Any, can: tuple[str, ...]) -> None:
    """And says how long a context may be."""
    cards = {"data": [{"id": "m", "max_model_len": 2048}]}
    found = await described(Model("vllm", _v1_models=cards, _v1_embeddings=embeds))
    assert found.capabilities == can
    assert (found.model_info, found.context_tokens) == ({"general.context_length": 2048}, 2048)


async def test_a_server_that_cannot_be_asked_is_no_server_without_abilities() -> None:
    """What it cannot do is not known then."""

    async def busy(peer: Peer) -> None:
        await peer.head("503 Busy", "application/json")
        await peer.say("{}")

    async with faulty(busy) as server:
        for kind in ("openai", "vllm", "llamacpp", "ollama"):
            backend = build(kind, server.url)
            with pytest.raises(BackendUnavailable):
                await backend.described()
            await backend.aclose()


async def test_a_replica_is_asked_once_for_each_of_its_models() -> None:
    """Until it is another one; what failed is asked again."""
    model = Model("ollama", _api_show=503, _api_tags={"models": []})
    async with faulty(model.serve) as server:
        replica = Replica(build("ollama", server.url))
        with pytest.raises(BackendError):
            await replica.described()
        model.replies["/api/show"] = SHOWN
        assert (await replica.described()).details == SHOWN["details"]
        model.replies["/api/show"] = SHOWN | {"details": {"family": "other"}}
        assert (await replica.described()).details == SHOWN["details"]
        await replica.returned()
        assert (await replica.described()).details == {"family": "other"}
        await replica.aclose()
