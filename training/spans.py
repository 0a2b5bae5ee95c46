"""From tokens' labels to entities, the validated patterns beside them, and span scores.

The decoding and the patterns follow what the gateway does, so that the figures hold for it.
"""

import re

import numpy as np

CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
IBAN = re.compile(r"(?<!\w)[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,4})?(?!\w)")
SSN = re.compile(r"(?<![\w-])(?!000|666|9\d\d)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w-])")
MAIL = re.compile(r"(?<![\w.+-])[\w.+%-]+@(?:[\w-]+\.)+[A-Za-z]{2,}(?![\w-])")
IPV4 = re.compile(r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.]*\d)")
IPV6 = re.compile(
    r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}(?![\w:])|(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){1,6}(?::[0-9A-Fa-f]{1,4}){1,6}(?![\w:])"
)
LINK = re.compile(r"(?<!\w)[Hh][Tt][Tt][Pp][Ss]?://[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}(?:/(?![\w#%~@:{$/-]|[?.]\w))?")
BARE = re.compile(r"(?<![\w@./:-])[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|edu|gov|mil|biz|de|fr|nl|uk|ch|au|jp|cn|ru|br|eu|dk|cz|kr|nz|za)(?![\w@(-]|\.\w)", re.I)
TELEPHONE = re.compile(
    r"(?<![\w.+-])(?:\+[1-9]\d{0,3}(?:[ .-]?(?:\(\d{1,4}\)|\d{1,11})){1,6}|(?:(?:001|1)[ .-])?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[ .-]\d{4})(?: ?(?:x|ext\.?) ?\d{1,5})?(?![\w]|[./-]\d)"
)
IBAN_LENGTHS = {
    "AD": 24,
    "AE": 23,
    "AT": 20,
    "BE": 16,
    "BG": 22,
    "CH": 21,
    "CY": 28,
    "CZ": 24,
    "DE": 22,
    "DK": 18,
    "EE": 20,
    "ES": 24,
    "FI": 18,
    "FR": 27,
    "GB": 22,
    "GR": 27,
    "HR": 21,
    "HU": 28,
    "IE": 22,
    "IS": 26,
    "IT": 27,
    "LT": 20,
    "LU": 20,
    "LV": 21,
    "MT": 31,
    "NL": 18,
    "NO": 15,
    "PL": 28,
    "PT": 25,
    "RO": 24,
    "SE": 24,
    "SI": 19,
    "SK": 24,
    "TR": 26,
}


def luhn(digits):
    """Tells whether a card number's check digit is right."""
    total = sum(
        d if i % 2 == 0 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(int(c) for c in reversed(digits))
    )
    return total % 10 == 0


def mod97(text):
    """Tells whether an IBAN's check digits and length are right."""
    text = text.replace(" ", "").upper()
    if IBAN_LENGTHS.get(text[:2], len(text)) != len(text) or not 15 <= len(text) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def patterns(text):
    """Entities that a validated pattern finds: (start, end, kind)."""
    found = [(m.start(), m.end(), "EMAIL_ADDRESS") for m in MAIL.finditer(text)]
    found += [(m.start(), m.end(), "IBAN_CODE") for m in IBAN.finditer(text) if mod97(m.group())]
    found += [(m.start(), m.end(), "CREDIT_CARD") for m in CARD.finditer(text) if luhn(re.sub(r"\D", "", m.group()))]
    found += [(m.start(), m.end(), "US_SSN") for m in SSN.finditer(text)]
    found += [(m.start(), m.end(), "IP_ADDRESS") for p in (IPV4, IPV6) for m in p.finditer(text)]
    found += [(m.start(), m.end(), "DOMAIN_NAME") for p in (LINK, BARE) for m in p.finditer(text)]
    found += [
        (m.start(), m.end(), "PHONE_NUMBER")
        for m in TELEPHONE.finditer(text)
        if 8 <= len(re.sub(r"\D", "", re.split("[xe]", m.group())[0])) <= 15
    ]
    kept = []
    for span in sorted(found, key=lambda s: s[0] - s[1]):  # the longest first
        if all(span[1] <= a or b <= span[0] for a, b, _ in kept):
            kept.append(span)
    return kept


def encode(offsets, spans, labels):
    """The label of each token; only an entity that touches one of its kind needs a B at its beginning."""
    place = {name: i for i, name in enumerate(labels)}
    found = np.zeros(len(offsets), np.int64)
    for start, end, kind in sorted(spans):
        if "B-" + kind in place:
            inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start]
            touches = inside and inside[0] > 0 and found[inside[0] - 1] in (place["B-" + kind], place["I-" + kind])
            found[inside] = place["I-" + kind]
            if touches:
                found[inside[:1]] = place["B-" + kind]
    return found


def one_word(text, end, start):
    """Whether a token that starts there goes on with the word that ended there; a hyphen ties two letters."""
    if start != end:
        return start < end
    left, right = text[end - 1 : end], text[end : end + 1]
    if left == "-":
        left = text[end - 2 : end - 1]
        return left.isalpha() and right.isalpha()
    if right == "-":
        return left.isalpha() and text[end + 1 : end + 2].isalpha()
    return left.isalnum() and right.isalnum()


def words(text, offsets, best, sure, labels):
    """Tokens put together to words: [start, end, kind or None, begins, confidence]; the kind with the most weight counts."""
    found = []
    for (start, end), label, share in zip(offsets, best, sure):
        name = labels[label]
        vote = (None if name == "O" else name[2:], name[0] == "B", float(share))
        if found and one_word(text, found[-1][1], start):
            found[-1][1] = max(found[-1][1], end)
            found[-1][2].append(vote)
        else:
            found.append([start, end, [vote]])
    for word in found:
        weights = {}
        for kind, _, share in word[2]:
            weights[kind] = weights.get(kind, 0.0) + share
        kind = max(weights, key=weights.get)
        word[2:] = [kind, next(begins for k, begins, _ in word[2] if k == kind), weights[kind] / len(word[2])]
    return found


MARKS = " \t\n\r,;:!?\"'`“”‘’«»…|*"


def decode(text, offsets, best, sure, labels, least=0.0):
    """Entities of one window: (start, end, kind, confidence).

    A word goes on with the entity before it when its kind is the same and it does not begin one, or touches it without a gap.
    """
    found, before = [], None
    for start, end, kind, begins, share in words(text, offsets, best, sure, labels):
        if kind is None:
            before = None
            continue
        if before == kind and (not begins or found[-1][1] == start):
            found[-1][1] = end
            found[-1][3].append(share)
        else:
            found.append([start, end, kind, [share]])
        before = kind
    kept = []
    for start, end, kind, shares in found:
        while start < end and text[start] in MARKS:
            start += 1
        while start < end and text[end - 1] in MARKS:
            end -= 1
        if start < end and np.mean(shares) >= least:
            kept.append((start, end, kind, float(np.mean(shares))))
    return kept


def join(learnt, matched):
    """Patterns win over what the head says about the same characters."""
    free = [s for s in learnt if all(s[1] <= a or b <= s[0] for a, b, _ in matched)]
    return [s[:3] for s in free] + list(matched)


def score(truth, found):
    """Span counts by kind: {kind: [right, found, true]}; a span is right when its kind and both ends are."""
    counts = {}
    for true, guess in zip(truth, found):
        true, guess = {tuple(s) for s in true}, {tuple(s) for s in guess}
        for at, spans in ((0, true & guess), (1, guess), (2, true)):
            for span in spans:
                counts.setdefault(span[2], [0, 0, 0])[at] += 1
    return counts


def f1(counts):
    """Micro-averaged precision, recall and F1."""
    right, found, true = (sum(c[i] for c in counts.values()) for i in range(3))
    return right / max(found, 1), right / max(true, 1), 2 * right / max(found + true, 1)
