"""The texts that the table is made from: fetched with cargo and apt-get, cleaned, by language. Nothing of them is kept in the repository."""

import gettext
import pathlib
import random
import re
import struct
import subprocess

from languages import OTHERS, SOURCES

# Tesseract's names of the languages of which it knows words.
TESSERACT = {
    "af": "afr", "az": "aze", "ca": "cat", "cs": "ces", "cy": "cym", "da": "dan", "de": "deu", "en": "eng", "eo": "epo", "es": "spa",
    "et": "est", "eu": "eus", "fi": "fin", "fr": "fra", "ga": "gle", "gl": "glg", "hr": "hrv", "hu": "hun", "id": "ind", "is": "isl",
    "it": "ita", "la": "lat", "lt": "lit", "lv": "lav", "ms": "msa", "mt": "mlt", "nb": "nor", "nl": "nld", "pl": "pol", "pt": "por",
    "ro": "ron", "sk": "slk", "sl": "slv", "sq": "sqi", "sv": "swe", "sw": "swa", "tl": "fil", "tr": "tur", "uz": "uzb", "vi": "vie",
    "yo": "yor", "be": "bel", "bg": "bul", "kk": "kaz", "mk": "mkd", "mn": "mon", "ru": "rus", "sr": "srp", "uk": "ukr", "ar": "ara",
    "fa": "fas", "ur": "urd", "hi": "hin", "mr": "mar", "ne": "nep",
}  # fmt: skip
VOCABULARY = 40_000
VERSION = "1.3.0"  # of the lingua family's crates
CLEAN = re.compile(r"<[^>]*>|&[a-z]+;|%[A-Za-z0-9_]+%?|\$\([^)]*\)|\$\{?[A-Za-z0-9_]+\}?|[~_]")


def fetch(folder):
    """Fetches every source into `folder` once."""
    crates, packages = folder / "crates", folder / "packages"
    if not (crates / "vendor").exists():
        manifest = '[package]\nname = "sources"\nversion = "0.1.0"\nedition = "2024"\n[lib]\npath = "none.rs"\n[dependencies]\n'
        names = sorted({name for crate, _ in SOURCES.values() for name in crate.split()})
        crates.mkdir(parents=True, exist_ok=True)
        (crates / "none.rs").touch()
        (crates / "Cargo.toml").write_text(manifest + "".join(f'lingua-{name}-language-model = "={VERSION}"\n' for name in names))
        subprocess.run(["cargo", "vendor", "--quiet", "vendor"], cwd=crates, check=True, stdout=subprocess.DEVNULL)
    packages.mkdir(exist_ok=True)
    interfaces = {name for _, folders in SOURCES.values() for name in folders.split()} | {"de"}
    models = {name for names in [*TESSERACT.values(), *OTHERS.values()] for name in names.split()}
    for name in sorted({f"libreoffice-l10n-{name}" for name in interfaces} | {f"tesseract-ocr-{name}" for name in models}):
        name = name.lower().replace("_", "-")
        if not any(packages.glob(f"{name}_*.deb")):
            subprocess.run(["apt-get", "download", "--quiet", name], cwd=packages, check=True)
            subprocess.run(["dpkg-deb", "-x", str(next(packages.glob(f"{name}_*.deb"))), str(packages / "root")], check=True)


def news(folder, code):
    """Sentences and word pairs of a language from the test data of its lingua crate."""
    for name in SOURCES[code][0].split():
        data = folder / "crates" / "vendor" / f"lingua-{name}-language-model" / "testdata"
        for file in ("sentences.txt", "word-pairs.txt"):
            yield from (data / file).read_text().splitlines()


def interface(folder, code):
    """LibreOffice's texts in a language; English ones are what the others are translated from."""
    root = folder / "packages/root/usr/lib/libreoffice/program/resource"
    for name in SOURCES[code][1].split():
        for file in sorted((root / ("de" if code == "en" else name) / "LC_MESSAGES").glob("*.mo")):
            with file.open("rb") as opened:
                catalog = gettext.GNUTranslations(opened)._catalog
            for source, text in catalog.items():
                source = (source[0] if isinstance(source, tuple) else source).split("\x04")[-1]
                if source and source != text:
                    yield CLEAN.sub(" " if " " in text else "", source if code == "en" else text)


def vocabulary(folder, code):
    """The words of a language that Tesseract's model knows, at most VOCABULARY of them, without their frequencies."""
    names = (OTHERS.get(code) or TESSERACT.get(code, "")).split()
    for name in names:
        file = next(folder.glob(f"packages/root/usr/share/tesseract-ocr/*/tessdata/{name}.traineddata"))
        words = sorted(dawg_words(file.read_bytes()))
        yield from random.Random(3).sample(words, min(VOCABULARY // len(names), len(words)))


def dawg_words(data):
    """Reads the word graph of a traineddata file: a table of offsets, then (part 21) the letters and (part 19) the edges."""
    count = struct.unpack_from("<i", data)[0]
    starts = struct.unpack_from(f"<{count}q", data, 4)
    part = lambda at: data[starts[at] : min([start for start in starts if start > starts[at]], default=len(data))]
    letters = [line.split(" ", 1)[0] for line in part(21).decode().splitlines()[1:]]
    graph = part(19)
    _, size, edges = struct.unpack_from("<hii", graph)
    bits = size.bit_length()
    edges = struct.unpack_from(f"<{edges}Q", graph, 10)
    found, open_nodes = [], [(0, "")]
    while open_nodes:
        at, prefix = open_nodes.pop()
        while True:
            edge = edges[at]
            letter, flags, target = edge & ((1 << bits) - 1), edge >> bits & 7, edge >> (bits + 3)
            if not flags & 2:  # the other direction is kept for none of the edges that matter
                word = prefix + letters[letter]
                if flags & 4:
                    found.append(word)
                if target and len(word) < 25:
                    open_nodes.append((target, word))
            if flags & 1:
                break
            at += 1
    return found
