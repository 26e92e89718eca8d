"""The guard of semantic reuse: what it refuses and why, what it lets pass, and what holds of any two prompts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.semantic.guard import MAX_CHARACTERS, Reason, verdict
from tests.semantic.pairs import pairs

SAME = {
    "typed otherwise": ("How do I boil an egg?", "  how do I boil  an egg\n"),
    "politely": ("How do I boil an egg?", "Hello! Could you please tell me how to boil an egg? Thanks!"),
    "units": ("Is 2 kg of sugar too much?", "Is 2,000 grams of sugar too much?"),
    "half a unit": ("Set a timer for 90 minutes.", "Set a timer for an hour and a half."),
    "number words": ("Name twenty-five birds.", "Name 25 birds."),
    "large number words": ("Is 250000 a lot?", "Is two hundred and fifty thousand a lot?"),
    "separators": ("Is 1,250,000 prime?", "Is 1250000 prime?"),
    "German separators": ("Ist 1.250.000 eine Primzahl?", "Ist 1250000 eine Primzahl?"),
    "dates": ("Was it a Monday on 3 March 2021?", "Was it a Monday on 2021-03-03?"),
    "clock": ("Where is the sun at noon?", "Where is the sun at 12:00?"),
    "not uncommon": ("Is it not uncommon for cats to sneeze?", "Is it common for cats to sneeze?"),
    "a place and its people": ("What do Germans eat?", "What do people in Germany eat?"),
    "acronym": ("Does the European Central Bank print money?", "Does the ECB print money?"),
    "joined in another order": ("Is tea or coffee better?", "Is coffee or tea better?"),
    "curly apostrophes": ("What's Anna's job?", "What’s Anna’s job?"),
    "typed without capitals": ("What is the capital of Spain?", "what is the capital of spain?"),
    "a title's capitals": ("What is the capital of Spain?", "What Is The Capital Of Spain?"),
}
DIFFERENT: dict[str, tuple[Reason, str, str]] = {
    "not": ("negation", "Can dogs eat rice?", "Can't dogs eat rice?"),
    "without": ("negation", "Bake bread with yeast.", "Bake bread without yeast."),
    "prefix": ("negation", "Is this mushroom edible?", "Is this mushroom inedible?"),
    "what is denied": ("negation", "Who likes rain but not snow?", "Who likes snow but not rain?"),
    "German": ("negation", "Darf ich hier parken?", "Darf ich hier nicht parken?"),
    "French": ("negation", "Puis-je fumer ici ?", "Ne puis-je pas fumer ici ?"),
    "Spanish": ("negation", "¿Por qué es peligroso?", "¿Por qué no es peligroso?"),
    "Chinese": ("negation", "我可以吃鱼吗?", "我不可以吃鱼吗?"),
    "number": ("number", "Name 3 birds.", "Name four birds."),
    "decimals": ("number", "Is 1.5 mg safe?", "Is 15 mg safe?"),
    "last of many digits": ("number", "Who has 4915112345678901?", "Who has 4915112345678902?"),
    "last of twelve digits": ("number", "Who has 491511234501?", "Who has 491511234502?"),
    "unit of an amount": ("number", "Is 5 mg safe?", "Is 5 g safe?"),
    "unit asked for": ("unit", "How far is Rome in miles?", "How far is Rome in metres?"),
    "month": ("number", "Is it cold on 5 May?", "Is it cold on 5 June?"),
    "name": ("name", "Who founded Tesla?", "Who founded Toyota?"),
    "quoted": ("quoted", 'Translate "cat".', 'Translate "hat".'),
    "identifier": ("code", "What does get_user do?", "What does get_users do?"),
    "address": ("code", "Sum up https://a.test/v1", "Sum up https://a.test/v2"),
    "operator": ("sign", "Is a += b right?", "Is a -= b right?"),
    "question": ("question", "Who found the comet?", "When was the comet found?"),
    "quantifier": ("quantifier", "Do all birds fly?", "Do most birds fly?"),
    "opposite": ("opposite", "How do I buy a house?", "How do I sell a house?"),
    "who does it": ("relation", "Who taught Aristotle?", "Whom did Aristotle teach?"),
    "order": ("relation", "Did Ada beat Bob?", "Did Bob beat Ada?"),
    "passive": ("relation", "Did France invade Spain?", "Was France invaded by Spain?"),
    "from and to": ("relation", "Fly from Rome to Oslo", "To Rome from Oslo: fly"),
    "language": ("language", "Wie heißt der Fluss in Wien?", "What is the river in Vienna called?"),
    "another thing": ("words", "Can dogs eat grapes?", "Can dogs eat cherries?"),
    "tense": ("tense", "Who is the president of Brazil?", "Who was the president of Brazil?"),
    "was, in one word": ("tense", "Who won the big cup?", "Who wins the big cup?"),
    "was, by its end": ("tense", "Who worked there?", "Who works there?"),
    "decade": ("code", "Who lived in Rome in the 1980s?", "Who lived in Rome in 1980?"),
    "how often": ("quoted", "Repeat after me: go go go", "Repeat after me: go go"),
    "order of what is given": ("quoted", "Reverse this: ab cd", "Reverse this: cd ab"),
    "single quotes": ("quoted", "Translate 'I love you'.", "Translate 'you love I'."),
    "German was": ("tense", "Was ist die Hauptstadt?", "Was war die Hauptstadt?"),
    "before that": ("tense", "Why has it rained?", "Why had it rained?"),
    "German whom": ("person", "Wer liebt Anna?", "Wen liebt Anna?"),
    "who bites": ("person", "Der Hund beißt den Mann", "Den Hund beißt der Mann"),
    "French whom": ("person", "Qui mange le chat ?", "Que mange le chat ?"),
    "German whose": ("person", "Ist das sein Auto?", "Ist das ihr Auto?"),
    "German where": ("preposition", "Liegt der Schlüssel auf dem Tisch?", "Liegt der Schlüssel unter dem Tisch?"),
    "French where": ("preposition", "Est-il sur la table ?", "Est-il sous la table ?"),
    "to where": ("preposition", "How do I fly to Paris?", "How do I fly over Paris?"),
    "must": ("modal", "Can I take aspirin with wine?", "Must I take aspirin with wine?"),
    "advice": ("modal", "Do I call them?", "Should I call them?"),
    "whose": ("person", "What are your hobbies?", "What are my hobbies?"),
    "for whom": ("person", "Is this contract legal for me?", "Is this contract legal for you?"),
    "who it is": ("person", "Where does he live?", "Where does she live?"),
    "where": ("preposition", "What is in the box?", "What is on the box?"),
    "of what": ("preposition", "List books by him about war.", "List books about him by war."),
    "only": ("preposition", "I only eat fish on Fridays, right?", "I eat only fish on Fridays, right?"),
    "a bird or a country": ("case", "Is turkey healthy?", "Is Turkey healthy?"),
    "capitals": ("case", "Uppercase this: abc", "Uppercase this: ABC"),
    "one letter": ("case", "How do I write E in Python?", "How do I write e in Python?"),
    "indents": ("layout", "Fix:\ndef f():\n  a()\n  b()", "Fix:\ndef f():\n  a()\nb()"),
    "quoted blanks": ("layout", "How many blanks has `a  b`?", "How many blanks has `a b`?"),
    "too long": ("length", "a " * MAX_CHARACTERS, "b"),
}


@pytest.mark.parametrize(("left", "right"), SAME.values(), ids=SAME.keys())
def test_what_is_only_said_otherwise_passes(left: str, right: str) -> None:
    """Nothing speaks against it."""
    assert verdict(left, right).reasons == ()


@pytest.mark.parametrize(("reason", "left", "right"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_what_asks_for_something_else_is_refused(reason: Reason, left: str, right: str) -> None:
    """With the reason, whichever comes first."""
    assert reason in verdict(left, right).reasons
    assert reason in verdict(right, left).reasons


def test_few_of_the_labelled_pairs_slip_through() -> None:
    """Of those that it was made with; the others are judged by `make semantic-figures`."""
    near = [pair for pair in pairs("tuning") if not pair.is_same]
    passed = [pair for pair in near if verdict(pair.left, pair.right).passes]
    assert len(passed) / len(near) <= 0.005


PIECES = st.lists(
    st.one_of(
        st.sampled_from([word for pair in pairs("tuning")[::40] for word in pair.left.split()]), st.text(max_size=8)
    ),
    max_size=30,
).map(" ".join)


@given(PIECES, PIECES)
def test_any_two_prompts_can_be_compared(left: str, right: str) -> None:
    """In both orders with the same reasons; a prompt passes beside itself, however its blanks are typed."""
    assert verdict(left, right) == verdict(right, left)
    assert verdict(left, left).passes
    assert verdict(left, f"  {left} ").passes


@pytest.mark.parametrize(
    "piece",
    [
        '"',
        "„",
        "`",
        "1.",
        "1,",
        "_",
        "a_",
        "a.",
        "don't ",
        "ten ",
        "A",
        "中",
        "-",
        "x[",
        "Bob and ",
        "not up ",
        "AB cd ",
    ],
)
def test_the_longest_texts_are_read_to_their_end(piece: str) -> None:
    """Also those that would make a careless expression or loop begin anew at every place."""
    text = (piece * MAX_CHARACTERS)[: MAX_CHARACTERS - 4]
    assert verdict(text, text).passes
    assert not verdict(text, text + " 77").passes
