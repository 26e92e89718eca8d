"""A model folder's tokenizer in the terms of GGUF: tokens, types, scores or merges, special ids."""

import importlib
import re
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, cast

from gateway.models.errors import ConversionError
from gateway.models.safetensors import read_object

_UNLIKELY: Final = -10_000.0
_ADDED: Final = -1_000.0
_MARK: Final = re.compile(r"<(\w+_of_turn|unused\d+)>")


class TokenType(IntEnum):
    """llama.cpp's kinds of token."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(slots=True)
class Vocabulary:
    """What llama.cpp needs to know of a tokenizer."""

    model: str  # "gpt2" for byte-level BPE, "llama" for SentencePiece
    pre: str
    tokens: list[str]
    types: list[int]
    scores: list[float] = field(default_factory=list[float])
    merges: list[str] = field(default_factory=list[str])
    special: dict[str, int] = field(default_factory=dict[str, int])
    add_bos: bool = True
    chat_template: str | None = None

    def place(self, number: int, token: str, kind: TokenType) -> None:
        """Put an added token at its id."""
        if number >= len(self.tokens):
            raise ConversionError(f"Token {token!r} has id {number}, beyond the vocabulary's size.")
        self.tokens[number], self.types[number] = token, int(kind)
        if self.scores:
            self.scores[number] = _ADDED


def read(folder: Path, size: int) -> Vocabulary:
    """Return the tokenizer of a folder whose embedding has `size` rows."""
    settings_path = folder / "tokenizer_config.json"
    settings = read_object(settings_path) if settings_path.exists() else {}
    if (folder / "tokenizer.model").exists():
        vocabulary = _sentencepiece(folder, size)
    elif (folder / "tokenizer.json").exists():
        vocabulary = _byte_level(read_object(folder / "tokenizer.json"), size)
    else:
        raise ConversionError(f"{folder} has neither tokenizer.model nor tokenizer.json.")
    _add_tokens(vocabulary, settings)
    _add_special(vocabulary, settings)
    vocabulary.add_bos = bool(settings.get("add_bos_token", True))
    vocabulary.chat_template = _chat_template(folder, settings)
    return vocabulary


def _empty(model: str, pre: str, size: int) -> Vocabulary:
    # Embeddings may have more rows than there are tokens; llama.cpp wants a name for each.
    tokens = [f"[PAD{number}]" for number in range(size)]
    return Vocabulary(model, pre, tokens, [int(TokenType.UNUSED)] * size)


def _pre_tokenizer(tokenizer: dict[str, Any]) -> str:
    """Return llama.cpp's name for how this tokenizer splits text before merging."""
    top: dict[str, Any] = tokenizer.get("pre_tokenizer") or {}
    parts: list[dict[str, Any]] = top["pretokenizers"] if top.get("type") == "Sequence" else [top]
    kinds = [part.get("type") for part in parts]
    last = parts[-1]
    plain = last.get("use_regex", True) and not last.get("add_prefix_space", False)
    if kinds[-1] == "ByteLevel" and plain and not tokenizer.get("normalizer"):
        if kinds == ["ByteLevel"]:
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits"):
            return "smollm"
    raise ConversionError(
        "tokenizer.json splits text in a way this converter does not know "
        f"({', '.join(map(str, kinds))}); for a Gemma by Google put its tokenizer.model beside it."
    )


def _byte_level(tokenizer: dict[str, Any], size: int) -> Vocabulary:
    """Return a byte-level BPE of tokenizer.json."""
    model: dict[str, Any] = tokenizer.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise ConversionError(
            "tokenizer.json is not a byte-level BPE; for a Gemma by Google put its tokenizer.model beside it."
        )
    vocabulary = _empty("gpt2", _pre_tokenizer(tokenizer), size)
    for token, number in cast("dict[str, int]", model["vocab"]).items():
        vocabulary.place(number, token, TokenType.NORMAL)
    for merge in cast("list[str | list[str]]", model["merges"]):
        vocabulary.merges.append(merge if isinstance(merge, str) else " ".join(merge))
    for added in cast("list[dict[str, Any]]", tokenizer.get("added_tokens", [])):
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        vocabulary.place(added["id"], added["content"], kind)
    return vocabulary


def _sentencepiece(folder: Path, size: int) -> Vocabulary:
    """Return the SentencePiece model that Google's Gemma has."""
    try:
        library: Any = importlib.import_module("sentencepiece")
    except ImportError as error:
        raise ConversionError(
            "This model's tokenizer.model needs the package sentencepiece: pip install sentencepiece."
        ) from error
    model = library.SentencePieceProcessor()
    model.LoadFromFile(str(folder / "tokenizer.model"))
    vocabulary = _empty("llama", "default", size)
    vocabulary.scores = [_UNLIKELY] * size
    for number in range(min(model.GetPieceSize(), size)):
        vocabulary.place(number, model.IdToPiece(number), _piece_type(model, number))
        vocabulary.scores[number] = model.GetScore(number)
    return vocabulary


def _piece_type(model: Any, number: int) -> TokenType:
    if model.IsUnknown(number):
        return TokenType.UNKNOWN
    if model.IsControl(number):
        return TokenType.CONTROL
    if model.IsUnused(number):
        return TokenType.UNUSED
    return TokenType.BYTE if model.IsByte(number) else TokenType.NORMAL


def _add_tokens(vocabulary: Vocabulary, settings: dict[str, Any]) -> None:
    """Place the tokens that tokenizer_config.json adds or marks as special."""
    added = cast("dict[str, dict[str, Any]]", settings.get("added_tokens_decoder") or {})
    for key, entry in added.items():
        number, token = int(key), str(entry["content"])
        if number >= len(vocabulary.tokens):
            continue  # a text model cut from a larger one has no row for it
        if vocabulary.types[number] in (TokenType.UNKNOWN, TokenType.BYTE):
            continue
        # Turn marks are control tokens although SentencePiece lists them as user-defined: only so
        # does llama.cpp keep a user's text from forging a turn.
        marked = entry.get("special") or _MARK.fullmatch(token)
        kind = TokenType.CONTROL if marked else TokenType.USER_DEFINED
        vocabulary.place(number, token if marked else token.replace("▁", " "), kind)


def _add_special(vocabulary: Vocabulary, settings: dict[str, Any]) -> None:
    """Find the ids of the tokens with a role."""
    numbers = {token: number for number, token in enumerate(vocabulary.tokens)}
    defaults = {"bos": "<bos>", "eos": "<eos>", "unk": "<unk>", "pad": "<pad>"}
    for role, default in defaults.items():
        named = settings.get(f"{role}_token") or default
        content = str(cast("dict[str, Any]", named)["content"] if isinstance(named, dict) else named)
        if content in numbers:
            vocabulary.special[role] = numbers[content]
    # Gemma ends a turn with a token of its own; llama.cpp must stop at it as well as at <eos>.
    if "<end_of_turn>" in numbers:
        vocabulary.special["eot"] = numbers["<end_of_turn>"]
    if not {"bos", "eos"} <= vocabulary.special.keys():
        raise ConversionError("The tokenizer names no <bos> or no <eos> token.")


def _chat_template(folder: Path, settings: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    found = settings.get("chat_template")
    return found if isinstance(found, str) else None
