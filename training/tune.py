"""Measures whether tuning the trunk's two upper layers helps the jailbreak head: `python tune.py DATA --work FOLDER`.

The same texts, splits and left-out sources for both: a head on the frozen encoder as `train.py` makes it, and layers 5 and 6
trained together with a head. Writes nothing but its margins, into the work folder; the model is left as it is.
"""

import argparse
import hashlib
import pathlib
import time

import numpy as np
import torch
from torch.nn import functional

import data
import guard
import heads
import measure
import store
import train
import encoder

BELOW = 4  # layers that stay as they are
PARTS = ("guard", "more_benign", "own_attacks", "own_benign", "own_briefs", "own_scenes", "own_buried")
RECIPE = guard.RECIPES[0]
# Pairs of `guard.FOLDS`: three rounds rather than six, each without two to five attack sources and their benign ones.
ROUNDS = ((0, 5), (2, 3), (1, 4))
BATCH = 32  # texts
SETTINGS = {
    "head alone, 1 epoch": {"rate": 0.0, "epochs": 1, "anchor": 0.0, "ready": False},
    "head alone, 2 epochs": {"rate": 0.0, "epochs": 2, "anchor": 0.0, "ready": False},
    "tuned 5e-5, 1 epoch": {"rate": 5e-5, "epochs": 1, "anchor": 0.0, "ready": False},
    "tuned 5e-5, 2 epochs": {"rate": 5e-5, "epochs": 2, "anchor": 0.0, "ready": False},
    "ready head, tuned 3e-5, 1 epoch, anchored": {"rate": 3e-5, "epochs": 1, "anchor": 2.0, "ready": True},
}


def middle(windows, named, work):
    """Every token's state after the lower layers, f16, and where each window's begin."""
    sizes = np.array([len(w) + 2 for w in windows])
    begin = np.concatenate([[0], np.cumsum(sizes)])
    path = work / f"middle-{hashlib.sha256(b''.join(map(store.key, windows))).hexdigest()[:16]}.npy"
    if not path.exists():
        partial = path.with_suffix(".part.npy")
        tokens = np.lib.format.open_memmap(partial, "w+", np.float16, (int(begin[-1]), encoder.WIDTH))
        with torch.inference_mode():
            for chunk in encoder.batches(sizes):
                ids, keep = encoder.padded([windows[i] for i in chunk])
                x, mask = encoder.embed(ids, named), None if bool(keep.all()) else keep
                for number in range(BELOW):
                    x = encoder.layer(x, mask, named, number)
                half = x.to(torch.float16).numpy()
                for row, i in enumerate(chunk):
                    tokens[begin[i] : begin[i + 1]] = half[row, : sizes[i]]
        tokens.flush()
        partial.rename(path)
    return np.load(path, mmap_mode="r"), begin


class Upper:
    """The upper layers over stored states of the lower ones."""

    def __init__(self, named, tokens, begin):
        upper = tuple(f"encoder.layer.{n}." for n in range(BELOW, encoder.LAYERS))
        self.frozen = {name: value for name, value in named.items() if name.startswith(upper)}
        self.tokens, self.begin = tokens, begin

    def pooled(self, windows, named):
        """Means and maxima of the last state of these windows."""
        size = self.begin[windows + 1] - self.begin[windows]
        x = torch.zeros(len(windows), int(size.max()), encoder.WIDTH)
        keep = torch.zeros(x.shape[:2], dtype=torch.bool)
        for row, (window, length) in enumerate(zip(windows, size)):
            x[row, :length] = torch.from_numpy(
                self.tokens[self.begin[window] : self.begin[window + 1]].astype(np.float32)
            )
            keep[row, :length] = True
        mask = None if bool(keep.all()) else keep
        for number in range(BELOW, encoder.LAYERS):
            x = encoder.layer(x, mask, named, number)
        share = (keep / keep.sum(1, keepdim=True)).unsqueeze(-1)
        return (x * share).sum(1), x.masked_fill(~keep.unsqueeze(-1), -1e4).amax(1)

    def inputs(self, x, named, which):
        """The heads' inputs with the last state's part of some windows made anew."""
        found = x.copy()
        with torch.inference_mode():
            for chunk in encoder.batches(np.diff(self.begin)[which]):
                mean, most = self.pooled(which[chunk], named)
                found[which[chunk]] = replaced(torch.from_numpy(x[which[chunk]]), mean, most).numpy()
        return found


def replaced(x, mean, most):
    """Inputs (means of some states, then maxima; the last state last in each) with another last state."""
    half = x.shape[1] // 2
    return torch.cat([x[:, : half - encoder.WIDTH], mean, x[:, half : -encoder.WIDTH], most], 1)


def batched(order, length):
    """Shuffled texts in batches of like length."""
    found = []
    for at in range(0, len(order), 16 * BATCH):
        chunk = sorted(order[at : at + 16 * BATCH], key=lambda i: length[i])
        found += [chunk[i : i + BATCH] for i in range(0, len(chunk), BATCH)]
    return found


def resumed(head, named):
    """Gives a head in training the weights of a finished one."""
    with torch.no_grad():
        weight, bias = (torch.from_numpy(named[f"jailbreak.hidden.{part}"]) for part in ("weight", "bias"))
        head.hidden.weight.copy_(weight * head.deviation)
        head.hidden.bias.copy_(bias + weight @ head.mean)
        head.output.weight.copy_(torch.from_numpy(named["jailbreak.output.weight"]))
        head.output.bias.copy_(torch.from_numpy(named["jailbreak.output.bias"]))


def tuned(upper, task, x, keep, seed, rate, epochs, anchor, ready):
    """Trains the upper layers and a head on the texts that `keep` marks; returns the rounded layers and the head's arrays.

    `ready`: whether the head begins as the frozen trunk's; `anchor`: what the embeddings' distance from the published ones costs.
    """
    torch.manual_seed(seed)
    named = {k: v.clone().requires_grad_(True) for k, v in upper.frozen.items()}
    head = heads.Head(torch.from_numpy(x[keep[task.text]]), 2, RECIPE).train()
    if ready:
        resumed(head, task.fit(x, keep, RECIPE))
    speed = RECIPE.rate * (0.3 if ready else 1)
    adam = torch.optim.AdamW(
        [
            {"params": list(named.values()), "lr": rate, "weight_decay": 0.01},
            {"params": [p for p in head.parameters() if p.ndim == 2], "lr": speed, "weight_decay": RECIPE.decay},
            {"params": [p for p in head.parameters() if p.ndim != 2], "lr": speed, "weight_decay": 0.0},
        ]
    )
    places = np.split(np.argsort(task.text, kind="stable"), np.cumsum(np.bincount(task.text))[:-1])
    length = np.zeros(len(task.rows), int)
    np.maximum.at(length, task.text, np.diff(upper.begin))
    texts, mixer = np.nonzero(keep)[0], np.random.default_rng(seed)
    total = epochs * -(-len(texts) // BATCH)
    plan = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda s: min(1, (s + 1) / (0.1 * total)) * 0.5 * (1 + np.cos(np.pi * min(s, total) / total))
    )
    soft = torch.from_numpy(task.y.astype(np.float32)) * (1 - RECIPE.smoothing) + RECIPE.smoothing / 2
    weight, half, step, shown, since = torch.from_numpy(task.weight), x.shape[1] // 2, 0, [], time.time()
    for _ in range(epochs):
        plans = batched(mixer.permutation(texts), length)
        for number in mixer.permutation(len(plans)):
            pick = plans[number]
            rows = np.concatenate([places[i] for i in pick])
            owner = torch.from_numpy(np.repeat(np.arange(len(pick)), [len(places[i]) for i in pick]))
            before = torch.from_numpy(x[rows])
            if rate:
                mean, most = upper.pooled(rows, named)
            logits = head(replaced(before, mean, most) if rate else before)
            worst = torch.full((len(pick),), -1e4).scatter_reduce(0, owner, logits[:, 1] - logits[:, 0], "amax")
            each = functional.binary_cross_entropy_with_logits(worst, soft[pick], reduction="none")
            loss = (each * weight[pick]).sum() / weight[pick].sum()
            if anchor:
                near = functional.cosine_similarity(mean, before[:, half - encoder.WIDTH : half])
                loss = loss + anchor * (1 - near).mean()
            adam.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(list(named.values()), 1.0)
            adam.step()
            plan.step()
            step, shown = step + 1, [*shown[-99:], float(loss.detach())]
            if step % 100 == 0:
                print(f"step {step} of {total}, loss {np.mean(shown):.4f}, {time.time() - since:.0f} s", flush=True)
    found = {k: v.detach().numpy() for k, v in named.items()}
    return encoder.tensors(encoder.unpack(encoder.pack(found))), head.eval().named("jailbreak")


def nearness(before, after, seed):
    """Mean cosine of the embeddings to the published ones, and the rank correlation of the texts' similarities."""
    half = before.shape[1] // 2
    unit = [v[:, half - encoder.WIDTH : half] for v in (before, after)]
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in unit]
    pick = np.random.default_rng(seed).permutation(len(before))[:2000]
    pairs = [(v[pick] @ v[pick].T)[np.triu_indices(len(pick), 1)] for v in unit]
    ranks = [measure.rankdata(p) for p in pairs]
    return float((unit[0] * unit[1]).sum(1).mean()), float(np.corrcoef(ranks)[0, 1])


class Trial:
    """The texts, the folds and the margins found so far."""

    def __init__(self, folder, work):
        self.work = work
        bench = train.Bench(folder, work)
        calm = bench.states("guard_benign")  # only to leave out what is near it, as `train.py` does
        rows, text, _, mean, most = bench.states(*PARTS)
        first, calm_first = (np.unique(t, return_index=True)[1] for t in (text, calm[1]))
        near = data.near_any(np.float32(mean[first][:, -1]), np.float32(calm[3][calm_first][:, -1]))
        self.task, self.x = guard.Guard(rows, text, mean, most, train.SEED, near), heads.inputs(mean, most, RECIPE)
        texts = lambda part: [row["text"] for row in bench.parts[part]]
        cut = lambda part: encoder.Texts(texts(part), bench.tokenizer, most=train.WINDOWS[part])
        windows = [window for part in PARTS for window in cut(part).windows]
        self.upper = Upper(bench.named, *middle(windows, bench.named, work))

    def left(self, number):
        """A round's attack sources, benign sources, and the texts that are left out."""
        attack, calm = (sum((guard.FOLDS[n][part] for n in ROUNDS[number]), ()) for part in (0, 1))
        beside = tuple(source.replace("/benign_", "/buried_") for source in calm)
        return attack, calm, np.isin(self.task.source, attack + calm + beside)

    def margins(self, label, number, seed):
        """The texts' margins in a round by a setting ("frozen", or one of `SETTINGS`); only those left out or held out are of use."""
        path = self.work / f"margins-{label.replace(' ', '_').replace(',', '')}-{number}-{seed}.npz"
        if not path.exists():
            task, since = self.task, time.process_time()
            task.seed = train.SEED + seed
            out = self.left(number)[2]
            keep = np.isin(task.side, (data.TRAIN, data.VALIDATION)) & task.sound & ~out
            if label == "frozen":
                found = task.margins(self.x, task.fit(self.x, keep, RECIPE))
            else:
                named, head = tuned(self.upper, task, self.x, keep, task.seed, **SETTINGS[label])
                held = np.nonzero(((task.side == data.TEST) | out)[task.text])[0]
                x = self.upper.inputs(self.x, named, held) if SETTINGS[label]["rate"] else self.x
                found = task.margins(x, head)
                print("cosine {:.4f}, rank correlation {:.4f}".format(*nearness(self.x[held], x[held], train.SEED)))
            np.savez(path, **{label: found})
            print(f"{label}, round {number}, seed {seed}: {time.process_time() - since:.0f} CPU s", flush=True)
        return np.load(path)[label]

    def figures(self, margins):
        """What a head per round is worth; `margins` by number of the round."""
        task, apart, unseen, held = self.task, np.full(len(self.task.rows), np.nan), {}, []
        for number, found in margins.items():
            attack, calm, out = self.left(number)
            apart[out] = found[out]
            test = task.side == data.TEST
            benign = (task.y == 0) & ((np.isin(task.source, calm) & ~np.char.startswith(task.source, "ours/")) | test)
            for source in attack:
                mine = task.source == source
                if mine.sum() >= 50:
                    both = np.concatenate([found[mine], found[benign]])
                    unseen[source] = measure.auroc(both, np.repeat([1, 0], [mine.sum(), benign.sum()]))
            known = test & task.sound & ~out
            held.append(measure.auroc(found[known], task.y[known]))
        scored = ~np.isnan(apart) & task.sound
        hard = np.isin(task.source, guard.HARD + guard.LONG) & scored
        cooled, shift = heads.scale(apart[scored], task.y[scored], np.full(scored.sum(), 1 / scored.sum()))
        score = 1 / (1 + np.exp(-np.clip(apart[scored] / cooled + shift, -40, 40)))
        recall = {
            share: {s: float((apart[task.source == s] >= guard.threshold(apart[hard], share)).mean()) for s in unseen}
            for share in (guard.FALSE_POSITIVES, 0.01)
        }
        calibration = measure.ece(task.y[scored], np.stack([1 - score, score], 1))
        return {"unseen": unseen, "recall": recall, "held": float(np.mean(held)), "ece": calibration}


def shown(label, found):
    """Prints figures, the mislabelled source apart."""
    mean = lambda part: np.mean([v for s, v in part.items() if s not in guard.MISLABELLED])
    at = ", ".join(f"{mean(part):.3f} at {share:.1%}" for share, part in found["recall"].items())
    print(
        f"{label}: unseen {mean(found['unseen']):.4f}, recall {at}, held-out {found['held']:.4f}, ECE {found['ece']:.3f}"
    )
    for source, value in found["unseen"].items():
        at = ", ".join(f"{part[source]:.3f}" for part in found["recall"].values())
        print(f"    {source:40s} {value:.3f}, recall {at}", flush=True)


def main():
    """Runs the settings and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=pathlib.Path, help="folder with the labelled texts")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("work"))
    parser.add_argument("--rounds", type=int, nargs="+", default=list(range(len(ROUNDS))))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--settings", nargs="+", default=["frozen", *SETTINGS])
    args = parser.parse_args()
    torch.set_num_threads(1)
    trial = Trial(args.data, args.work)
    for label in args.settings:
        for seed in range(args.seeds):
            found = {n: trial.margins(label, n, seed) for n in args.rounds}
            shown(f"{label}, seed {seed}", trial.figures(found))


if __name__ == "__main__":
    main()
