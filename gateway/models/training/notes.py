"""Short synthetic notes, clinical or about invoices, together with the records they hold."""

import random
import re
from dataclasses import dataclass
from typing import Final, Literal

from gateway.models.training import names
from gateway.models.training.names import Split

Domain = Literal["clinical", "invoices"]

CLASSES: Final[dict[Domain, tuple[str, ...]]] = {
    "clinical": ("medication", "condition"),
    "invoices": ("invoice", "vendor"),
}
_FIELD: Final = re.compile(r"\{(\w+?)(\d?)\}")

# The last four sentences of each list are never trained on: they measure unseen wording.
_FINDINGS: Final[dict[Domain, tuple[str, ...]]] = {
    "clinical": (
        "{person} takes {med} {dose} {freq}.",
        "The patient takes {med} {dose} {freq}.",
        "Started {med} {dose} {freq} for {cond}.",
        "Prescribed {med} {dose} {freq}.",
        "{med} {dose} {freq} was started on {date}.",
        "Continue {med} at {dose} {freq}.",
        "Rx: {med} {dose}, {freq}",
        "- {med} {dose} {freq}",
        "Diagnosed with {cond} in {year}.",
        "History of {cond}.",
        "{person} has {cond}.",
        "Past history: {cond}, {cond2}.",
        "{person} suffers from {cond} and takes {med} {dose} {freq}.",
        "Medications: {med} {dose} {freq}; {med2} {dose2} {freq2}.",
        "She is on {med} {dose} {freq} and {med2} {dose2} {freq2}.",
        "He was given {med} ({dose}, {freq}) for {cond}.",
        "For {cond} we added {med} {dose} {freq}.",
        "The dose of {med} was raised to {dose} {freq}.",
        "She also has {cond}.",
        "{cond2} was ruled in; {cond} is stable.",
        "Take {dose} of {med} {freq}.",
        "{person} was switched to {med}, {dose} to be taken {freq}.",
        "Current treatment is {med} {dose} {freq}.",
        "Exam confirms {cond}.",
        "Discharged on {med} {dose} {freq}.",
        "Assessment: {cond}. Plan: {med} {dose} {freq}.",
        "Because of {cond}, {person} now uses {med} {dose} {freq}.",
        "{person} reports {cond} since {year}.",
        "We keep {med} ({dose} {freq}).",
        "{med}: {dose}, {freq}.",
        "Plan: give {med} {dose} {freq}.",
        "Known {cond}, treated with {med} {dose} {freq}.",
        "{person} still needs {med} {dose} {freq}.",
        "The doctor found {cond}.",
    ),
    "invoices": (
        "Invoice {inv} from {vendor} for {amount} is due on {date}.",
        "{vendor} sent invoice {inv} for {amount}, due {date}.",
        "Invoice {inv} over {amount} is payable by {date}.",
        "Please pay {amount} for invoice {inv} by {date}.",
        "{vendor} billed us {amount} on invoice {inv}, due on {date}.",
        "- {inv}: {amount}, due {date}",
        "{vendor} is our new supplier.",
        "We ordered again from {vendor}.",
        "The order went to {vendor} last week.",
        "Two invoices are open: {inv} ({amount}, due {date}) and {inv2} ({amount2}, due {date2}).",
        "{vendor}: invoice {inv}, {amount}, due {date}.",
        "Received {inv} from {vendor}; {amount} must be paid by {date}.",
        "Reminder for {inv}: {amount} was due on {date}.",
        "The total of invoice {inv} is {amount}, to be paid until {date}.",
        "{vendor} and {vendor2} both delivered on time.",
        "Vendor: {vendor}",
        "Invoice: {inv}, amount: {amount}, due date: {date}",
        "By {date} we owe {vendor} {amount} for {inv}.",
        "{person} approved invoice {inv} for {amount}, due {date}.",
        "Payment of {amount} for {inv} falls due on {date}.",
        "The contract with {vendor} was renewed.",
        "Invoice {inv} ({amount}) is due {date}.",
        "{vendor} charges {amount} on {inv}, payable {date}.",
        "{person} called {vendor} about the delivery.",
        "{inv} for {amount} is open until {date}.",
        "New invoice {inv}: {amount}, pay by {date}.",
        "We owe {amount} on {inv}, due on {date}.",
        "{vendor} asks for {amount} by {date} (invoice {inv}).",
    ),
}
_FILLERS: Final[dict[Domain, tuple[str, ...]]] = {
    "clinical": (
        "Vital signs are stable.", "Follow-up in {n} weeks.", "Blood pressure was {n}/{n2}.",
        "{person} lives alone.", "No known allergies.", "Sleeps well.", "Weight is {n} kg.",
        "Seen by {person} on {date}.", "Labs were normal.", "The family was informed.",
        "Return if symptoms get worse.", "Walks {n} minutes every day.", "No new complaints.",
        "{person} works as a teacher.", "Temperature {n} C.", "Next visit on {date}.",
        "Appetite is good.", "Drinks no alcohol.", "Patient is {n} years old.", "Pulse {n}.",
        "Advised to rest.", "Exercise was discussed with {person}.", "Heart and lungs clear.",
    ),
    "invoices": (
        "Thank you for your help.", "Please confirm.", "The meeting is on {date}.",
        "{person} is on holiday until {date}.", "We moved to floor {n}.", "Call me back.",
        "The printer is broken again.", "Best regards, {person}", "Notes from the office:",
        "{person} will check the stock of {n} boxes.", "Lunch is at noon.", "See the attachment.",
        "The budget for {year} is not final.", "All goods arrived.", "Nothing else to report.",
        "{n} parcels were returned.", "{person} asked for a new chair.", "Room {n} is free.",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Record:
    """One extraction: its class, the exact span of the note, and its attributes in order."""

    kind: str
    text: str
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """A note's text and every record in it, in order of appearance."""

    domain: Domain
    text: str
    records: tuple[Record, ...]


def _value(rng: random.Random, split: Split, field: str) -> str:
    coined = {
        "person": names.person, "med": names.drug, "cond": names.condition, "vendor": names.vendor,
    }  # fmt: skip
    plain = {
        "dose": names.dosage, "freq": names.frequency, "inv": names.invoice_number,
        "amount": names.amount, "date": names.date,
    }  # fmt: skip
    if field in coined:
        return coined[field](rng, split)
    if field in plain:
        return plain[field](rng)
    return str(rng.randint(2005, 2031) if field == "year" else rng.randint(2, 160))


def _record(field: str, number: str, values: dict[str, str]) -> Record | None:
    text = values[field + number]
    if field == "med":
        attributes = (("dosage", values["dose" + number]), ("frequency", values["freq" + number]))
        return Record("medication", text, attributes)
    if field == "inv":
        attributes = (("amount", values["amount" + number]), ("due_date", values["date" + number]))
        return Record("invoice", text, attributes)
    kinds = {"cond": "condition", "vendor": "vendor"}
    return Record(kinds[field], text) if field in kinds else None


def _sentence(rng: random.Random, split: Split, template: str) -> tuple[str, list[Record]]:
    fields = [(found[1], found[2]) for found in _FIELD.finditer(template)]
    values = {field + number: _value(rng, split, field) for field, number in fields}
    records = [_record(field, number, values) for field, number in fields]
    return template.format(**values), [record for record in records if record is not None]


def _templates(domain: Domain, *, unseen_wording: bool) -> tuple[str, ...]:
    return _FINDINGS[domain][-4:] if unseen_wording else _FINDINGS[domain][:-4]


def note(
    rng: random.Random,
    split: Split,
    domain: Domain,
    *,
    findings: int,
    long: bool = False,
    unseen_wording: bool = False,
) -> Note:
    """Return a note of so many sentences with findings, and some without, in random order."""
    templates = _templates(domain, unseen_wording=unseen_wording)
    chosen = [rng.choice(templates) for _ in range(findings)]
    fillers = rng.choice((2, 4, 6, 8) if long else (0, 0, 1, 1, 2, 3)) + (findings == 0)
    chosen += [rng.choice(_FILLERS[domain]) for _ in range(fillers)]
    rng.shuffle(chosen)
    parts = [_sentence(rng, split, template) for template in chosen]
    records = tuple(record for _, found in parts for record in found)
    if len({record.text for record in records}) < len(records):
        # Two equal spans would make the order of the answer a guess.
        return note(rng, split, domain, findings=findings, long=long, unseen_wording=unseen_wording)
    separator = "\n" if any(text[:2] == "- " for text, _ in parts) or rng.random() < 0.15 else " "
    return Note(domain, separator.join(text for text, _ in parts), records)
