"""Gemma 3's text network in plain torch, small enough to train on two CPU cores."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    """The network's sizes; the names follow Hugging Face's config.json."""

    vocab_size: int
    hidden_size: int = 192
    intermediate_size: int = 512
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 1
    head_dim: int = 64
    # llama.cpp makes every sixth Gemma 3 layer global; with fewer layers all of them slide, so
    # one base angle serves all and the window is wide enough for every prompt trained on.
    sliding_window: int = 2048
    rope_local_base_freq: float = 10_000.0
    rms_norm_eps: float = 1e-6


class Norm(nn.Module):
    """Gemma's RMS norm: the stored weight is the factor less one."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * (1.0 + self.weight)).to(x.dtype)


def rotation(length: int, size: int, base: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cosines and sines (length, size) that rotary position embedding needs."""
    angles = base ** (-torch.arange(0, size, 2).float() / size)
    table = torch.outer(torch.arange(length).float(), angles)
    table = torch.cat((table, table), dim=-1)
    return table.cos(), table.sin()


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class Attention(nn.Module):
    """Causal attention with shared keys and values and norms on queries and keys."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        wide, narrow = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, wide, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, narrow, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, narrow, bias=False)
        self.o_proj = nn.Linear(wide, shape.hidden_size, bias=False)
        self.q_norm = Norm(shape.head_dim, shape.rms_norm_eps)
        self.k_norm = Norm(shape.head_dim, shape.rms_norm_eps)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        size = self.shape.head_dim
        query = self.q_norm(self.q_proj(x).view(batch, length, -1, size)).transpose(1, 2)
        key = self.k_norm(self.k_proj(x).view(batch, length, -1, size)).transpose(1, 2)
        value = self.v_proj(x).view(batch, length, -1, size).transpose(1, 2)
        query, key = _turn(query, cos, sin), _turn(key, cos, sin)
        # Written out: on CPU this beats the fused kernel, whose backward pass does not use the
        # bf16 tiles. Keys are repeated because the gradient of one tall product came out as NaN.
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scores = (query @ key.transpose(-1, -2)) * size**-0.5
        future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        out = scores.float().masked_fill(future, -1e9).softmax(-1).to(value.dtype) @ value
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))


class Layer(nn.Module):
    """One block: attention, then a gated MLP, each normed before and after."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        size, eps = shape.hidden_size, shape.rms_norm_eps
        self.self_attn = Attention(shape)
        self.gate_proj = nn.Linear(size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, size, bias=False)
        self.input_layernorm = Norm(size, eps)
        self.post_attention_layernorm = Norm(size, eps)
        self.pre_feedforward_layernorm = Norm(size, eps)
        self.post_feedforward_layernorm = Norm(size, eps)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), cos, sin))
        inner = self.pre_feedforward_layernorm(x)
        inner = functional.gelu(self.gate_proj(inner), approximate="tanh") * self.up_proj(inner)
        return x + self.post_feedforward_layernorm(self.down_proj(inner))


class Gemma(nn.Module):
    """Token ids (batch, length) to final hidden states (batch, length, hidden)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = Norm(shape.hidden_size, shape.rms_norm_eps)
        for name, weight in self.named_parameters():
            if "norm" not in name:
                nn.init.normal_(weight, std=0.02)

    def forward(self, ids: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = self.embed_tokens(ids) * self.shape.hidden_size**0.5
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)


def head_loss(model: Any, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean cross entropy at the positions whose target is not negative."""
    chosen = targets >= 0
    logits = functional.linear(hidden[chosen], model.embed_tokens.weight)
    return functional.cross_entropy(logits.float(), targets[chosen])
