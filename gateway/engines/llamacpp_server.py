"""A GGUF file comes in, llama.cpp's HTTP server on a unix socket goes out; a program, run as its own process."""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import signal
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

_CONTEXT_MAX_TOKENS = 8192
_PROMPT_CACHE_MIB = 512  # of evicted prompts; the library would take 8 GiB
# An input is embedded in one batch. llama.cpp also computes the logits of each of its tokens, in two copies, and keeps
# the memory: 2 MiB a token with the vocabulary of Gemma. So a batch is as long as a slot, unless that is too much.
_BATCH_TOKENS = 512
_LOGIT_BYTES = 2 * 4
_LOGITS_SHARE = 8  # of the machine's memory
# What its log has: while it loads everything, and then no more than errors: warnings quote what was asked.
_LOADING, _SERVING = 3, 1
_SET_VERBOSITY = "_Z30common_log_set_verbosity_tholdi"
_STRING, _ARRAY = 8, 9
# GGUF value types by number -> struct format; strings and arrays are read apart.
_FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}


def main() -> None:
    """Serve until a signal ends the process; a model that does not load ends it with status 1 and a sentence."""
    options = _options()
    # A terminal's Ctrl-C must end us at once: taking the server down from Python can hang.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.umask(0o077)
    options.socket.unlink(missing_ok=True)
    try:
        header = read_header(options.model)
    except (OSError, ValueError) as unreadable:
        sys.exit(f"The model {options.model} cannot be read: {unreadable}")
    slot_tokens = options.context or min(_CONTEXT_MAX_TOKENS, header.context_tokens or _CONTEXT_MAX_TOKENS)
    try:
        server = _serve(options, slot_tokens, embedded_tokens(slot_tokens, header.vocabulary, _memory_bytes()))
    except ValueError as wrong:
        sys.exit(str(wrong))
    except RuntimeError:  # It says no more than that it failed; why is in the log.
        sys.exit(
            f"llama.cpp cannot load {options.model}: the file is damaged or of an unknown kind, or memory is short"
        )
    while server:
        signal.pause()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="llamacpp_server", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--socket", type=Path, required=True, help="unix socket to listen on, ending in .sock")
    parser.add_argument("--alias", required=True, help="the name the model is served under")
    parser.add_argument(
        "--context", type=int, help="tokens per slot; default: what the model was trained for, at most 8192"
    )
    parser.add_argument("--slots", type=int, default=4, help="requests answered at the same time")
    parser.add_argument("--threads", type=int, help="default: all cores but one")
    parser.add_argument("--embeddings", action="store_true", help="answer /v1/embeddings too (mean of the last layer)")
    parser.add_argument("--states", type=Path, help="folder where the states of slots may be saved")
    options, options.more = parser.parse_known_args()
    return options


def _serve(options: argparse.Namespace, slot_tokens: int, batch_tokens: int) -> object:
    """The server, which listens. Raises `ValueError`, or `RuntimeError` when it cannot load."""
    # Loading takes a moment: arguments are checked before. Any: it is compiled, without stubs.
    xllamacpp: Any = importlib.import_module("xllamacpp")
    quiet = _quieting(xllamacpp)
    params = _params(xllamacpp, options, slot_tokens, batch_tokens)
    # Nobody asks it anything before its log is quiet.
    unheard = options.socket.with_name(f"new-{options.socket.name}")
    unheard.unlink(missing_ok=True)
    params.hostnames = [str(unheard)]
    params.verbosity = _LOADING if quiet else _SERVING
    for word in options.more:
        _set(params, word)
    server = xllamacpp.Server(params)
    if quiet and not any(word.startswith("--verbosity=") for word in options.more):
        quiet(_SERVING)
    unheard.rename(options.socket)
    return server


def _params(xllamacpp: Any, options: argparse.Namespace, slot_tokens: int, batch_tokens: int) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(options.model)
    params.model_alias = {options.alias}
    # Mapped, the weights would become others under everybody's hands when the file is written over.
    params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    params.n_parallel = options.slots
    params.n_ctx = options.slots * slot_tokens
    # Without one cache for all slots, texts of different lengths that are embedded at the same time spoil each other.
    params.kv_unified = True
    params.kv_unified_per_slot = slot_tokens
    threads = options.threads or max(1, len(os.sched_getaffinity(0)) - 1)
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.swa_full = True  # Keeps what sliding windows forget, so that equal prefixes are computed once.
    params.cache_ram_mib = _PROMPT_CACHE_MIB
    params.endpoint_metrics = True
    params.ui = False
    if options.embeddings:
        params.embedding = True
        params.n_batch = params.n_ubatch = batch_tokens
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    if options.states:
        params.slot_save_path = f"{options.states}/"
    return params


def _quieting(xllamacpp: Any) -> Any:
    """What sets how much is logged from now on; None where the library does not have it."""
    return getattr(ctypes.CDLL(xllamacpp.xllamacpp.__file__), _SET_VERBOSITY, None)


def _set(params: Any, word: str) -> None:
    """Set one of llama.cpp's own parameters, `--name=value`. Raises `ValueError`."""
    name, equals, text = word.removeprefix("--").replace("-", "_").partition("=")
    if equals:  # a value keeps its hyphens
        text = word.partition("=")[2]
    current = getattr(params, name, None)
    kind = type(current)
    if kind not in {bool, int, float, str}:
        raise ValueError(f"llama.cpp has no parameter '{name}' that can be set by a word: {word}")
    try:
        value = text.lower() in {"", "1", "true", "on", "yes"} if kind is bool else kind(text)
        setattr(params, name, value)
    except (ValueError, OverflowError) as wrong:
        raise ValueError(f"llama.cpp does not take {word}: {wrong}") from wrong


class Header(NamedTuple):
    """What the header of a GGUF file says of its model; None where it says nothing."""

    context_tokens: int | None
    vocabulary: int | None


def embedded_tokens(slot_tokens: int, vocabulary: int | None, memory_bytes: int) -> int:
    """The longest input to embed: a slot's context, as far as an eighth of the memory holds its logits."""
    affordable = memory_bytes // _LOGITS_SHARE // (_LOGIT_BYTES * vocabulary) if vocabulary else _BATCH_TOKENS
    return max(_BATCH_TOKENS, min(slot_tokens, affordable))


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def read_header(path: Path) -> Header:
    """The context length and the size of the vocabulary in the header of a GGUF file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no GGUF file, or is cut short.
    """
    with path.open("rb") as file:
        magic, version = file.read(4), _number(file, "<I")
        if magic != b"GGUF" or version not in {2, 3}:
            raise ValueError("it is not a GGUF file")
        _number(file, "<Q")  # how many tensors
        return _header(file, _number(file, "<Q"))


def _header(file: BinaryIO, entries: int) -> Header:
    context = vocabulary = None
    for _ in range(entries):
        name, kind = _string(file), _number(file, "<I")
        if name == b"tokenizer.ggml.tokens" and kind == _ARRAY:
            inner, vocabulary = _number(file, "<I"), _number(file, "<Q")
            if context is not None:
                break  # Reading the words of a large vocabulary takes a second.
            for _ in range(vocabulary):
                _value(file, inner)
            continue
        value = _value(file, kind)
        if name.endswith(b".context_length") and isinstance(value, int):
            context = value
            if vocabulary is not None:
                break
    return Header(context, vocabulary)


def _value(file: BinaryIO, kind: int) -> object:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        inner, length = _number(file, "<I"), _number(file, "<Q")
        for _ in range(length):
            _value(file, inner)
        return None
    if kind not in _FORMATS:
        raise ValueError("its header is damaged")
    return _number(file, _FORMATS[kind])


def _string(file: BinaryIO) -> bytes:
    return _exactly(file, _number(file, "<Q"))


def _number(file: BinaryIO, form: str) -> int:
    return struct.unpack(form, _exactly(file, struct.calcsize(form)))[0]


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise ValueError("it is cut short")
    return data


if __name__ == "__main__":
    main()
