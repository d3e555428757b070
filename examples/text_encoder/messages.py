"""Messages to the help desk of a shop, put together from parts of sentences, with typing errors: the same each time."""

from __future__ import annotations

import random

PARTS = {
    "delivery": (
        ["my parcel", "the order", "the box", "my package", "the courier", "the shipment"],
        [
            "has not arrived",
            "is late again",
            "went to the wrong address",
            "is still on its way",
            "was left in the rain",
        ],
    ),
    "refund": (
        ["the money for it", "my refund", "the amount", "what i paid", "the price of the {thing}"],
        ["must come back to me", "was never returned", "should be paid back", "is missing on my card"],
    ),
    "account": (
        ["my password", "the login", "my account", "the link in the mail", "my user name"],
        ["does not work", "is blocked", "is not accepted", "was changed by somebody", "cannot be found"],
    ),
    "fault": (
        ["the {thing}", "a part of the {thing}", "the screen of the {thing}", "the new {thing}"],
        ["is broken", "makes a strange noise", "stopped after a day", "does not switch on", "has a crack"],
    ),
    "question": (
        ["is the {thing}", "will the {thing}", "can the {thing}", "does the {thing}"],
        ["come in blue", "fit a small kitchen", "run without a cable", "last for years", "work abroad"],
    ),
    "praise": (
        ["the {thing}", "your service", "the advice", "everything about the {thing}", "the new {thing}"],
        ["is wonderful", "made my day", "works better than i hoped", "was worth every coin", "does not let me down"],
    ),
}
"""Label -> what is spoken of, and what is said of it."""
_THINGS = ["kettle", "lamp", "radio", "camera", "printer", "heater", "toaster", "phone", "clock", "drill"]
_BEFORE = ["hello", "good morning", "dear team", "hi there", "sorry to write again", "just a short note", ""]
_BESIDE = [
    "i bought the {thing} last week",
    "my sister has the same {thing}",
    "this is my second {thing}",
    "the {thing} was a gift",
    "i have been a customer for years",
    "",
    "",
]
_AFTER = ["thank you", "please answer soon", "best wishes", "what now", "have a nice day", "", ""]


def texts(count: int, seed: int, errors: float) -> list[tuple[str, str]]:
    """Return so many messages with their labels; `errors` is the share of words with a typing error."""
    generator = random.Random(seed)
    return [_message(generator, errors) for _ in range(count)]


def _message(generator: random.Random, errors: float) -> tuple[str, str]:
    label = generator.choice(list(PARTS))
    subject, verb = (generator.choice(part) for part in PARTS[label])
    told = [f"{subject} {verb}", generator.choice(_BESIDE)]
    generator.shuffle(told)
    parts = [generator.choice(_BEFORE), *told, generator.choice(_AFTER)]
    words = " ".join(parts).replace("{thing}", generator.choice(_THINGS)).split()
    return " ".join(_typed(word, generator) if generator.random() < errors else word for word in words), label


def _typed(word: str, generator: random.Random) -> str:
    """Return a word with two letters swapped, or one left out or doubled."""
    place = generator.randrange(len(word))
    return generator.choice(
        [
            word[:place] + word[place : place + 2][::-1] + word[place + 2 :],
            word[:place] + word[place + 1 :],
            word[:place] + word[place] + word[place:],
        ]
    )
