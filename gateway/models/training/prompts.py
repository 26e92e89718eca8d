"""Extraction prompts as LangExtract lays them out: description, examples, question, answer."""

import json
import random
from collections.abc import Sequence
from typing import Final

from gateway.models.training import names
from gateway.models.training.names import Split
from gateway.models.training.notes import Domain, Note, Record

SUFFIX: Final = "_attributes"

# What a prompt may ask for: the classes wanted, and ways to say so. `None` stands for every class
# of the domain.
_ASKS: Final[dict[tuple[Domain, str | None], tuple[str, ...]]] = {
    ("clinical", None): (
        "Extract medications with dosage and frequency, and conditions.",
        "Extract all medications (with dosage and frequency) and all conditions from the note.",
        "Find every medication with its dosage and frequency, and every condition.",
        "List the medications, their dosage and frequency, and the conditions in the text.",
        "From the clinical note, extract medication and condition entities in order of appearance.",
        "You read clinical notes. Extract medication (dosage, frequency) and condition.",
        "Pull out the patient's conditions and medications. Give dosage and frequency for each medication.",
        "Extract conditions and medications from the note.",
    ),
    ("clinical", "medication"): (
        "Extract medications with dosage and frequency.",
        "Extract only the medications, each with dosage and frequency.",
        "Find every medication with its dosage and how often it is taken.",
        "List all medications in the text. Attributes: dosage, frequency.",
        "Extract each medication with its dosage and frequency.",
    ),
    ("clinical", "condition"): (
        "Extract the conditions.",
        "Extract only the conditions from the note.",
        "Find every condition the patient has.",
        "List all conditions in the text.",
    ),
    ("invoices", None): (
        "Extract invoices with amount and due date, and vendors.",
        "Extract all invoices (with amount and due_date) and all vendors from the text.",
        "Find every invoice with its amount and due date, and every vendor.",
        "List the invoices, their amount and due date, and the vendors in the message.",
        "From the office note, extract invoice and vendor entities in order of appearance.",
        "You read office mail. Extract invoice (amount, due_date) and vendor.",
        "Pull out vendors and invoices. Give amount and due date for each invoice.",
        "Extract vendors and invoices from the note.",
    ),
    ("invoices", "invoice"): (
        "Extract invoices with amount and due date.",
        "Extract only the invoices, each with amount and due_date.",
        "Find every invoice with its amount and when it is due.",
        "List all invoices in the text. Attributes: amount, due_date.",
        "Extract each invoice with its amount and due date.",
    ),
    ("invoices", "vendor"): (
        "Extract the vendors.",
        "Extract only the vendors from the note.",
        "Find every vendor that is named.",
        "List all vendors in the text.",
    ),
}
_RULES: Final = (
    "", "", "", " Use exact text for extractions.", " Use the exact words of the text.",
    " Do not paraphrase or overlap entities.", " Answer with JSON only.",
    " List them in order of appearance.", "\nUse exact text. Do not paraphrase.",
    " Provide meaningful attributes for each entity.", " If there are none, return an empty list.",
    "\nRules:\n- copy spans exactly\n- keep the order of the text",
)  # fmt: skip
# A task described after one of these, with its rule, belongs to one split: the parts are all
# trained on, the whole may be held out.
_LEADS: Final = (
    "Task: ", "You are an expert. ", "Read the text. ", "For our records: ", "Work with care. ",
    "Your job: ", "Please do this: ", "You help an office. ", "Instructions:\n",
)  # fmt: skip
_FIELDS: Final = {
    "medication": ("dosage", "frequency"), "invoice": ("amount", "due_date"), "condition": (), "vendor": (),
}  # fmt: skip


def wanted(records: Sequence[Record], ask: str | None) -> tuple[Record, ...]:
    """Return the records of the class asked for, or all of them."""
    return tuple(record for record in records if ask in (None, record.kind))


def compact(records: Sequence[Record]) -> str:
    """Return the records as the JSON text that examples and answers use."""
    items = [{r.kind: r.text, r.kind + SUFFIX: dict(r.attributes)} for r in records]
    return json.dumps({"extractions": items}, ensure_ascii=False, separators=(",", ":"))


def description(rng: random.Random, split: Split, domain: Domain, ask: str | None) -> str:
    """Return one wording of the task; a held-out one is never used in training."""
    wordings = _ASKS[domain, ask]
    if split == "train" and rng.random() < 0.6:
        return rng.choice(wordings) + rng.choice(_RULES)
    while True:
        worded = rng.choice(_LEADS) + rng.choice(wordings) + rng.choice(_RULES)
        if names.belongs(worded, split):
            return worded


def schema(domain: Domain) -> str:
    """Return a JSON Schema of the answer as prompts that carry one print it."""
    kinds = ("medication", "condition") if domain == "clinical" else ("invoice", "vendor")
    text = {"type": "string"}
    items = [
        {
            "type": "object",
            "properties": {
                kind: text,
                kind + SUFFIX: {"type": "object", "properties": dict.fromkeys(_FIELDS[kind], text)},
            },
            "required": [kind],
        }
        for kind in kinds
    ]
    array = {"type": "array", "items": {"anyOf": items}}
    whole = {"type": "object", "properties": {"extractions": array}, "required": ["extractions"]}
    return json.dumps(whole, separators=(",", ":"))


def layout(task: str, shots: Sequence[tuple[str, str]], question: str, context: str = "") -> str:
    """Return the prompt, to the byte what LangExtract's QAPromptGenerator renders."""
    lines = [f"{task}\n"]
    if context:
        lines.append(f"{context}\n")
    if shots:
        lines.append("Examples")
        lines += [f"Q: {text}\nA: {answer}\n" for text, answer in shots]
    return "\n".join((*lines, f"Q: {question}", "A: "))


def shot(note: Note, ask: str | None) -> tuple[str, str]:
    """Return a note as one worked example of the prompt."""
    return note.text, compact(wanted(note.records, ask))
