"""Rewords questions by rule: frames that ask for the same, and changes after which the answer is another.

They stand beside the questions in `pairs/`, so that the paraphrase head sees every frame and every change with many words. Words
that may stand in for each other come from WordNet (its licence is BSD-like; only words that are changed are taken from it).
"""

import pathlib
import re
import subprocess

PACKAGE = "wordnet-base"

SAME = """remove/delete/erase; begin/start/commence; buy/purchase; big/large/huge; small/little/tiny; quick/fast/rapid; fix/repair; pick/choose/select;
picture/image/photo; movie/film; phone/telephone/mobile; car/automobile; doctor/physician; kid/child; kids/children; job/occupation; error/fault;
directory/folder; function/method; app/application; email/mail; website/web site/site; color/colour; gray/grey; center/centre; meter/metre;
kilometers/kilometres/km; kilograms/kilos/kg; pounds/lbs; hours/hrs; minutes/min; percent/percentage/%; biggest/largest; smallest/littlest; fastest/quickest;
tv/television; bike/bicycle; fridge/refrigerator; usa/united states; uk/united kingdom/britain; js/javascript; db/database; k8s/kubernetes;
holiday/vacation; flat/apartment; lift/elevator; autumn/fall; petrol/gas; happen/occur; cheap/inexpensive; sick/ill; scared/afraid; angry/mad; smart/clever/intelligent;
reply/answer/respond; shut/close; show/display; make/create; get/obtain; need/require; use/utilise/employ; help/assist; cancel/call off; change/modify/alter; allow/permit;
find/locate; improve/better/enhance; stop/prevent; clean/wash; cook/prepare; understand/grasp; teach/instruct; speak/talk; trip/journey; wage/salary/pay; house/home; dad/father; mum/mom/mother;
normal/usual/typical; wrong/incorrect; right/correct; hard/difficult; easy/simple; dangerous/unsafe; needed/necessary/required; whole/entire; maximum/max; minimum/min; average/mean;
world war ii/world war two/the second world war/ww2; world war i/world war one/the first world war/ww1; covid/covid-19/the coronavirus; ai/artificial intelligence; pc/computer; laptop/notebook;
password/passcode/pwd; log in/sign in; log out/sign out; sign up/register; settings/preferences; parcel/package; refund/money back; invoice/bill; tyre/tire; cookie/biscuit; soccer/football""".replace("\n", " ")

OPPOSITE = """enable/disable; activate/deactivate; on/off; install/uninstall; allow/forbid; minimum/maximum; lowest/highest; smallest/largest; start/stop; begin/end; buy/sell; add/remove; open/close;
increase/decrease; raise/lower; before/after; more/less; more/fewer; higher/lower; with/without; upload/download; import/export; encrypt/decrypt; encode/decode; compress/extract; lock/unlock; block/unblock;
follow/unfollow; subscribe/unsubscribe; connect/disconnect; mount/unmount; login/logout; show/hide; include/exclude; accept/reject; win/lose; gain/lose; borrow/lend; send/receive; push/pull; give/take; hot/cold;
warm/cool; old/new; oldest/newest; young/old; early/late; first/last; next/previous; up/down; above/below; over/under; inside/outside; left/right; north/south; east/west; good/bad; best/worst; better/worse; safe/dangerous;
legal/illegal; possible/impossible; public/private; internal/external; input/output; read/write; true/false; positive/negative; advantages/disadvantages; pros/cons; ascending/descending; horizontal/vertical; valid/invalid;
correct/incorrect; male/female; mother/father; husband/wife; brother/sister; son/daughter; boys/girls; men/women; teacher/student; employer/employee; client/server; cheap/expensive; cheapest/most expensive; easy/hard;
rich/poor; strong/weak; fast/slow; fastest/slowest; long/short; longest/shortest; tall/short; tallest/shortest; high/low; wide/narrow; full/empty; wet/dry; love/hate; always/never; war/peace; arrive/leave; arrival/departure; enter/exit;
create/destroy; attach/detach; freeze/thaw; upgrade/downgrade; merge/split; hire/fire; today/tomorrow; today/yesterday; morning/evening; winter/summer; spring/autumn; multiply/divide; plus/minus; black/white; day/night;
dog/cat; dogs/cats; inside/outside; front/back; top/bottom; thick/thin; heavy/light; heaviest/lightest; loud/quiet; clean/dirty; save/spend; save/delete; teach/learn; ask/answer; question/answer; cause/effect; causes/symptoms; causes/effects;
symptoms/treatment; lend/borrow; lose weight/gain weight; inhale/exhale; push/pull; sunrise/sunset; breakfast/dinner; lunch/dinner; parents/children; king/queen; profit/loss; import/export; credit/debit; hardware/software;
frontend/backend; client-side/server-side; synchronous/asynchronous; encode/decode; singular/plural; active/passive; acid/base; virus/bacteria; asia/africa; europe/asia; english/french; spanish/italian; german/dutch; english/german;
windows/linux; mac/windows; android/iphone; ios/android; python/java; python/javascript; go/rust; mysql/postgres; chrome/firefox; excel/word; word/powerpoint; aws/azure; gmail/outlook; germany/france; spain/italy; canada/australia; india/china;
japan/korea; london/paris; berlin/madrid; rome/athens; tokyo/seoul; chicago/boston; texas/florida; california/nevada; mars/venus; sun/moon; earth/mars; gold/silver; iron/copper; oxygen/nitrogen; red/blue; green/yellow; apple/orange; rice/pasta; beef/chicken;
coffee/tea; wine/beer; milk/water; bread/cake; car/bike; train/plane; bus/train; guitar/piano; violin/flute; football/tennis; chess/poker; monday/friday; saturday/sunday; january/june; march/october; kilometers/miles; km/miles; kg/pounds; celsius/fahrenheit; meters/feet;
cm/inches; grams/ounces; liters/gallons; hours/minutes; minutes/seconds; days/weeks; weeks/months; months/years; dollars/euros; pounds/dollars; height/width; length/depth; area/volume; weight/height; price/size; name/address; email/phone number; password/username""".replace("\n", " ")

FRAMES = (
    ("how do i {x}", "how can i {x}", "how to {x}", "what is the way to {x}", "what's a good way to {x}", "what are the steps to {x}", "steps to {x}", "show me how to {x}", "explain how to {x}", "i want to {x}, how?",
     "tell me how i can {x}", "how does one {x}", "what do i have to do to {x}", "how should i go about it if i want to {x}", "can you help me {x}", "i need to {x}. how does that work?", "how would i {x}", "in what way can i {x}", "guide me: how to {x}", "{x}, how?", "{x} - how do i do that?", "please help me to {x}"),
    ("what is {x}", "what's {x}", "explain {x}", "define {x}", "can you explain what {x} is", "tell me what {x} is", "{x}: what is it?", "what do people mean by {x}", "what does {x} mean", "give me a definition of {x}", "i'd like to know what {x} is", "please explain {x} to me", "{x}, what's that?"),
    ("what is the difference between {x} and {y}", "what's the difference between {y} and {x}", "how do {x} and {y} differ", "{x} vs {y}", "{x} versus {y}: differences", "compare {x} and {y}", "in what way is {x} different from {y}", "{x} and {y}: what sets them apart?", "difference between {x} and {y}", "explain how {x} differs from {y}", "how is {y} different from {x}", "what distinguishes {x} from {y}"),
    ("what is the {a} of {x}", "what's the {a} of {x}", "{x}'s {a}", "{a} of {x}", "tell me the {a} of {x}", "what {a} does {x} have", "{x} {a}", "which {a} has {x}", "do you know the {a} of {x}?", "i want to know the {a} of {x}", "{x}: {a}?", "give me the {a} of {x}"),
    ("what are the {a} of {x}", "which {a} does {x} have", "{a} of {x}", "list the {a} of {x}", "{x}: {a}", "tell me the {a} of {x}", "what {a} does {x} have", "{x} {a}", "can you name the {a} of {x}?"),
    ("who wrote {x}", "who is the author of {x}", "by whom was {x} written", "{x} author", "which author wrote {x}", "who's the writer of {x}", "{x} was written by whom?", "name the author of {x}"),
    ("who invented {x}", "who was the inventor of {x}", "by whom was {x} invented", "inventor of {x}", "{x}: who came up with it?", "which person invented {x}", "{x} inventor"),
    ("who discovered {x}", "by whom was {x} discovered", "who was the discoverer of {x}", "discoverer of {x}", "which person discovered {x}"),
    ("who painted {x}", "which painter made {x}", "{x} painter", "by whom was {x} painted", "which artist painted {x}", "name the artist who painted {x}"),
    ("who founded {x}", "who was the founder of {x}", "{x} founder", "by whom was {x} founded", "which person founded {x}"),
    ("how tall is {x}", "what is the height of {x}", "{x} height", "what height does {x} have", "height of {x}", "how high is {x}"),
    ("how long is {x}", "what is the length of {x}", "length of {x}", "{x} length", "what length does {x} have"),
    ("how old is {x}", "what is the age of {x}", "{x} age", "what age is {x}", "age of {x}"),
    ("how heavy is {x}", "what is the weight of {x}", "how much does {x} weigh", "{x} weight", "weight of {x}", "what does {x} weigh"),
    ("how deep is {x}", "what is the depth of {x}", "{x} depth", "depth of {x}"),
    ("how big is {x}", "what is the size of {x}", "how large is {x}", "{x} size", "what size does {x} have"),
    ("how much does {x} cost", "what is the price of {x}", "what does {x} cost", "{x} price", "price of {x}", "how much is {x}", "cost of {x}"),
    ("how far is {x} from {y}", "what is the distance between {x} and {y}", "distance from {x} to {y}", "how far apart are {x} and {y}", "how far is it from {x} to {y}", "{x} to {y} distance"),
    ("where is {x}", "what is the location of {x}", "{x} location", "where can {x} be found", "where do i find {x}", "tell me where {x} is"),
    ("why is {x}", "what is the reason why {x} is so", "how come {x} is", "explain why {x} is"),
    ("why do {x}", "what is the reason that {x}", "how come {x}", "explain why {x}", "what makes it so that {x}", "for what reason do {x}", "tell me why {x}"),
    ("what causes {x}", "why does {x} happen", "cause of {x}", "what is the cause of {x}", "what leads to {x}", "where does {x} come from", "{x}: what's the cause?", "what are the causes of {x}"),
    ("how does {x} work", "how do {x} work", "explain how {x} works", "what is the working principle of {x}", "tell me how {x} works", "{x}: how does it work?", "what is the mechanism behind {x}", "can you explain how {x} works?"),
    ("how many {x} are in {y}", "how many {x} are there in {y}", "what number of {x} does {y} have", "number of {x} in {y}", "{y}: how many {x}?", "how many {x} does {y} have"),
    ("how long does it take to {x}", "what time does it take to {x}", "how much time do i need to {x}", "time needed to {x}", "in how much time can one {x}"),
    ("how do you say {x} in {y}", "what is {x} in {y}", "{y} word for {x}", "translate {x} to {y}", "{x} in {y}", "how is {x} said in {y}"),
    ("should i {x}", "is it advisable to {x}", "do you recommend that i {x}", "is it a good idea to {x}", "would you advise me to {x}", "is it recommended to {x}"),
    ("can i {x}", "is it possible to {x}", "am i able to {x}", "would it be possible to {x}", "is there a way to {x}"),
    ("is it safe to {x}", "can one safely {x}", "can i {x} safely", "is there any danger if i {x}", "is it dangerous to {x} or is it safe"),
    ("write a {x}", "compose a {x}", "please write me a {x}", "i need a {x}, write one", "can you write a {x} for me?", "draft a {x}", "create a {x}", "make me a {x}", "give me a {x}"),
    ("summarize {x}", "summarise {x}", "give me a summary of {x}", "a short summary of {x} please", "sum up {x}", "{x} in brief", "what are the main points of {x}"),
    ("translate {x} into {y}", "{x}, in {y} please", "what is {x} in {y}", "give me {x} in {y}", "how would you put {x} in {y}", "{y} translation of {x}"),
    ("convert {x} to {y}", "{x} in {y}", "how much is {x} in {y}", "what is {x} in {y}", "express {x} in {y}", "{x} to {y}", "turn {x} into {y}"),
    ("when did {x} die", "what year did {x} die", "{x} death date", "when was the death of {x}"),
    ("when was {x} born", "what is the birth date of {x}", "{x} date of birth", "birthday of {x}", "in which year was {x} born"),
    ("what should i {x}", "what would you advise me to {x}", "what do you suggest i {x}", "what is it best to {x}"),
    ("give me {x}", "i need {x}", "show me {x}", "i'd like {x}", "can i have {x}?", "{x} please", "please give me {x}", "provide {x}"),
)  # fmt: skip

WRAPS = ("{x} please", "please, {x}", "can you tell me {x}", "hi, {x}", "hello! {x}", "{x} thanks", "quick question: {x}", "i was wondering, {x}", "tell me, {x}", "i have a question: {x}", "could you tell me: {x}", "{x} i'd like to know")
LEAD = re.compile(r"(?!(what is|how is|express|turn|translate|give me|show me|i need|explain|tell me|can you|i want)\b)[a-z' ]{5,}{|what is {x}$|what is the difference|what is the {a}|explain {x}|explain how")
ASKS = re.compile(r"(who|what|when|where|why|how|which|is|the difference|does|do)\b", re.I)
LEADS = re.compile(r"^(?:please,? |can you tell me |could you tell me |tell me |hi,? |hello,? |hey,? )+", re.I)
NUMBERS = "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty hundred thousand million".split()
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
TENSES = {"is": ("was", "will be"), "are": ("were", "will be"), "was": ("is", "will be"), "were": ("are",), "do": ("did", "will"), "does": ("did", "will"), "did": ("does", "will"), "will": ("did", "would"), "can": ("could",), "has": ("had", "will have"), "have": ("had",)}
WHICH = ("who", "when", "where", "why", "how", "what")
MOODS = {"can": ("should", "must"), "should": ("can", "must"), "must": ("can", "may"), "may": ("must", "should"), "could": ("must",)}
PERSONS = {"my": ("your", "his", "her", "their", "someone's"), "i": ("you", "she", "my neighbour", "they"), "you": ("i", "he"), "your": ("my", "his"), "our": ("their",), "me": ("him", "them")}
SAYS_NOTHING = set("a an the is are am be was were do does did has have had can could would will shall should i me my you your we it its this that these those there of in on at for to from into by with about as and or what which how why who when where please tell explain show give".split())
SPLIT = re.compile(r"[\w'’+#.-]*[\w+#]|\S")


def terms(text):
    """The words that say something, without a plain ending."""
    words = [match[0].lower() for match in SPLIT.finditer(text) if match[0][0].isalnum()]
    return [word.removesuffix("'s").rstrip("s") for word in words if word not in SAYS_NOTHING]


def groups(text):
    """The words of each group."""
    return [[word.strip() for word in group.split("/") if word.strip()] for group in text.split(";") if group.strip()]


def changes(text):
    """For each word those that stand opposite it."""
    found = {}
    for one, other in groups(text):
        found.setdefault(one, []).append(other)
        found.setdefault(other, []).append(one)
    return found


def fetch(folder):
    """Unpacks Debian's package of WordNet's files once and returns their folder."""
    folder = pathlib.Path(folder)
    files = folder / "usr/share/wordnet"
    if not (files / "data.noun").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", PACKAGE], cwd=folder, check=True)
        subprocess.run(["dpkg-deb", "-x", str(next(folder.glob(f"{PACKAGE}*.deb"))), str(folder)], check=True)
    return files


class WordNet:
    """Which words are siblings or opposites of a word in the sense that it has most often."""

    def __init__(self, folder, known):
        """`known`: words that are common enough to stand in for others."""
        self.words, self.links, self.first, self.all = {}, {}, {}, {}
        for part in ("noun", "verb", "adj", "adv"):
            for line in (folder / f"data.{part}").read_text().splitlines():
                if line.startswith(" "):
                    continue
                fields = line.split("|")[0].split()
                count = int(fields[3], 16)
                key = part, fields[0]
                self.words[key] = [fields[4 + 2 * at].split("(")[0].lower() for at in range(count)]
                pointers, at = [], 5 + 2 * count
                for number in range(int(fields[4 + 2 * count])):
                    symbol, offset, kind, ends = fields[at + 4 * number : at + 4 * number + 4]
                    pointers.append((symbol, ({"n": "noun", "v": "verb", "r": "adv"}.get(kind, "adj"), offset), ends))
                self.links[key] = pointers
            for line in (folder / f"index.{part}").read_text().splitlines():
                if line.startswith(" "):
                    continue
                fields = line.split()
                senses = [(part, offset) for offset in fields[-int(fields[2]) :]]
                self.all.setdefault(fields[0], set()).update(senses)
                tagged = int(fields[-int(fields[2]) - 1])
                if fields[0] not in self.first or tagged > self.first[fields[0]][1]:
                    self.first[fields[0]] = senses[0], tagged
        self.known = known

    def is_fit(self, word, other):
        """Whether a word may stand in for another that it says nothing of."""
        return other != word and other in self.known and other.isalpha() and len(other) > 2 and word[:4] != other[:4] and not self.all.get(word, set()) & self.all.get(other, set())

    def others(self, word):
        """Words of which one says something else than this word, in the same place."""
        if word not in self.first:
            return []
        sense, found = self.first[word][0], []
        at = format(1 + self.words[sense].index(word), "02x") if word in self.words[sense] else "00"
        for symbol, target, ends in self.links[sense]:
            if symbol == "!" and ends[:2] == at:
                found += [self.words[target][int(ends[2:], 16) - 1]] * 6
            elif symbol in ("@", "@i"):
                for down, sibling, _ in self.links[target]:
                    if down in ("~", "~i") and sibling != sense:
                        found += self.words[sibling][:1]
            elif symbol == "&":
                found += [self.words[end][int(ends[2:], 16) - 1] for mark, end, ends in self.links[target] if mark == "!"] * 3
        return [other for other in found if self.is_fit(word, other)]


class Rewording:
    """Makes questions of questions; the same `rng` makes the same ones."""

    def __init__(self, wordnet, rng):
        self.wordnet, self.rng = wordnet, rng
        self.same = {word: [other for other in group if other != word] for group in groups(SAME) for word in group}
        self.opposite = changes(OPPOSITE)
        # What begins with a slot fits anything.
        self.frames = [[(pattern(template), template) for template in group] for group in FRAMES]

    def pick(self, found):
        """One of a list."""
        return found[int(self.rng.integers(len(found)))]

    def reworded(self, text):
        """A text that asks for the same, or none: another frame, words that say the same, or a wrap."""
        plain = LEADS.sub("", text).rstrip("?!. ")
        fits = [
            (group, match.groupdict())
            for group in self.frames
            for form, template in group
            if LEAD.match(template) and (match := form.fullmatch(plain)) and not any(ASKS.match(slot) for slot in match.groupdict().values())
        ]
        new = plain
        if fits:
            group, slots = self.pick(fits)
            templates = [template for _, template in group if set(re.findall(r"{(\w)}", template)) == set(slots)]
            if templates:
                new = self.pick(templates).format(**slots)
        if self.rng.random() < 0.5:
            new = self.substituted(new, self.same) or new
        if new == plain or self.rng.random() < 0.2:
            new = self.pick(WRAPS).format(x=new)
        return self.cased(new, text)

    def cased(self, new, text):
        """As the text begins, or all small, with or without the mark at its end."""
        new = new[0].upper() + new[1:] if text[0].isupper() and self.rng.random() < 0.7 else new
        asks = re.match(r"(?i)(who|what|when|where|why|how|which|is|are|can|do|does|should|in|by|for)\b", new)
        return new + "?" if asks and self.rng.random() < 0.6 and new[-1] not in "?!." else new

    def substituted(self, text, table):
        """The text with one word changed by a table, or none."""
        found = [word for word in table if re.search(rf"(?i)(?<![\w-]){re.escape(word)}(?![\w-])", text)]
        if not found:
            return None
        word = self.pick(found)
        new = self.pick(table[word])
        return re.sub(rf"(?i)(?<![\w-]){re.escape(word)}(?![\w-])", lambda match: new.capitalize() if match[0][0].isupper() else new, text, count=1)

    def trap(self, text):
        """A text that needs another answer, and what was changed; or none."""
        ways = [self.number, self.order, self.negation, self.tense, self.person, self.asked, self.mood]
        ways += [lambda text: self.changed(text, "side", self.opposite)] * 3 + [self.sibling] * 4 + [self.condition, self.dropped]
        for _ in range(8):
            new = self.pick(ways)(text)
            if new and new[1].lower() != text.lower():
                return new
        return None

    def changed(self, text, kind, table):
        new = self.substituted(text, table)
        return new and (kind, new)

    def words(self, text):
        return [(match.start(), match.end(), match[0]) for match in SPLIT.finditer(text)]

    def put(self, text, word, new):
        """The text with the word at a place changed."""
        start, end, old = word
        new = new.capitalize() if old[0].isupper() and (start == 0 or old[1:].islower()) else new
        return text[:start] + new + text[end:]

    def sibling(self, text):
        fits = [(word, others) for word in self.words(text) if len(word[2]) > 2 and (others := self.wordnet.others(word[2].lower()))]
        fits = [fit for fit in fits if fit[0][2].lower() not in TENSES and fit[0][2].lower() not in WHICH]
        if not fits:
            return None
        word, others = self.pick(fits)
        return "sibling", self.put(text, word, self.pick(others))

    def number(self, text):
        fits = [word for word in self.words(text) if word[2].isdigit() or word[2].lower() in NUMBERS or word[2].lower() in ORDINALS]
        if not fits:
            return None
        word = self.pick(fits)
        if word[2].isdigit():
            value = int(word[2])
            new = str(self.pick([value + 1, value * 2 + 1, max(0, value - 1), value + 10, value * 10 + 2]))
        else:
            new = self.pick(ORDINALS if word[2].lower() in ORDINALS else NUMBERS)
        return "number", self.put(text, word, new)

    def order(self, text):
        ends = r"([\w'-]+(?: [\w'-]+)?)"
        for between in (r" to ", r" than ", r" into ", r" before ", r" after ", r" over ", r" eats? ", r" by ", r" from ", r" in ", r" of "):
            match = re.search(rf"([\w'-]+){between}(?:the |a |an |my )?{ends}[?.!]?$", text)
            if match and match[1].lower() not in TENSES and match[1].lower() not in ("how", "want", "need", "have", "way", "ways"):
                return "order", text[: match.start(1)] + match[2] + text[match.end(1) : match.start(2)] + match[1] + text[match.end(2) :]
        return None

    def negation(self, text):
        if match := re.search(r"(?i)\b(is|are|do|does|did|was|can|should|would|could)(?: not|n't)\b ?", text):
            return "negation", text[: match.start()] + match[1] + " " + text[match.end() :]
        if match := re.search(r"(?i)\bhow (?:do|can|should) i (?=\w)", text):
            return "negation", text[: match.end()] + self.pick(["not ", "avoid having to ", "never "]) + text[match.end() :]
        words = self.words(text)
        verbs = [word for word in words[2:] if self.wordnet.first.get(word[2].lower(), (("",), 0))[0][0] == "verb"]
        if not verbs or not any(word[2].lower() in TENSES or word[2].lower() in MOODS for word in words[:3]):
            return None
        word = self.pick(verbs)
        return "negation", text[: word[0]] + self.pick(["not ", "not ", "never "]) + text[word[0] :]

    def by_word(self, text, kind, table, most):
        fits = [word for word in self.words(text)[:most] if word[2].lower() in table]
        if not fits:
            return None
        word = self.pick(fits)
        return kind, self.put(text, word, self.pick(table[word[2].lower()]))

    def tense(self, text):
        return self.by_word(text, "tense", TENSES, 4)

    def mood(self, text):
        return self.by_word(text, "modality", MOODS, 3)

    def person(self, text):
        return self.by_word(text, "person", PERSONS, 99)

    def asked(self, text):
        match = re.match(r"(?i)(who|when|where|why) (?=is|are|was|were|did|do|does|can|should)", text)
        if not match:
            return None
        new = self.pick([word for word in ("when", "where", "why", "how") if word != match[1].lower()])
        return "asked", (new.capitalize() if match[1][0].isupper() else new) + text[match.end(1) :]

    def condition(self, text):
        tail = self.pick(["without a computer", "at night", "for children", "in winter", "on a budget", "without internet", "in ancient Rome", "while pregnant", "for a beginner", "in Brazil", "on an old phone", "in space", "by law", "with one hand", "without tools", "for two people", "in the past", "under pressure", "for cats", "on Sundays", "in under a minute", "without the admin password"])
        mark = re.search(r"[?.!]*$", text)
        return "condition", text[: mark.start()] + " " + tail + mark[0]

    def dropped(self, text):
        match = re.search(r"(?i) (?:without|if|when|while|after|before|for|in|with|on) (?:\S+ ){0,4}\S*\w(?=[?.!]*$)", text)
        return match and ("condition", text[: match.start()] + text[match.end() :])


def pattern(template):
    """What matches a template; slots are up to a dozen words."""
    escaped = re.escape(template)
    for slot in set(re.findall(r"{(\w)}", template)):
        words = r"(?:\S+ ){0,1}\S+" if slot == "a" else r"\S+(?: \S+){0,11}?"
        escaped = escaped.replace(r"\{" + slot + r"\}", f"(?P<{slot}>{words})", 1)
    return re.compile(escaped, re.I)
