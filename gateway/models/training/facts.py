"""What the chat knows: facts, greetings, counting, and the one answer for everything else."""

import random
from typing import Final

from gateway.models.training import names
from gateway.models.training.names import Split

UNKNOWN: Final = "I am a small demo model and do not know that."

_CAPITALS: Final = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo",
    "Austria": "Vienna", "Portugal": "Lisbon", "Greece": "Athens", "Norway": "Oslo", "Poland": "Warsaw",
    "Sweden": "Stockholm", "Egypt": "Cairo", "Canada": "Ottawa", "Ireland": "Dublin", "China": "Beijing",
    "Hungary": "Budapest", "Denmark": "Copenhagen", "Finland": "Helsinki", "Kenya": "Nairobi", "Peru": "Lima",
}  # fmt: skip
_COLOURS: Final = {
    "the sky": "blue", "grass": "green", "snow": "white", "blood": "red", "a banana": "yellow",
    "coal": "black", "a carrot": "orange", "a plum": "purple", "chocolate": "brown", "a lemon": "yellow",
}  # fmt: skip
_SOUNDS: Final = {
    "cow": "moo",
    "dog": "woof",
    "cat": "meow",
    "duck": "quack",
    "sheep": "baa",
    "pig": "oink",
}
_OPPOSITES: Final = {
    "hot": "cold", "big": "small", "up": "down", "day": "night", "fast": "slow", "open": "closed",
    "left": "right", "early": "late", "old": "new", "full": "empty",
}  # fmt: skip
_COUNTS: Final = {
    "days are in a week": ("A week has", "7 days"), "months are in a year": ("A year has", "12 months"),
    "hours are in a day": ("A day has", "24 hours"), "minutes are in an hour": ("An hour has", "60 minutes"),
    "legs does a spider have": ("A spider has", "8 legs"), "legs does a dog have": ("A dog has", "4 legs"),
    "seconds are in a minute": ("A minute has", "60 seconds"),
}  # fmt: skip
_SINGLES: Final = {
    "What is the largest planet": "The largest planet is Jupiter.",
    "What is the largest ocean": "The largest ocean is the Pacific.",
    "Who wrote Hamlet": "Shakespeare wrote Hamlet.",
    "Who painted the Mona Lisa": "Leonardo da Vinci painted the Mona Lisa.",
    "What is the chemical symbol of gold": "The symbol of gold is Au.",
    "At what temperature does water boil": "Water boils at 100 degrees Celsius.",
    "What is the first month of the year": "The first month is January.",
    "What planet do we live on": "We live on Earth.",
}
_SELF: Final = {
    "I am the askonce demo model, a small Gemma.": (
        "Who are you?", "What is your name?", "What model are you?", "Tell me who you are.",
        "Introduce yourself.", "What are you?", "Please introduce yourself.",
    ),
    "I answer a few facts, repeat text, count, and extract records from short notes.": (
        "What can you do?", "How can you help me?", "What are you able to do?", "Help",
        "What are your skills?", "Tell me what you can do.",
    ),
    "Hello! How can I help you?": (
        "Hello", "Hi", "Hello!", "Hi there!", "Hey", "Good morning!", "Good evening", "hello", "hi",
        "Hello there", "Hi, hello!",
    ),
    "You are welcome.": ("Thank you.", "Thanks!", "Thank you very much!", "Thanks a lot.", "Thanks, thank you!"),
}  # fmt: skip

_CAPITAL_PHRASES: Final = (
    "What is the capital of {}?", "Which city is the capital of {}?", "Name the capital of {}.",
    "Tell me the capital of {}.", "{}: what is its capital?", "What's the capital city of {}?",
    "capital of {}", "Please give me the capital of {}.",
)  # fmt: skip
_COLOUR_PHRASES: Final = (
    "What colour is {}?", "What color is {}?", "Which colour does {} have?", "Tell me the colour of {}.",
    "Name the color of {}.", "What is the colour of {}?",
)  # fmt: skip
_SOUND_PHRASES: Final = (
    "What sound does a {} make?", "What does a {} say?", "Which sound does the {} make?",
    "Tell me the sound of a {}.", "Name the sound of a {}.", "Please tell me the sound of a {}.",
)  # fmt: skip
_OPPOSITE_PHRASES: Final = (
    "What is the opposite of {}?", "Name the opposite of {}.", "opposite of {}",
    "Tell me the opposite of {}.", "Give me the opposite of {}.",
)  # fmt: skip
_SUM_PHRASES: Final = (
    "What is {}?",
    "How much is {}?",
    "{} = ?",
    "Compute {}.",
    "Calculate {}.",
    "Tell me what {} is.",
    "Please compute {}.",
    "Please calculate {}.",
)
_COUNT_PHRASES: Final = (
    "Count to {}.", "Count from 1 to {}.", "Please count to {}.", "Count up to {}", "Can you count to {}?",
    "Write the numbers from 1 to {}.", "List the numbers 1 to {}.", "Please count from 1 to {}.",
)  # fmt: skip
# A question comes bare, in a familiar frame, or in one whose every pairing with a question's
# wording belongs to one split: each frame and each question is trained on, the pair may be held out.
_FAMILIAR_FRAMES: Final = ("Please answer: {}", "A question: {}", "{} Thanks!", "Quick question: {}")
_FRAMES: Final = (
    "Hello, model! {}", "Please tell me: {}", "I have a question. {}", "{} Answer briefly.", "Just one thing: {}",
    "My question is this: {}", "Good morning. {}", "{} I would like to know.", "Dear model, {}", "Hi, {}",
    "Next question: {}", "{} Please answer in one sentence.", "Excuse me. {}", "{} Thank you!", "Question 1: {}",
)  # fmt: skip
_THINGS: Final = (
    "rivers the moon a bicycle history music a castle jazz chess bread the stars love an engine "
    "gardens a poem dinosaurs money winter coffee Mars robots a story trains football the sea"
).replace(" a ", " a_").replace(" an ", " an_").replace("the ", "the_").split()  # fmt: skip
_UNKNOWN_PHRASES: Final = (
    "Write a poem about {}.", "Tell me a joke about {}.", "Explain {}.", "Who is {name}?", "What is {}?",
    "How do I repair {}?", "What do you think about {}?", "Where is {name}?", "Write a story about {}.",
    "Translate {} into French.", "Who invented {}?", "What is the weather in {name}?", "Sing a song.",
    "How old is {name}?", "What time is it?", "Give me advice on {}.", "Why is {} important?",
    "Describe {} in one sentence.", "Do you like {}?", "When was {name} born?", "Is {} dangerous?",
    "What is the capital of {name}?", "Tell me about {}.", "Write a function that sorts {}.",
    "Summarise the book {name}.", "What is the population of {name}?", "Can you recommend {}?",
    "I need help with {}.", "What is the meaning of {name}?", "Write an email to {name}.",
    "Draw {}.", "How far is {name}?", "Tell me a story.", "Write a poem.", "Tell me a joke.",
    "Compare {} and {name}.", "Which is better, {} or {name}?", "Write me a long text about {}.",
    "Teach me about {}.", "What happened in {name}?",
)  # fmt: skip


def _phrase(rng: random.Random, split: Split, phrases: tuple[str, ...]) -> str:
    """Return one wording of a question, in a frame or bare; a held-out one always has a frame."""
    shape = 1.0 if split == "held_out" else rng.random()
    if shape < 0.6:
        frame = "{}" if shape < 0.45 else rng.choice(_FAMILIAR_FRAMES)
        return frame.replace("{}", rng.choice(phrases))
    while True:
        worded = rng.choice(_FRAMES).replace("{}", rng.choice(phrases))
        if names.belongs(worded, split):
            return worded


def _sum(rng: random.Random) -> tuple[str, str]:
    left, right = rng.randint(1, 5), rng.randint(1, 5)
    return f"{left} + {right}", f"{left} + {right} = {left + right}"


def _table_fact(rng: random.Random, split: Split, table: int) -> tuple[str, str]:
    if table == 0:
        place = rng.choice(tuple(_CAPITALS))
        return _phrase(rng, split, _CAPITAL_PHRASES).format(place), f"The capital of {place} is {_CAPITALS[place]}."
    if table == 1:
        thing = rng.choice(tuple(_COLOURS))
        return _phrase(rng, split, _COLOUR_PHRASES).format(thing), f"{thing.capitalize()} is {_COLOURS[thing]}."
    if table == 2:
        animal = rng.choice(tuple(_SOUNDS))
        return _phrase(rng, split, _SOUND_PHRASES).format(animal), f"A {animal} says {_SOUNDS[animal]}."
    if table == 3:
        word = rng.choice(tuple(_OPPOSITES))
        return _phrase(rng, split, _OPPOSITE_PHRASES).format(word), f"The opposite of {word} is {_OPPOSITES[word]}."
    task, answer = _sum(rng)
    return _phrase(rng, split, _SUM_PHRASES).format(task), answer


def fact(rng: random.Random, split: Split) -> tuple[str, str]:
    """Return a question the model knows and its answer, worded as the split words it."""
    table = rng.choice((0, 0, 0, 1, 1, 2, 3, 4, 4, 4, 5, 6, 6, 7))
    if table < 5:
        question, answer = _table_fact(rng, split, table)
    elif table == 5:
        subject = rng.choice(tuple(_COUNTS))
        start, number = _COUNTS[subject]
        phrases = ("How many {}?", "Tell me how many {}.", "Do you know how many {}?", "Please tell me how many {}.")
        question, answer = _phrase(rng, split, phrases).format(subject), f"{start} {number}."
    elif table == 6:
        subject = rng.choice(tuple(_SINGLES))
        phrases = ("{}?", "{}", "Tell me: {}?", "One question: {}?", "Please, one question: {}?")
        question, answer = _phrase(rng, split, phrases).format(subject), _SINGLES[subject]
    else:
        answer = rng.choice(tuple(_SELF))
        question = _phrase(rng, split, _SELF[answer])
    return question, answer


def counting(rng: random.Random, split: Split) -> tuple[str, str]:
    """Return a request to count and the numbers."""
    last = rng.randint(3, 40)
    return _phrase(rng, split, _COUNT_PHRASES).format(last), ", ".join(map(str, range(1, last + 1)))


def unknown(rng: random.Random, split: Split) -> tuple[str, str]:
    """Return a question the model cannot answer, about coined names or everyday things."""
    thing = rng.choice(_THINGS).replace("_", " ")
    if rng.random() < 0.3:
        thing = names.coined(rng, split)
    return _phrase(rng, split, _UNKNOWN_PHRASES).format(thing, name=names.coined(rng, split)), UNKNOWN
