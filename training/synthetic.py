"""Texts written for this project, to teach the head how people type: short sums, fragments, chat.

Exams know only whole questions; people write "7 times 8 =" and "a compiler is called optimising because".
None of the prompts of a test set is in here, and no topic was chosen by looking at its errors.
"""

import random

FRAGMENTS = (
    "{0} is said to be useful because ", "{0} is known for being ", "{0} is called so because ",
    "{0} is", "The main advantage of {0} is that ", "People say that {0} is ", "One reason why {0} matters is ",
    "The difference between {0} and {1} is that ", "{0} was first introduced in order to ",
    "{0} works by ", "Unlike {1}, {0} ", "The most important thing about {0} is ", "{0} is considered to be ",
)
QUESTIONS = (
    "What is {0}?", "how does {0} work", "explain {0} to me", "Why do we need {0}?", "tell me about {0}",
    "{0} vs {1}", "Can you compare {0} with {1}?", "give me a short summary of {0}", "what does {0} mean",
    "When should I use {0} instead of {1}?", "I have an exam about {0} tomorrow, what should I know?",
    "Hi! Could you please help me understand {0}? I keep confusing it with {1}.", "common mistakes with {0}",
)
TOPICS = {
    "computer science": (
        "Unix", "FreeBSD", "a Linux distribution", "the Android operating system", "open source software",
        "an operating system kernel", "PostgreSQL", "the GNU compiler", "Firefox", "a package manager",
        "Java", "a web browser", "the Apache web server", "virtual memory", "a device driver", "JavaScript",
        "a neural network", "a binary search tree", "a microservice", "an API gateway", "the C language",
        "free software", "a file system", "cloud computing", "a load balancer", "public key encryption",
        "a garbage collector", "the shell", "Windows", "an open source licence on GitHub",
    ),
    "math": (
        "a matrix", "the quadratic formula", "a prime factor", "a logarithm", "the chain rule", "a polynomial",
        "long division", "a fraction", "an integral", "a vector space", "the normal distribution", "a proof by induction",
        "a limit", "a geometric series", "complex numbers", "modular arithmetic", "a differential equation",
    ),
    "physics": (
        "gravity", "a laser", "special relativity", "friction", "a magnetic field", "the speed of sound",
        "kinetic energy", "a neutron star", "refraction", "an electron's spin", "entropy", "momentum", "a pendulum",
    ),
    "chemistry": (
        "an acid", "a covalent compound", "the periodic table", "oxidation", "a polymer", "distillation",
        "an ester", "a buffer solution", "electrolysis", "ammonia", "a mole", "activation energy", "a ligand",
    ),
    "biology": (
        "DNA", "a ribosome", "an enzyme", "osmosis", "a virus", "the food chain", "a chromosome", "fungi",
        "cell division", "an ecosystem", "a vertebrate", "symbiosis", "the immune system of insects",
    ),
    "engineering": (
        "a gearbox", "a transistor amplifier", "reinforced concrete", "a heat exchanger", "a turbine", "a truss",
        "a voltage regulator", "an induction motor", "hydraulics", "welding", "a centrifugal pump", "a bearing",
    ),
    "economics": (
        "inflation", "a monopoly", "the central bank", "fiscal policy", "aggregate demand", "an exchange rate",
        "a recession", "a public good", "a trade deficit", "game theory in markets", "a price ceiling",
    ),
    "business": (
        "a brand", "market segmentation", "a balance sheet", "cash flow", "outsourcing", "customer retention",
        "a joint venture", "human resources", "a franchise", "project management", "a sales funnel",
    ),
    "law": (
        "a tort", "the presumption of innocence", "a patent", "an injunction", "the supreme court", "bail",
        "a class action", "due process", "custody of a child", "a trademark", "perjury", "a plea bargain",
    ),
    "history": (
        "the Renaissance", "the Mongol Empire", "the Cold War", "the Industrial Revolution", "feudalism",
        "the Aztecs", "the Black Death", "the Treaty of Versailles", "the Byzantine Empire", "the Crusades",
    ),
    "philosophy": (
        "nihilism", "the social contract", "Hume's problem of induction", "Socrates", "ethics", "dualism",
        "Nietzsche", "empiricism", "a logical fallacy", "the meaning of life", "virtue", "epistemology",
    ),
    "psychology": (
        "memory", "the placebo effect on the mind", "introversion", "a phobia", "group think", "motivation",
        "the unconscious", "emotional intelligence", "cognitive dissonance", "a personality test", "reinforcement",
    ),
    "health": (
        "a vaccine", "high cholesterol", "asthma", "insulin", "a balanced diet", "an antibiotic", "anaemia",
        "a migraine", "physiotherapy", "blood sugar", "dehydration", "a sprained ankle", "sleep hygiene",
    ),
    "other": (
        "a football match", "my holiday in Spain", "a love song", "gardening", "knitting", "a board game",
        "a haircut", "my cat", "the weekend", "a camping trip", "a comic book", "a dinner party", "makeup",
    ),
}
WRITING = (
    "write a short poem about {0}", "write a story about {0}", "tell me a joke about {0}", "sing a song about {0}",
    "any ideas for {0}?", "help me plan {0}", "write a caption about {0}", "can we chat about {0}?",
)
SUMS = (
    "{a} {o} {b}", "{a}{o}{b}", "{a} {o} {b} =", "{a} {o} {b} equals", "{a}{o}{b} is ", "what is {a} {o} {b}?",
    "What is {a}{o}{b} {p} ({c}-{d})?", "compute {a} {o} ({b} {p} {c})", "{a} {w} {b} is", "how much is {a} {w} {b}",
    "What's {a} {w} {b} {x} {c}?", "evaluate ({a} + {b}) * {c} - {d}", "{a}{o}{b}{p}{c} = ?", "solve {a}x + {b} = {c}",
    "the sum of {a} and {b} is", "{a} {o} {b} equals what?", "Q: {a} {o} {b}\nA:", "calculate {a} {o} {b} {p} {c}",
    "Find the derivative of {a}x^{d} + {b}x - {c}", "what is the derivative of g(t) = {a}t^{d} - {b}t^2 + {c}t?",
    "integrate {a}x^{d} + {b}", "differentiate y = {a}x^2 - {b}x + {c}", "f(x) = {a}x^3 - {b}x. find f'({d})",
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


def rows(seed):
    """Returns the synthetic rows, without repeats, in the pool's form."""
    random_ = random.Random(seed)
    made = dict.fromkeys([*sums(random_, 700), *sentences(random_, 130)])
    return [{"text": text, "label": label, "source": "ours/synthetic"} for text, label in made if not listed(text)]


def listed(text):
    """Tells the well-known exam prompts, which must stay unseen."""
    squeezed = "".join(text.lower().split()).rstrip("?=")
    return squeezed in {"2+2", "2+2is", "whatis2+2", "whatis2+2*(5-1)"}
