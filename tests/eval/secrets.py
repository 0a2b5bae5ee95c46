"""Invented secrets in logs, tickets, JSON and code, and what only looks like one, as labelled texts for `signalbox eval`:

    python3 tests/eval/secrets.py | signalbox eval - --signal secrets

Forms are those that issuers document; nothing here was ever issued. They are made when they are asked for, so that nobody finds a
key in this repository. The list was written from the issuers' documentation, not from what the gateway recognises.
"""

import base64
import json
import random
import string

SEED, TEXTS, CALM = 20261201, 600, 500
ALNUM, HEX, LOWER = string.ascii_letters + string.digits, "0123456789abcdef", string.ascii_lowercase + string.digits
UPPER, BASE32, URL, BASE64 = string.ascii_uppercase + string.digits, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", ALNUM + "_-", ALNUM + "+/"

# What stands before, and as many signs of an alphabet.
CLOUD_KEYS = (
    (("AKIA", BASE32, 16),), (("ASIA", BASE32, 16),), (("AIza", URL, 35),), (("GOCSPX-", URL, 28),), (("ya29.a0", URL, 160),),
    (("", ALNUM, 3), ("8Q~", ALNUM + "_~.-", 34)), (("LTAI5t", ALNUM, 18),), (("dop_v1_", HEX, 64),), (("AKID", ALNUM, 32),),
)  # fmt: skip
TOKENS = (
    (("sk-", ALNUM, 20), ("T3BlbkFJ", ALNUM, 20)), (("sk-proj-", URL, 74), ("T3BlbkFJ", URL, 74)), (("sk-ant-api03-", URL, 93), ("AA", "", 0)),
    (("sk-or-v1-", HEX, 64),), (("hf_", string.ascii_letters, 34),), (("gsk_", ALNUM, 52),), (("xai-", ALNUM, 80),), (("r8_", ALNUM, 37),),
    (("pplx-", ALNUM, 48),), (("nvapi-", URL, 64),), (("pcsk_", ALNUM, 6), ("_", ALNUM, 63)), (("tvly-dev-", ALNUM, 32),),
    (("lsv2_pt_", HEX, 32), ("_", HEX, 10)), (("ghp_", ALNUM, 36),), (("gho_", ALNUM, 36),), (("ghs_", ALNUM, 36),),
    (("github_pat_", ALNUM, 22), ("_", ALNUM, 59)), (("glpat-", URL, 20),), (("ATATT3xFfGF0", URL, 180),), (("ATBB", ALNUM, 32),),
    (("npm_", ALNUM, 36),), (("pypi-AgEIcHlwaS5vcmc", URL, 130),), (("dckr_pat_", URL, 27),), (("rubygems_", HEX, 48),),
    (("xoxb-", "0123456789", 12), ("-", "0123456789", 12), ("-", ALNUM, 24)), (("xoxp-", "0123456789", 12), ("-", "0123456789", 12), ("-", "0123456789", 12), ("-", HEX, 32)),
    (("xapp-1-A", UPPER, 10), ("-", "0123456789", 13), ("-", HEX, 64)), (("https://hooks.slack.com/services/T", UPPER, 8), ("/B", UPPER, 10), ("/", ALNUM, 24)),
    (("SG.", URL, 22), (".", URL, 43)), (("sk_live_", ALNUM, 24),), (("rk_live_", ALNUM, 24),), (("whsec_", ALNUM, 32),), (("sq0atp-", URL, 22),),
    (("shpat_", HEX, 32),), (("key-", LOWER, 32),), (("SK", HEX, 32),), (("hvs.", URL, 90),), (("", ALNUM, 14), (".atlasv1.", URL, 67)),
    (("dapi", HEX, 32),), (("glsa_", ALNUM, 32), ("_", HEX, 8)), (("dp.pt.", ALNUM, 43),), (("lin_api_", ALNUM, 40),), (("ntn_", ALNUM, 46),),
    (("pscale_tkn_", URL, 43),), (("PMAK-", HEX, 24), ("-", HEX, 34)), (("sbp_", HEX, 40),), (("figd_", URL, 40),), (("pat", ALNUM, 14), (".", HEX, 64)),
    (("NRAK-", UPPER, 27),), (("CCIPAT_", ALNUM, 22), ("_", HEX, 40)), (("", "123456789", 10), (":AA", URL, 33)), (("sntrys_eyJ", ALNUM, 120), ("_", ALNUM, 43)),
    (("AGE-SECRET-KEY-1", "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58),),
)  # fmt: skip
NAMES = ("billing", "shop", "orders", "media", "auth", "reports", "search", "crm", "backup", "mail")
WORDS = ("river", "copper", "maple", "falcon", "amber", "winter", "tiger", "violet", "granite", "harbor", "saturn", "pepper")


class Maker:
    """Draws secrets, and texts around them."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, among):
        return self.random.choice(among)

    def signs(self, alphabet, count):
        return "".join(self.random.choices(alphabet, k=count)) if count else ""

    def formed(self, parts):
        return "".join(prefix + self.signs(alphabet, count) for prefix, alphabet, count in parts)

    def password(self):
        """A password as people and generators make them."""
        word = lambda: self.pick(WORDS)
        return self.pick((
            lambda: f"{word().title()}{self.random.randint(10, 2030)}{self.pick('!#$%&*')}", lambda: self.signs(ALNUM + "!#%*+-=", self.random.randint(12, 24)),
            lambda: f"{word()}-{word()}-{word()}-{self.random.randint(2, 99)}", lambda: self.signs(LOWER, 16),
            lambda: f"{word()[:2].upper()}{self.signs(ALNUM, 8)}{self.pick('!?@')}", lambda: f"{word().replace('e', '3').replace('a', '4')}{self.random.randint(100, 9999)}",
        ))()  # fmt: skip

    def claims(self):
        """A JSON Web Token, signed with chance."""
        coded = lambda value: base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")
        body = {"sub": str(self.random.randint(10**5, 10**9)), "name": self.pick(NAMES), "exp": self.random.randint(17 * 10**8, 19 * 10**8)}
        return f"{coded({'alg': self.pick(('HS256', 'RS256')), 'typ': 'JWT'})}.{coded(body)}.{self.signs(URL, self.pick((43, 86, 342)))}"

    def private_key(self):
        """A key's armour with chance inside."""
        kind = self.pick(("RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "DSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK"))
        lines = [self.signs(BASE64, 64) for _ in range(self.random.randint(2, 24))] + [self.signs(BASE64, 30) + "=="]
        head = "\n" if kind.startswith("PGP") else ""
        return "\n".join((f"-----BEGIN {kind}-----{head}", *lines, f"-----END {kind}-----"))

    def connection(self):
        """An address or a driver's string with a password in it."""
        name, user, host = self.pick(NAMES), self.pick(("app", "admin", "svc_etl", "reader", "root")), f"{self.pick(('db', 'mq', 'cache', 'sql'))}-{self.random.randint(1, 9)}.{self.pick(('internal', 'example.net', 'corp.example'))}"
        word = self.signs(ALNUM, self.random.randint(8, 24))
        return self.pick((
            f"postgres://{user}:{word}@{host}:5432/{name}", f"postgresql+asyncpg://{user}:{word}@{host}/{name}?sslmode=require", f"mysql://{user}:{word}@{host}:3306/{name}",
            f"mongodb+srv://{user}:{word}@{host}/{name}?retryWrites=true", f"redis://:{word}@{host}:6379/0", f"rediss://default:{word}@{host}:6380", f"amqps://{user}:{word}@{host}:5671/{name}",
            f"Server={host};Database={name};User Id={user};Password={word};", f"Data Source={host};Initial Catalog={name};User ID={user};Password={word};Encrypt=True",
            f"DefaultEndpointsProtocol=https;AccountName={name}store;AccountKey={self.signs(BASE64, 86)}==;EndpointSuffix=core.windows.net",
            f"Endpoint=sb://{name}.servicebus.windows.net/;SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey={self.signs(BASE64, 43)}=",
            f"https://{user}:{word}@git.{name}.example.org/team/{name}.git", f"ftp://{user}:{word}@{host}/in", f"smtp://{user}%40example.org:{word}@{host}:587",
            f"jdbc:postgresql://{host}:5432/{name}?user={user}&password={word}",
        ))  # fmt: skip

    def secret(self):
        """(kind, secret) where the secret is known by its own form."""
        kind = self.pick(("CLOUD_KEY", "ACCESS_TOKEN", "ACCESS_TOKEN", "ACCESS_TOKEN", "PRIVATE_KEY", "CONNECTION_STRING"))
        found = {
            "CLOUD_KEY": lambda: self.formed(self.pick(CLOUD_KEYS)),
            "ACCESS_TOKEN": lambda: self.claims() if self.random.random() < 0.1 else self.formed(self.pick(TOKENS)),
            "PRIVATE_KEY": self.private_key,
            "CONNECTION_STRING": self.connection,
        }[kind]()
        return kind, found

    def time(self):
        return f"2026-{self.random.randint(1, 12):02}-{self.random.randint(1, 28):02}T{self.random.randint(0, 23):02}:{self.random.randint(0, 59):02}:{self.random.randint(0, 59):02}Z"

    def around(self, secret):
        """A text in which a mark stands for the secret."""
        name = self.pick(NAMES)
        if "\n" in secret:
            return self.pick((
                f"Hi team,\n\nthe deploy of {name} fails with this key, can you check it?\n\n\0\n\nThanks, Mara", f"cat > ~/.ssh/{name} <<'END'\n\0\nEND\nchmod 600 ~/.ssh/{name}",
                f"KEY = \"\"\"\0\"\"\"\n\nclient = connect(\"{name}\", key=KEY)", f"apiVersion: v1\nkind: Secret\nstringData:\n  id: {name}\n  key: |\n\0\n",
            ))  # fmt: skip
        return self.pick((
            f"{self.time()} INFO {name}: outgoing call with credential \0 took 41 ms", f"{self.time()} ERROR [{name}-worker-3] 401 Unauthorized for \0", f"Ticket 48211: customer of {name} writes: \"I pasted \0 into the settings page and nothing happens.\"",
            f"Hello support,\nsince Monday we can't reach {name}. We use \0 and did not change anything. Please help.\nBest, Jonas", f"import {name}\n\nclient = {name}.Client(\"\0\")\nprint(client.status())",
            f"export {name.upper()}_AUTH=\0\n./run --verbose", f"services:\n  {name}:\n    image: {name}:2.4\n    environment:\n      - {name.upper()}_URL=\0\n", f'{{"service": "{name}", "retries": 3, "credential": "\0", "enabled": true}}',
            f"curl -s https://api.{name}.example.org/v2/items -H 'X-Auth: \0'", f"fix: rotate \0 before the release of {name}", f"const {name} = new Client({{ auth: '\0', timeout: 500 }});", f"Why does \0 not work for {name}? I get 403.",
            f"[{name}]\nregion = eu-west-1\nid = \0\n", f"User: here is my key: \0\nAssistant: Thank you. Which plan does {name} have?",
        ))  # fmt: skip

    def assigned(self):
        """(kind, secret, text) where a name says that the value is a secret."""
        name, word, key = self.pick(NAMES), self.password(), self.signs(self.pick((HEX, ALNUM)), self.pick((32, 40)))
        amazon, bearer = self.signs(BASE64, 40), self.signs(URL, self.random.randint(32, 90))
        said = lambda text, value: (self.pick((text,)), value, "PASSWORD")
        text, value, kind = self.pick((
            said(f"{self.time()} DEBUG {name}: connecting as admin password=\0 host=10.2.0.{self.random.randint(2, 250)}", word), said(f"Hi, my account {name}42 is locked. My password is \0 and the mail is above. Can you reset it?", word),
            said(f"Bitte prüfen: Benutzer {name}, Passwort: \0. Danke!", word), said(f"Mi contraseña es \0 y no puedo entrar en {name}.", word), said(f"Le mot de passe est \0, merci de vérifier {name}.", word),
            said(f'{{"user": "{name}", "password": "\0", "remember": false}}', word), said(f"spring:\n  datasource:\n    username: {name}\n    password: \0\n", word), said(f"{name.upper()}_PASSWORD=\0\n{name.upper()}_HOST=localhost\n", word),
            said(f"conn = connect(host=\"{name}\", user=\"app\", password=\"\0\")", word), said(f"$ mysql -u {name} --password=\0 -h db", word), said(f"$ curl -u {name}:\0 https://{name}.example.org/status", word),
            said(f"[default]\naws_access_key_id = {'AK' + 'IA' + 'EXAMPLEXAMPLEXAM'}\naws_secret_access_key = \0\n", amazon), said(f"{name.upper()}_API_KEY=\0\n", key), said(f'"apiKey": "\0", "region": "eu"', key), said(f"client_secret: '\0'", key),
            said(f"x-api-key: \0\naccept: application/json", key), said(f"const apiKey = '\0';\nfetch(url, {{ headers: {{ 'X-Key': apiKey }} }});", key), said(f"The Wi-Fi of the office: network {name}, password \0", word),
            (f"GET /v1/{name} HTTP/1.1\nHost: api.example.org\nAuthorization: Bearer \0\n", bearer, "ACCESS_TOKEN"), (f"requests.get(url, headers={{\"Authorization\": \"Bearer \0\"}})", bearer, "ACCESS_TOKEN"),
            (f"{self.time()} proxy request Authorization: Basic \0 200", base64.b64encode(f"{name}:{word}".encode()).decode(), "ACCESS_TOKEN"),
        ))  # fmt: skip
        return kind, value, text

    def calm(self):
        """A text without a secret that looks as if it had one."""
        name = self.pick(NAMES)
        uuid = "-".join(self.signs(HEX, n) for n in (8, 4, 4, 4, 12))
        return self.pick((
            f"commit {self.signs(HEX, 40)}\nAuthor: Ana\n\n    {name}: speed up the parser", f"image: registry.example.org/{name}@sha256:{self.signs(HEX, 64)}", f"{self.time()} INFO {name} request_id={uuid} status=200 took 12 ms",
            f'"integrity": "sha512-{self.signs(BASE64, 86)}=="', f"ssh-ed25519 {'AAAAC3NzaC1lZDI1NTE5AAAAI' + self.signs(BASE64, 43)} ana@{name}", f"-----BEGIN PUBLIC KEY-----\n{self.signs(BASE64, 64)}\n{self.signs(BASE64, 40)}\n-----END PUBLIC KEY-----",
            f"-----BEGIN CERTIFICATE-----\n{self.signs(BASE64, 64)}\n{self.signs(BASE64, 64)}\n-----END CERTIFICATE-----", f"export OPENAI_API_KEY=sk-...\nexport {name.upper()}_TOKEN=<your token>", f"password: ${{{name.upper()}_PASSWORD}}\nuser: app",
            f"api_key = os.environ[\"{name.upper()}_API_KEY\"]", f"password = vault.read(\"secret/{name}\")[\"password\"]", f"postgres://user:password@localhost:5432/{name}", f"postgres://{name}@db.internal/{name}", "The password must have at least 12 characters, a digit and a sign.",
            f"I forgot my password for {name}. How do I reset it?", f'{{"password": {{"type": "string", "minLength": 8}}, "token": {{"type": "string"}}}}', f"data:image/png;base64,{'iVBORw0KGgo' + self.signs(BASE64, 120)}", f"Order {self.random.randint(10**9, 10**10)} of {name}, tracking 1Z{self.signs(UPPER, 16)}",
            f"ETag: \"{self.signs(HEX, 32)}\"\nX-Request-Id: {uuid}", f"if password != confirm_password:\n    raise ValueError(\"{name}: passwords differ\")", f"label.password=Password\nlabel.secret=Secret\nlabel.{name}=Name", f"def get_secret(name: str) -> str:\n    return client.secrets.get(name).value  # {name}",
            f"https://docs.example.org/{name}/api-keys#create-a-token", f"Trace: {self.signs(HEX, 32)} span {self.signs(HEX, 16)} in {name}", f"How do I rotate an access token for {name} without downtime?", f"curl -H \"Authorization: Bearer $TOKEN\" https://api.example.org/{name}",
            f"md5({name}.tar.gz) = {self.signs(HEX, 32)}", f"AWS_ACCESS_KEY_ID=AKIAXXXXXXXXXXXXXXXX\nAWS_SECRET_ACCESS_KEY=changeme", f"Serial: {'-'.join(self.signs(UPPER, 5) for _ in range(4))} for {name}", f"The secret of good {name} is patience; the token gesture in 2024 was not enough.",
            f"resource \"random_password\" \"{name}\" {{\n  length = 24\n}}", f"secretKeyRef:\n  name: {name}-db\n  key: password", f"ghp_ is the prefix of a personal token; {name} masks it as ghp_****************", f"window.__NEXT_DATA__ = {{\"buildId\":\"{self.signs(URL, 21)}\",\"page\":\"/{name}\"}}",
            f"password_hash = \"$2b$12${self.signs(ALNUM + './', 53)}\"", f"GET /reset?email=ana%40example.org&lang=de HTTP/1.1\nHost: {name}.example.org", f"secret_name: {name}-tls-2026\nsecret_version: 14",
        ))  # fmt: skip


def rows():
    """All labelled texts."""
    maker = Maker(SEED)
    for number in range(TEXTS):
        if number % 3 == 2:
            kind, secret, text = maker.assigned()
        else:
            kind, secret = maker.secret()
            text = maker.around(secret)
            if "\n" in secret and maker.random.random() < 0.4:
                secret, text = secret.replace("\n", "\\n"), f'{{"type": "service_account", "private_key": "\0", "client_id": "{maker.signs("0123456789", 21)}"}}'
        start = text.index("\0")
        yield {"text": text.replace("\0", secret), "spans": [[start, start + len(secret), kind]]}
    for _ in range(CALM):
        yield {"text": maker.calm(), "spans": []}


if __name__ == "__main__":
    for row in rows():
        print(json.dumps(row, ensure_ascii=False))
