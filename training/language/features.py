"""What the table is asked about a text: its words, their n-grams, and the row of each. src/language/words.rs does the same."""

import functools

import numpy as np

ROWS_LOG2 = 14
ROWS = 1 << ROWS_LOG2
LATIN, CYRILLIC, ARABIC, DEVANAGARI = 1, 2, 3, 4
PRIMES = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F)
WORD_PRIME = 0x01000193
MIX = 0x2C1B3C6D
EDGE = 0x20
MAX_LETTERS = 32  # of a word; what is longer is none
# What makes a word an identifier, a path, markup or a call when it touches its start or its end.
BEFORE = frozenset("_/\\@#$=<&.0123456789")
AFTER = frozenset("_/\\@=(+0123456789")


def script(char):
    """Which of the four scripts a letter is of; 0 for everything else."""
    at = ord(char)
    if char.isascii():
        return LATIN if char.isalpha() else 0
    if 0xC0 <= at <= 0x24F or 0x1E00 <= at <= 0x1EFF:
        return 0 if at in (0xD7, 0xF7) else LATIN
    if 0x250 <= at <= 0x2AF:
        return LATIN
    if 0x400 <= at <= 0x52F:
        return 0 if 0x482 <= at <= 0x489 else CYRILLIC
    if 0x620 <= at <= 0x64A or 0x671 <= at <= 0x6D3 or at in (0x6D5, 0x6EE, 0x6EF) or 0x6FA <= at <= 0x6FF or 0x750 <= at <= 0x77F:
        return ARABIC
    if 0x900 <= at <= 0x963 or 0x971 <= at <= 0x97F:
        return DEVANAGARI
    return 0


def is_mark(char):
    """Marks that stand on a letter and are passed over: combining accents, Arabic vowels and the joiners."""
    at = ord(char)
    return 0x300 <= at <= 0x36F or 0x64B <= at <= 0x65F or at in (0x670, 0x640, 0x200C, 0x200D, 0xAD)


def words(text):
    """Runs of letters of one of the four scripts, in lower case, that are no part of an identifier, a call, a number or an address."""
    found, word, of, skip, before = [], [], 0, False, " "
    for char in text:
        here = script(char)
        if here and here == of:
            skip |= char.isascii() and char.isupper() and before.isascii() and before.islower()
            word.append(lower(char))
        elif of and is_mark(char):
            continue
        else:
            if of and not (skip or char in AFTER or len(word) > MAX_LETTERS):
                found.append((of, "".join(word)))
            word, of, skip = [lower(char)] if here else [], here, before in BEFORE
        before = char
    if of and not (skip or len(word) > MAX_LETTERS):
        found.append((of, "".join(word)))
    return found


def lower(char):
    """One letter for one letter: what becomes two in lower case keeps the first."""
    return char.lower()[0]


@functools.lru_cache(maxsize=1 << 20)
def rows(word):
    """The rows of one word: its n-grams of two, three and four letters with both edges, and the whole."""
    codes = np.array([EDGE, *map(ord, word), EDGE], dtype=np.uint32)
    found = []
    for size in (2, 3, 4):
        if len(codes) >= size:
            total = np.full(len(codes) - size + 1, size * MIX & 0xFFFFFFFF, dtype=np.uint32)
            for at in range(size):
                total += codes[at : len(codes) - size + 1 + at] * np.uint32(PRIMES[at])
            found.append(total)
    whole = 0
    for char in word:
        whole = (whole * WORD_PRIME + ord(char)) & 0xFFFFFFFF
    found.append(np.array([whole], dtype=np.uint32))
    total = np.concatenate(found)
    total ^= total >> np.uint32(15)
    return ((total * np.uint32(MIX)) >> np.uint32(32 - ROWS_LOG2)).astype(np.int32)
