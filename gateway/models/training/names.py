"""Coined names and values for the corpus, split so that held-out spans are never trained on."""

import random
import zlib
from typing import Final, Literal

Split = Literal["train", "held_out"]


def listed(text: str, mark: str = " ") -> tuple[str, ...]:
    """Return the parts of a text between marks: a long tuple of words, written short."""
    return tuple(text.split(mark))


_HELD_OUT_SHARE: Final = 8  # one coined name or wording in eight is never trained on

_ONSETS: Final = listed(
    "b c d f g h j k l m n p r s t v w z br ch cl cr dr fl fr gl gr kl kr ph pl pr qu sc sh sk sl sm sn "
    "sp st str sw th tr tw v x y z"
)
_VOWELS: Final = listed("a e i o u a e i o u a e i o u y ae ai au ea ei ia ie io oa oo ou ue")
_CODAS: Final = listed("n r l s t x m d k b g p z nd nt st rd rt lt ck ss rn lm th mp ng sk")
_DRUG_ENDINGS: Final = listed(
    "in ol ide ine ate mab pril sartan statin one azole cillin vir pam xaban tide an ex um ax"
)
_REAL_DRUGS: Final = listed(
    "aspirin ibuprofen metformin lisinopril atorvastatin amoxicillin omeprazole paracetamol warfarin "
    "insulin prednisone furosemide levothyroxine amlodipine Tylenol Lipitor Zoloft Metformin Lisinopril "
    "Aspirin Ibuprofen Amoxicillin"
)
_CONDITION_ENDINGS: Final = listed("itis osis emia pathy algia oma plasia uria rrhea plegia")
_CONDITION_ADJECTIVES: Final = listed(
    "chronic acute mild severe recurrent bilateral congenital seasonal early late stable"
)
_REAL_CONDITIONS: Final = listed(
    "hypertension|asthma|type 2 diabetes|migraine|anemia|pneumonia|atrial fibrillation|hyperlipidemia|"
    "gout|eczema|chronic kidney disease|insomnia|heart failure|back pain",
    "|",
)
_COMPANY_ENDINGS: Final = listed(
    "Ltd|GmbH|Inc.|LLC|AG|Systems|Supplies|Logistics|& Sons|Partners|Foods|Energy|Print|Consulting|Group|"
    "Tools|Office|Trading|Cloud Services|S.A.|Co.|Works|Media|Cleaning",
    "|",
)
_FREQUENCIES: Final = listed(
    "once daily|twice daily|three times daily|four times daily|every morning|every evening|at bedtime|"
    "once a week|weekly|monthly|every other day|daily|once a day|twice a day|three times a day|as needed|"
    "with meals|before breakfast|after dinner|every night|twice weekly|on Mondays|at noon|"
    "before each meal|nightly|once a month|bid|tid|every weekend",
    "|",
)
_MONTHS: Final = listed("January February March April May June July August September October November December")
_UNITS: Final = ("mg", "mg", "mg", "mg", "ml", "mcg", "g", "units", "tablets", "drops", "IU", "puffs")
_ACCENTS: Final = {"a": "á", "e": "é", "o": "ö", "u": "ü", "n": "ñ", "c": "ç", "i": "í"}


def belongs(text: str, split: Split) -> bool:
    """Say whether a coined text or a wording is this split's: a checksum decides, so the two never share one."""
    held_out = zlib.crc32(text.lower().encode()) % _HELD_OUT_SHARE == 0
    return held_out == (split == "held_out")


def _syllables(rng: random.Random, count: int) -> str:
    parts: list[str] = []
    for index in range(count):
        onset = rng.choice(_ONSETS) if index or rng.random() < 0.85 else ""
        coda = rng.choice(_CODAS) if rng.random() < 0.35 else ""
        parts.append(onset + rng.choice(_VOWELS) + coda)
    return "".join(parts)


def _accented(rng: random.Random, name: str) -> str:
    spots = [at for at, letter in enumerate(name) if letter in _ACCENTS]
    if not spots:
        return name
    at = rng.choice(spots)
    return name[:at] + _ACCENTS[name[at]] + name[at + 1 :]


def coined(rng: random.Random, split: Split, ending: str = "") -> str:
    """Return one capitalised made-up word of the split, with the given ending."""
    while True:
        name = (_syllables(rng, rng.choice((1, 2, 2, 2, 3, 3))) + ending).capitalize()
        if len(name) > 3 and belongs(name, split):
            return _accented(rng, name) if rng.random() < 0.02 else name


def drug(rng: random.Random, split: Split) -> str:
    """Return a medication's name; the train split mixes in a few real ones."""
    if split == "train" and rng.random() < 0.1:
        return rng.choice(_REAL_DRUGS)
    name = coined(rng, split, rng.choice(_DRUG_ENDINGS) if rng.random() < 0.6 else "")
    if rng.random() < 0.2:
        name = name.lower()
    return f"{name} {rng.choice(('XR', 'Forte', 'SR', 'Plus'))}" if rng.random() < 0.05 else name


def condition(rng: random.Random, split: Split) -> str:
    """Return a condition's name, of one to three words."""
    if split == "train" and rng.random() < 0.15:
        return rng.choice(_REAL_CONDITIONS)
    shape = rng.random()
    if shape < 0.2:
        return f"{coined(rng, split)} {rng.choice(('syndrome', 'disease', 'fever', 'disorder'))}"
    name = coined(rng, split, rng.choice(_CONDITION_ENDINGS)).lower()
    return f"{rng.choice(_CONDITION_ADJECTIVES)} {name}" if shape < 0.55 else name


def vendor(rng: random.Random, split: Split) -> str:
    """Return a company's name, of one to four words."""
    shape = rng.random()
    first = coined(rng, split)
    if shape < 0.15:
        return first
    if shape < 0.3:
        return f"{first} {coined(rng, split)}"
    if shape < 0.4:
        return f"{first} & {coined(rng, split)}"
    middle = f" {coined(rng, split)}" if shape < 0.5 else ""
    return f"{first}{middle} {rng.choice(_COMPANY_ENDINGS)}"


def person(rng: random.Random, split: Split) -> str:
    """Return a person as notes name them."""
    title = rng.choice(("Mr. ", "Mrs. ", "Ms. ", "Dr. ", "", "", ""))
    return f"{title}{coined(rng, split)}"


def dosage(rng: random.Random) -> str:
    """Return an amount of a medicine."""
    whole = str(rng.choice((rng.randint(1, 20), rng.randint(2, 99) * 5, rng.randint(1, 999))))
    number = f"{rng.randint(0, 20)}.{rng.choice((5, 25, 75, 1, 2))}" if rng.random() < 0.15 else whole
    return f"{number}{'' if rng.random() < 0.1 else ' '}{rng.choice(_UNITS)}"


def frequency(rng: random.Random) -> str:
    """Return how often a medicine is taken."""
    if rng.random() < 0.25:
        return f"every {rng.randint(2, 48)} {rng.choice(('hours', 'hours', 'days'))}"
    return rng.choice(_FREQUENCIES)


def invoice_number(rng: random.Random) -> str:
    """Return an invoice's number in one of several house styles."""
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(3, 6)))
    letters = "".join(rng.choice("ABCDEFGHJKLMNPRSTVWX") for _ in range(rng.randint(1, 3)))
    styles = (
        f"INV-{digits}", f"{letters}-{digits}", f"{rng.randint(2019, 2031)}/{digits}", f"#{digits}",
        f"{letters}{digits}", f"INV {digits}", f"{digits}-{letters}", f"RE-{rng.randint(2019, 2031)}-{digits}",
    )  # fmt: skip
    return rng.choice(styles)


def amount(rng: random.Random) -> str:
    """Return a sum of money."""
    number = rng.choice((rng.randint(5, 999), rng.randint(1000, 99999)))
    text = f"{number:,}" if rng.random() < 0.7 else str(number)
    text += f".{rng.randint(0, 99):02d}" if rng.random() < 0.6 else ""
    styles = (
        f"${text}",
        f"€{text}",
        f"£{text}",
        f"EUR {text}",
        f"{text} EUR",
        f"{text} USD",
        f"CHF {text}",
        f"USD {text}",
    )
    return rng.choice(styles)


def date(rng: random.Random) -> str:
    """Return a calendar date in one of several styles."""
    year, month, day = rng.randint(2019, 2031), rng.randint(1, 12), rng.randint(1, 28)
    name = _MONTHS[month - 1]
    styles = (
        f"{year}-{month:02d}-{day:02d}", f"{day} {name} {year}", f"{name} {day}, {year}",
        f"{day:02d}.{month:02d}.{year}", f"{month}/{day}/{year}", f"{day} {name[:3]} {year}",
    )  # fmt: skip
    return rng.choice(styles)
