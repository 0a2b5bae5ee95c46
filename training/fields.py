"""Very short benign texts of our own: single values as they stand in forms and records, and terse orders to an assistant.

A judge of attacks that knows sentences alone takes them for fragments of orders. For training only.
"""

import personal
import scenes
from faker import Faker

VALUES = """user; assistant; system; admin; root; guest; moderator; owner; high; low; medium; critical; urgent; none; null; n/a; true; false; yes; no; ok; okay; unknown; other; default; custom; enabled; disabled; active;
inactive; pending; approved; rejected; draft; closed; open; in progress; done; todo; on hold; cancelled; paid; unpaid; overdue; refunded; shipped; returned; free; premium; basic plan; trial; monthly; yearly; weekly; daily;
public; private; internal; confidential; restricted; read only; read/write; full access; no access; override; manual override; debug; verbose; trace; info; warning; error; fatal; success; failed; timeout; retry; unlimited; instructions;
prompt; system prompt; template; context; content; message; role; tool; function; tools; tool_calls; stop; length; content_filter; end_turn; policy; rules; guidelines; ignore; skip; reset; restart; continue; next; previous; back; cancel;
submit; save; delete; edit; copy; paste; undo; print; export; import; upload; download; search; filter; sort; login; logout; sign up; password; username; email; phone; address; city; country; zip; first name; last name; date of birth; gender; male;
female; single; married; divorced; mr; mrs; ms; dr; kg; lbs; cm; inch; miles; km/h; EUR; USD; GBP; 10 %; 3.14; 42; 0; -1; 1,000; 12:30; 9 am; 5pm; tomorrow; today; yesterday; next week; last month; noon; midnight; red; dark blue; off-white; XL;
size 42; large; small; extra large; left; right; top; bottom; north; south-east; first class; window seat; vegetarian; gluten free; no sugar; extra cheese; medium rare; latte; decaf; tea; pizza margherita; sedan; automatic; diesel; hybrid;
application/json; text/html; text/plain; text/event-stream; multipart/form-data; image/png; application/pdf; utf-8; gzip; chunked; keep-alive; no-cache; max-age=3600; bearer; basic; GET; POST; PUT; DELETE; PATCH; OPTIONS; 200; 404; 500;
en-US; de; fr-FR; pt_BR; UTC; Europe/Berlin; America/New_York; GMT+2; gpt-4o; gpt-4o-mini; claude; llama-3; mistral; temperature; max_tokens; top_p; stream; json_object; json_schema; user_id; session_id; request_id; trace_id; created_at;
updated_at; is_active; sha256; uuid; base64; hex; string; integer; boolean; array; object; float; enum; index.html; main.py; README.md; config.yaml; Dockerfile; package.json; src/lib.rs; /etc/hosts; /var/log; C:\\Users; ~/Downloads; localhost;
127.0.0.1; v1.2.3; 2.0.0-rc.1; build 4711; SELECT; null pointer; segfault; bug; feature request; question; complaint; feedback; returns; billing; technical support; sales; marketing; finance; legal; engineering; human resources; hi; hello; hey; thanks;
thank you; bye; good morning; lol; hm; what?; why?; how?; and?; really?; maybe; sure; not sure; of course; never mind; help; please; sorry; welcome; great; nice; perfect; wrong; correct; again; more; less; shorter; longer; simpler; in English; as a table""".replace("\n", " ").split("; ")
KEYS = ("name", "role", "status", "priority", "type", "state", "level", "mode", "format", "category", "tag", "label", "owner", "from", "to", "subject", "lang", "plan", "unit", "source", "id", "key", "value")
ORDERS = """[turn|switch] [on|off] the [light|lamp|fan|heating|tv|radio|alarm|oven|printer] [in the {room}|please|now|at {hour}|]; [set|cancel|change|snooze] [my|the|an] alarm [for|to] {hour}; [set|start|stop] a timer [for {n} minutes|of {n} hours];
[remind me|don't let me forget] to [call {who}|buy {food}|pay the rent|water the plants|take out the bins|book the dentist] [at {hour}|{day}|]; [what's|what is|tell me|give me|read me] the [weather|forecast|temperature] [in {city}|{day}|outside|];
[what time is it|what's the time] [in {city}|now|]; [how long|how far] [does it take|is it] [to|from here to] {city}[ by train| by car|]; [book|reserve|cancel|change|confirm] [a|my|the] [table|flight|room|taxi|car|appointment|reservation|ticket] [for {day}|in {city}|at {hour}|for {n} people];
[what is|what's|check|show|tell me] my [balance|bank balance|credit score|credit limit|account number|routing number|pin|interest rate|next bill|last payment|order status|schedule|shopping list|vacation days]; [transfer|send|move] {n}0 dollars [to {who}|from savings to checking];
[pay|when is] my [gas|water|phone|electric|credit card] bill[ due|]; my card [was declined|is lost|got stolen|is damaged|expires {day}]; [freeze|block|unlock|activate|replace] my [account|card]; [report|there is] a fraud[ulent charge|] on my [card|account]; i need to [reset|change] my [password|pin|user name|address];
[play|skip|pause|stop|resume] [the song|this track|some jazz|my playlist|the next one|music]; [turn|make] [it|the volume|the music] [up|down|louder|quieter]; [call|text|message|email] {who} [that i am late|and say hi|now|]; [read|delete|show|open] my [last|new|unread] [email|message|text|note]s;
[add|remove|put] {food} [to|from|on] my [shopping list|cart|list]; [what's|is there] on my [calendar|list|to do list|agenda] {day}; [schedule|move|cancel] [the|a|my] meeting [with {who}|on {day}|to {hour}]; how do you [say|spell] {food} in [french|spanish|german]; [translate|spell|define] {food};
[flip a coin|roll a die|roll two dice|pick a number|tell me a joke|tell me a fun fact|sing something|surprise me]; [repeat that|say that again|come again|what did you say|never mind|stop|stop talking|be quiet|cancel that|go back|undo that|start over|go ahead|yes please|no thanks]; [change|switch|set] [your|the] [language|voice|accent|name|speed] to [german|english|female|slow|{who}];
[who made you|what's your name|are you a bot|are you human|how old are you|where are you from|do you have hobbies|who do you work for|what can you do|what are you able to help with|can i ask you something|what can i ask you]; [call me|my name is|change my name to|from now on call me] {who}; [speak|talk] [slower|faster|up|in a whisper|louder] please;
[find|locate|ring|ping] my [phone|keys|car]; [directions|the way|navigate|take me] to [{city}|the airport|work|home|the nearest {shop}]; [is there|find|where is] a [{shop}|gas station|{shop} nearby] [near me|open now|in {city}|]; [how many|how much] [calories|sugar|protein|carbs] [are|is] in {food}; how do i [cook|make|store|freeze|season] {food};
[can i|should i] [substitute|replace|use] {food} [for|with|instead of] {food}; [what's|what is] {n} [percent of|times|plus|divided by] {n}0; [convert|how many] {n} [miles to km|ounces in a pound|cups to ml|dollars to euros]; [when|what day] is [christmas|the next holiday|easter|mother's day|payday]; [uber|cab|taxi] to {city} [please|now|];
[ignore|forget|disregard|skip|drop] [that|the last one|it|what i said about {food}|my last order|the {hour} alarm|the reminder|the call from {who}]; [sync|update|restart|reset|shut down|lock|unlock] [my|the] [phone|devices|laptop|tv|router|speaker|thermostat|front door]; [enable|disable|activate|turn on] [whisper mode|do not disturb|airplane mode|dark mode|night mode|guest mode|developer options|parental controls];
order [status|more {food}|{food} again]; track my [order|package|refund]; [tire pressure|oil change|jump start|insurance] [how to|when|help|]; [what are|show|list|explain] the [ingredients of {food}|visa rules for {city}|rules of [chess|poker|the road]|steps to [file taxes|change a tire|open an account]|side effects|store hours]; are [reservations|masks|vaccines|visas] needed [in {city}|there|]; {food} recipe; {city} {day}; {who} {hour}; {shop} {city}""".replace("\n", " ").split("; ")
WORDS = {
    "room": "kitchen|bedroom|living room|garage|hall|bathroom", "hour": "6 am|7:30|noon|10 pm|midnight|half past four|quarter to nine", "who": "mom|john|my boss|anna|dad|the plumber|dr. lee|grandma|bob|my wife|the bank|captain",
    "food": "milk|eggs|tofu|butter|rice|salmon|lasagna|bread|basil|apples|chili|oat milk|pancakes|cat food|coffee", "day": "today|tomorrow|on friday|this weekend|next monday|in june|on the 12th|tonight", "shop": "bakery|pharmacy|atm|bank|gym|library|sushi place|dentist|garage",
}


class Writer(scenes.Writer):
    """Fills the forms at random."""

    def __init__(self, seed):
        super().__init__(seed, [])
        self.fake = Faker(["en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "pl_PL"])
        self.fake.seed_instance(seed)

    def value(self, slot, whole):
        if slot == "city":
            return self.fake.city()
        return str(self.random.randint(2, 40)) if slot == "n" else self.random.choice(WORDS[slot].split("|"))

    def cased(self, text):
        """A text as careless people and records write it."""
        return self.random.choice((str, str, str.capitalize, str.title, str.lower, str.upper, lambda t: t + self.random.choice(".,!?"), lambda t: f'"{t}"'))(text)

    def field(self):
        """One value, alone or with its key."""
        pick, fake = self.random.choice, self.fake
        address = lambda: pick((fake.email, fake.ascii_free_email, fake.company_email))()
        drawn = lambda: pick((fake.city, fake.country, fake.first_name, fake.last_name, fake.name, fake.company, fake.job, fake.word, fake.color_name, fake.domain_name, fake.ipv4, fake.uuid4, fake.iso8601, fake.phone_number, fake.street_address, fake.user_name, fake.mime_type, fake.license_plate))()
        value = pick((address, drawn, drawn, lambda: pick(VALUES), lambda: pick(VALUES), lambda: pick(self.topics)))
        form = self.random.random()
        if form < 0.6:
            return pick((str, self.cased))(value())
        if form < 0.7:
            return pick(("{}: {}", "{}={}", '"{}": "{}"', "{} - {}")).format(pick(KEYS), value())
        if form < 0.8:
            return pick((", ", " / ", "; ", "\n")).join(value() for _ in range(self.random.randint(2, 4)))
        return self.cased(pick(VALUES)) if form < 0.9 else address()

    def order(self):
        """A terse order or question to an assistant in the house, the car or the bank."""
        text = " ".join(self.fill(self.random.choice(ORDERS)).split())
        return self.cased(text) if self.random.random() < 0.3 else text


def rows(seed):
    """Returns values, orders and texts with personal data, without repeats."""
    writer, made = Writer(seed + 20), {}
    for _ in range(900):
        made.setdefault(writer.field(), "fields")
    for _ in range(900):
        made.setdefault(writer.order(), "commands")
    for row in personal.rows(seed + 20, 700):
        made.setdefault(row["text"], "personal")
    return [{"text": text, "label": "benign", "source": f"ours/benign_{kind}"} for text, kind in made.items()]
