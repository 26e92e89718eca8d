"""Prices and what was used in, millionths of a US dollar out. Pure."""

from collections.abc import Sequence

import msgspec

from gateway.canonical import Vector
from gateway.config import ReplicaConfig
from storage.entry import Usage


def cost(prices: ReplicaConfig, usage: Usage, seconds: float) -> int:
    """What an answer cost: a US dollar for a million tokens is a millionth of one for each."""
    prompt = usage.prompt_tokens * prices.usd_per_million_prompt_tokens
    completion = usage.completion_tokens * prices.usd_per_million_completion_tokens
    return round(prompt + completion + seconds * prices.usd_per_gpu_second * 1e6)


def priced(prices: ReplicaConfig, vectors: Sequence[Vector], seconds: float) -> list[Vector]:
    """`vectors`, each with its share of what the call cost; together they have all of it."""
    tokens = sum(vector.tokens for vector in vectors)
    left = cost(prices, Usage(prompt_tokens=tokens), seconds)
    shared: list[Vector] = []
    for vector in vectors:
        share = round(left * vector.tokens / tokens) if tokens else 0
        shared.append(msgspec.structs.replace(vector, cost_micro_usd=share))
        left, tokens = left - share, tokens - vector.tokens
    return shared
