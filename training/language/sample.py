"""Training texts drawn at random: lengths from a word to a paragraph, accents left out, foreign words, program text beside prose."""

import gzip
import io
import json
import pathlib
import random
import sysconfig
import tokenize
import unicodedata

import features
import sources
from languages import CODE, LATIN, SCRIPTS, SOURCES
from phrases import PHRASES

LOANS = """python java rust docker kubernetes linux github google api json sql html css c javascript typescript react excel word
quicksort numpy pandas tensorflow pytorch machine learning deep software hardware server cloud web app email online internet
prompt chatgpt openai token cache thread async backend frontend framework script bug debug login blog marketing podcast smartphone
windows apple iphone android microsoft facebook youtube netflix amazon tesla http url pdf csv xml yaml bash regex
fibonacci newton einstein london paris berlin new york tokyo madrid roma john maria anna peter smith garcia müller""".split()
HELD_OUT = 10  # one sentence of the news in so many is for calibration


def clean(texts):
    """Turns texts into lists of words, those of the language's script only, and drops what is empty or there twice."""
    seen = set()
    for text in texts:
        if text not in seen:
            seen.add(text)
            yield text


class Corpus:
    """All texts by language: `train` holds (weight, lists of words) for each source, `held` lists of words."""

    def __init__(self, folder, data):
        self.train, self.held = {}, {}
        for code in SOURCES:
            of = script_of(code)
            news = [found for text in clean(sources.news(folder, code)) if (found := words(text, of))]
            ui = [found for text in clean(sources.interface(folder, code)) if (found := words(text, of))]
            self.held[code] = [text for at, text in enumerate(news) if at % HELD_OUT == 0 and len(text) > 3]
            self.train[code] = [(w, texts) for w, texts in ((6, [t for at, t in enumerate(news) if at % HELD_OUT or len(t) <= 3]), (3, ui)) if texts]
            vocabulary = [[word] for text in sources.vocabulary(folder, code) for word in words(text, of)]
            if vocabulary:
                self.train[code].append((1, vocabulary))
            if code in PHRASES:
                self.train[code].append((2, [words(text, of) for text in PHRASES[code].split(" | ")]))
        self.train["en"].append((6, [found for text in questions(data) if (found := words(text, features.LATIN))]))
        lines = [found for text in program_lines() if (found := words(text, features.LATIN))]
        random.Random(5).shuffle(lines)
        cut = len(lines) // HELD_OUT
        self.held[CODE], self.code = lines[:cut], lines[cut:]
        self.train[CODE] = [(1, self.code)]


def script_of(code):
    return next(at for at, script in enumerate(SCRIPTS.values(), 1) if code in script)


def words(text, script):
    """The words of a text that are of a script."""
    return [word for of, word in features.words(text) if of == script]


def questions(folder):
    """English questions and tasks that the built-in classifier learns from, too."""
    with gzip.open(pathlib.Path(folder) / "domain.jsonl.gz", "rt") as file:
        return [row["text"][:400] for row in map(json.loads, file)]


def program_lines():
    """Lines of Python's own library and of this repository, without comments and strings."""
    for path in sorted(pathlib.Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        lines = {}
        try:
            for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
                if token.type not in (tokenize.COMMENT, tokenize.STRING):
                    lines.setdefault(token.start[0], []).append(token)
        except (tokenize.TokenError, SyntaxError, UnicodeDecodeError):
            continue
        for tokens in lines.values():
            text, end = "", tokens[0].start[1]
            for token in tokens:
                text += " " * max(0, token.start[1] - end) + token.string
                end = token.end[1]
            yield text
    root = pathlib.Path(__file__).parents[2]
    for path in sorted(root.glob("src/**/*.rs")):
        for line in path.read_text().splitlines():
            line = line.strip()
            if line and not line.startswith("//") and '"' not in line:
                yield line
    for path in [*sorted(root.glob("conf/*.yaml")), *sorted(root.glob("tests/golden/models/*/config.json"))]:
        yield from (line for line in path.read_text().splitlines() if line.strip() and "#" not in line)


def draw(corpus, code, rng):
    """One training text in a language, as a list of words."""
    length = rng.choices((1, 2, 3, rng.randint(4, 9), rng.randint(10, 40)), (8, 8, 10, 40, 34))[0]
    weights, texts = zip(*corpus.train[code])
    found = run(rng.choices(texts, weights)[0], length, rng)
    if code == CODE:
        return found
    if code in LATIN and rng.random() < 0.12:
        found = [unaccented(word) for word in found]
    chance = rng.random()
    if code in LATIN and len(found) >= 3 and chance < 0.15:
        for _ in range(rng.randint(1, max(1, len(found) // 3))):
            found = [*found, rng.choice(LOANS)]
    elif code in LATIN and len(found) >= 4 and chance < 0.25:
        found = [*found, *run(corpus.code, rng.randint(2, len(found)), rng)]
    return found


def run(texts, length, rng):
    """So many words in a row, of as many texts as it takes."""
    found = []
    while len(found) < length:
        text = rng.choice(texts)
        start = rng.randrange(max(1, len(text) - length + 1))
        found += text[start : start + length - len(found)]
    return found


def unaccented(word):
    plain = "".join(char for char in unicodedata.normalize("NFKD", word) if not unicodedata.combining(char))
    return plain.replace("ß", "ss").replace("ł", "l").replace("ø", "o").replace("đ", "d").replace("ı", "i") or word
