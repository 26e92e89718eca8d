"""The bundled model's byte-level BPE, whose words split alike wherever they stand.

Spaces, digits and letters never share a token, so a name after a space and the same name after a
quotation mark are the same tokens. Copying is then exact, which is what the model is for.
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from gateway.models.training import corpus, names, prompts

SPECIAL: Final = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
PAD, EOS, BOS, _UNK, _START, END_OF_TURN = range(len(SPECIAL))
VOCABULARY: Final = 1024
_WORD: Final = re.compile(r"[A-Za-z]+")
_MARKS: Final = re.compile(r'[{}\[\]":,]+')


def _skeleton(example: corpus.Example) -> str:
    """Return the answer's JSON with its values blanked: no mark of a value joins a mark of JSON."""
    return re.sub(r'":"[^"]*"', '":"x"', example.answer)


def _pieces(seed: int) -> Iterator[str]:
    """Yield the words, and the marks of JSON answers, that merges are learnt from."""
    rng = random.Random(f"tokenizer:{seed}")
    for index in range(6000):
        example, chat = corpus.extraction_example(rng), corpus.chat_example(rng)
        yield from _WORD.findall("".join(m.content for m in (*example.messages, *chat.messages)))
        yield from _WORD.findall(example.answer + chat.answer)
        yield from _MARKS.findall(_skeleton(example))
        yield names.coined(rng, "train")
        if index % 40 == 0:
            schema = prompts.schema(rng.choice(("clinical", "invoices")))
            yield from _MARKS.findall(schema)


def train(seed: int = 0, size: int = VOCABULARY) -> Tokenizer:
    """Return the tokenizer learnt from the seeded corpus; the same seed gives the same file."""
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), min_frequency=10,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), max_token_length=14, show_progress=False,
    )  # fmt: skip
    learnt.train_from_iterator(_pieces(seed), trainer)
    learnt.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    learnt.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    learnt.decoder = decoders.ByteLevel()
    learnt.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)]
    )
    return learnt


def load(path: Path) -> Tokenizer:
    """Return the tokenizer kept in a tokenizer.json."""
    return Tokenizer.from_file(str(path))
