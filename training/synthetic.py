"""Texts written for this project, to teach the head how people type: short sums, fragments, chat.

Exams know only whole questions; people write "7 times 8 =" and "a compiler is called optimising because".
None of the prompts of a test set is in here, and no topic was chosen by looking at its errors.
"""

import random

from topics import REQUESTS, TOPICS

FRAGMENTS = (
    "{0} is said to be useful because ",
    "{0} is known for being ",
    "{0} is called so because ",
    "{0} is",
    "The main advantage of {0} is that ",
    "People say that {0} is ",
    "One reason why {0} matters is ",
    "The difference between {0} and {1} is that ",
    "{0} was first introduced in order to ",
    "{0} works by ",
    "Unlike {1}, {0} ",
    "The most important thing about {0} is ",
    "{0} is considered to be ",
)
QUESTIONS = (
    "What is {0}?",
    "how does {0} work",
    "explain {0} to me",
    "Why do we need {0}?",
    "tell me about {0}",
    "{0} vs {1}",
    "Can you compare {0} with {1}?",
    "give me a short summary of {0}",
    "what does {0} mean",
    "When should I use {0} instead of {1}?",
    "{0}?",
    "{0}",
    "what's {0}",
    "whats {0} exactly",
    "eli5 {0}",
    "give me an example of {0}",
    "three facts about {0}",
    "quick question about {0}",
    "Help me with {0}",
    "pls explain {0}",
    "I don't get {0}",
    "Can you give me a quiz on {0}?",
    "is {0} related to {1}?",
    "Make a study plan for {0}",
    "write two paragraphs about {0}",
    "what are the main kinds of {0}",
    "where can I learn about {0}?",
    "Hey, I have a question about {0}. Can you help?",
    "summarise {0} in one sentence",
    "why is {0} important",
    "pros and cons of {0}",
    "Teach me {0}",
    "I need to give a talk on {0}. Where should I start?",
    "What should everyone know about {0}?",
    "common misconceptions about {0}",
    "practice problems on {0} please",
    "my teacher talked about {0} today and I was lost, can you go through it slowly?",
    "I have an exam about {0} tomorrow, what should I know?",
    "Hi! Could you please help me understand {0}? I keep confusing it with {1}.",
    "common mistakes with {0}",
)
WRITING = (
    "write a short poem about {0}",
    "write a story about {0}",
    "tell me a joke about {0}",
    "sing a song about {0}",
    "any ideas for {0}?",
    "help me plan {0}",
    "write a caption about {0}",
    "can we chat about {0}?",
)
SUMS = (
    "{a} {o} {b}",
    "{a}{o}{b}",
    "{a} {o} {b} =",
    "{a} {o} {b} equals",
    "{a}{o}{b} is ",
    "what is {a} {o} {b}?",
    "What is {a}{o}{b} {p} ({c}-{d})?",
    "compute {a} {o} ({b} {p} {c})",
    "{a} {w} {b} is",
    "how much is {a} {w} {b}",
    "What's {a} {w} {b} {x} {c}?",
    "evaluate ({a} + {b}) * {c} - {d}",
    "{a}{o}{b}{p}{c} = ?",
    "solve {a}x + {b} = {c}",
    "the sum of {a} and {b} is",
    "{a} {o} {b} equals what?",
    "Q: {a} {o} {b}\nA:",
    "calculate {a} {o} {b} {p} {c}",
    "Find the derivative of {a}x^{d} + {b}x - {c}",
    "what is the derivative of g(t) = {a}t^{d} - {b}t^2 + {c}t?",
    "integrate {a}x^{d} + {b}",
    "differentiate y = {a}x^2 - {b}x + {c}",
    "f(x) = {a}x^3 - {b}x. find f'({d})",
)


def sums(random_, count):
    """Yields short arithmetic and calculus, small numbers more often than large ones."""
    for _ in range(count):
        top = random_.choice((9, 9, 20, 100, 1000))
        numbers = {name: random_.randint(0, top) for name in "abc"} | {"d": random_.randint(1, 9)}
        signs = {"o": random_.choice("+-*/x+*"), "p": random_.choice("+-*/")}
        words = ("plus", "minus", "times", "divided by")
        text = random_.choice(SUMS).format(**numbers, **signs, w=random_.choice(words), x=random_.choice(words))
        yield text, "math"


def sentences(random_, count):
    """Yields fragments and questions about each subject's topics, in careless typing too."""
    for label, topics in TOPICS.items():
        forms = FRAGMENTS + QUESTIONS + (WRITING * 2 if label == "other" else ())
        for _ in range(count):
            text = random_.choice(forms).format(*random_.sample(topics, 2))
            text = text[0].upper() + text[1:] if random_.random() < 0.6 else text
            yield (text.rstrip() if random_.random() < 0.5 else text), label


def requests(random_, count):
    """Yields requests that are typical of a subject."""
    for label, (forms, places) in REQUESTS.items():
        for _ in range(count):
            text = random_.choice(forms).format(*(random_.choice(words) for words in places))
            yield (text[0].upper() + text[1:] if random_.random() < 0.5 else text), label


def rows(seed):
    """Returns the synthetic rows, without repeats, in the pool's form."""
    random_ = random.Random(seed)
    made = dict.fromkeys([*sums(random_, 700), *sentences(random_, 420), *requests(random_, 200)])
    return [{"text": text, "label": label, "source": "ours/synthetic"} for text, label in made if not listed(text)]


def listed(text):
    """Tells the well-known exam prompts, which must stay unseen."""
    squeezed = "".join(text.lower().split()).rstrip("?=")
    return squeezed in {"2+2", "2+2is", "whatis2+2", "whatis2+2*(5-1)"}
