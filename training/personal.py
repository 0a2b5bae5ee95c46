"""Texts with personal data of our own making: chat, letters, logs, records; every name and number is invented.

For training only. Knows nothing of the data folder's templates.
"""

import datetime
import random
import re

import forms
from faker import Faker

LOCALES = ("en_US", "en_GB", "en_US", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL", "pt_BR", "sv_SE", "en_IN", "tr_TR", "cs_CZ", "en_AU", "da_DK", "en_CA", "pt_PT", "fi_FI", "de_AT", "fr_CH", "es_MX")
NATIONS = tuple("""American German French Spanish Italian Dutch Polish Brazilian Swede Swedish Indian Turkish Czech Australian Kenyan Vietnamese Mexican Greek Irish Korean Chilean Catholic Muslim Jewish Buddhist
Hindu Republican Democrat Egyptian Ukrainian Russian Cuban Norwegian Protestant Scottish Chinese Japanese Portuguese Belgian Austrian Swiss Danish Finnish Icelandic Hungarian Romanian Bulgarian Serbian Croatian Slovak
Slovenian Albanian Bosnian Estonian Latvian Lithuanian Belarusian Georgian Armenian Iranian Persian Iraqi Syrian Lebanese Israeli Palestinian Jordanian Saudi Emirati Kuwaiti Yemeni Afghan Pakistani Bangladeshi Nepalese
Thai Burmese Cambodian Laotian Malaysian Indonesian Filipino Singaporean Taiwanese Mongolian Kazakh Uzbek Moroccan Algerian Tunisian Libyan Sudanese Ethiopian Somali Nigerian Ghanaian Senegalese Cameroonian Congolese
Ugandan Tanzanian Rwandan Zimbabwean Angolan Canadian Argentinian Peruvian Colombian Venezuelan Ecuadorian Bolivian Uruguayan Jamaican Haitian Dominican Guatemalan Honduran British English Welsh European African Asian
Arab Kurdish Basque Catalan Bavarian Sicilian Texan Hispanic Latino Christian Orthodox Lutheran Methodist Baptist Anglican Mormon Sikh Jain Sunni Shiite Quaker atheist agnostic Conservative Liberal Socialist Communist
Libertarian Marxist Labour Frenchman Frenchwoman Englishman Englishwoman Irishman Irishwoman Dutchman Welshman Scotsman Spaniard Pole Dane Finn Turk Briton""".split())
PEOPLES = tuple("Germans Americans Italians Swedes Poles Turks Indians Russians Mexicans Greeks Koreans Muslims Christians Catholics Hindus Buddhists Republicans Democrats Socialists Canadians Nigerians Danes Finns Kurds Ukrainians Brazilians Egyptians Australians Scots Belgians Czechs Hungarians".split())
STATES = tuple("CA TX NY FL WA OR IL OH PA GA NC MI NJ VA AZ MA TN IN MO MD WI CO MN SC AL LA KY OK CT UT IA NV AR MS KS NM NE WV ID HI NH ME RI MT DE SD ND AK VT WY California Texas Florida Ohio Bavaria Ontario Quebec Queensland Punjab Oregon Georgia Vermont Arizona Nevada Scotland Victoria".split())
BRANDS = ("Microsoft", "Google", "Amazon", "IBM", "Siemens", "Oracle", "Toyota", "Nokia", "Pfizer", "Nestle", "Deloitte", "Walmart", "Ikea", "Lufthansa", "Spotify", "Red Cross", "NASA", "UNICEF", "Goldman Sachs", "General Motors", "Deutsche Bank", "Air France",
          "the United Nations", "the World Bank", "Greenpeace", "BBC", "FedEx", "Samsung", "Shell", "Ford", "Adobe", "Netflix", "AT&T", "H&M", "Barclays", "Zalando", "Airbus", "Bosch", "Unilever", "Reuters")
FRONTS = ("Blue", "North", "Silver", "Bright", "Green", "Iron", "Red", "Summit", "Harbor", "Golden", "Pine", "Cedar", "River", "Stone", "Sun", "Moon", "Star", "Atlas", "Delta", "Omega", "Nova", "Pacific", "Alpine", "Urban", "First", "Royal", "Vector", "Quantum", "Apex", "Zen", "Crystal", "Maple", "Falcon", "Lotus", "Union", "Central", "Metro", "Prime")
BACKS = ("wood", "field", "ridge", "gate", "works", "line", "bridge", "point", " Peak", " Valley", " Lake", " Hill", " Forest", " Oak", " Fox", " Wolf", " Tree", "tech", "soft", "corp", "ium", "ora", "ex", "ly")
TRADES = ("", "", " Bank", " Foods", " Systems", " Logistics", " Health", " Energy", " Partners", " Airlines", " Insurance", " Media", " Robotics", " Motors", " Studios", " Consulting", " Capital", " Records", " Pharma", " Telecom", " Traders", " Industries", " Clinic", " Hotels", " Corp", " Inc", " LLC", " GmbH", " Foundation", " Trust", " Realty", " Analytics", " Security", " Labs")
FORMS = r"""
hi, I'm {person} and I live in {city} :)
my name is {person}, I was born on {date} in {city}
{person} here. call me back on {phone} please
can you book a table for {person} on {date}?
pls send it to {email} thx
you can reach me at {phone} or {email}
i am {age} years old and from {city}
I'm a {age}-year-old {nation} living in {country}
Is {age} too old to start piano? Asking for my uncle {first}.
{first} and {first} are getting married on {date} in {city}!
what should I say to {first}? she works at {org}
write a birthday poem for my mother {first}, she turns {age}
Write a cover letter for {person}, who applies at {org} in {city}.
translate: "{person} moved from {city} to {city} in {year}"
Summarise: {person} ({age}) was appointed head of {org} on {date}.
who is {person} and why is he famous in {country}?
Tell me about {org}, the {nation} company from {city}.
My boss, {person}, told me that {org} will close its office in {city}.
our landlord {person} lives at {street}, {city}
Ship to: {person}, {address}
deliver the parcel to {street} please, zip {zip}
My address is {address}
I moved to {address} on {date}.
{street} is where we met, in {city}.
the office is on {street}, near the station
Which bus goes to {street}?
zip code {zip}, how is the weather there?
Is {zip} in {city}?
charge my card {card} and send the receipt to {email}
card number: {card}, exp {expiry}
I paid with {card} but it was declined. Can {org} help?
CC {card} belongs to {person}
someone used my credit card ({card}) in {city} on {date}
my social is {ssn}, {person}
SSN: {ssn}
Patient {person}, DOB {date}, SSN {ssn}, phone {phone}
employee {person} (ssn {ssn}) joined on {date}
is {ssn} a valid social security number
my license is {license}, it expires {date}
driver's license no. {license} issued in {city}
DL# {license}, name {person}
Please transfer 200 euros to {iban} ({person})
IBAN {iban}
the account {iban} is held at {org}
My bank says {iban} is wrong, why?
server {ip} is down
{ip} - - [{date}] "GET /index.html" 200
ssh root@{ip} fails with a timeout
block {ip} and {ip} in the firewall
failed login for {email} from {ip}
ping {ip} works but {domain} does not resolve
the site {domain} is slow since {weekday}
who owns {domain}?
I registered {domain} in {year}
curl https://{domain}/api returns 500
visit us at www.{domain} or write to {email}
From: {person} <{email}>
To: {email}
Cc: {email}, {email}
Subject: meeting on {weekday}
Dear {person},\n\nthank you for your letter of {date}. We will call you at {phone}.\n\nKind regards,\n{person}\n{org}
Hi {first},\n\nare you free on {weekday}? {first} and I are in {city}.\n\nCheers\n{first}
Hello, this is {person} from {org}, I am calling about invoice 4711. My number is {phone}.
Best,\n{person}\n{org}\n{street}\n{city}\n{phone}
{person}\n{address}
{person}\n{street}\n{city}\n{country} {zip}
{person}\n{address}
Name: {person}\nAge: {age}\nCity: {city}\nE-mail: {email}
name={person}; mail={email}; tel={phone}
{{"name": "{person}", "email": "{email}", "age": {age}}}
{{"user": "{email}", "ip": "{ip}", "ts": "{date}"}}
{{"customer": {{"first_name": "{first}", "last_name": "{last}", "phone": "{phone}"}}}}
{{"address": {{"street": "{street}", "city": "{city}", "zip": "{zip}"}}}}
{{"card": "{card}", "holder": "{person}"}}
id,name,email,phone\n1,{person},{email},{phone}\n2,{person},{email},{phone}
| {person} | {city} | {date} |\n| {person} | {city} | {date} |
{date} INFO user {email} logged in from {ip}
{date} ERROR payment of {person} with {card} failed
[{date}] {first}: see you in {city}\n[{date}] {first}: ok!
<customer><name>{person}</name><tel>{phone}</tel></customer>
INSERT INTO people VALUES ('{person}', '{email}', '{ssn}');
UPDATE users SET phone='{phone}' WHERE email='{email}';
name = "{person}"  # from {city}
Extract the names: {person}, {person} and {person} met {first} in {city}.
Remove personal data from this text: {person} of {org} can be called at {phone}.
Rewrite politely: tell {first} that {org} will not pay before {date}.
find all e-mails in: {email}, {email}
Anonymise: {person}, {age}, {nation}, {street}
The {nation} ambassador met {person} in {city} on {weekday}.
{person} is {nation} and studied at {org}.
Most {nation} people I know moved to {country}.
{org} and {org} announced a merger on {date}.
I bought shares of {org} in {year}.
{org} was founded by {person} in {city} in {year}.
{person}, {age}, of {city}, was arrested on {date}.
Mr {last} asked Mrs {last} about the contract with {org}.
Dr. {last} will see you on {date} at the clinic in {city}.
thanks {first}! my new number is {phone}
call {phone} and ask for {first}
fax: {phone}, phone: {phone}
text me at {phone} when you are in {city}
emergency contact: {person}, {phone}
the meeting with {org} is on {date} in {city}, {country}
flight from {city} to {city} on {date} for {person}
hotel booking {person}, arrival {date}, departure {date}
remind me on {date} to call {first}
In {year} I worked for {org}.
{first} ({age}) and {first} ({age}) go to school in {city}
he is {age}, she is {age}
my daughter is {age} years old, what books fit?
a {age} year old patient from {country} presents with a cough
Medical record of {person}: {age} y/o, admitted {date}, lives at {street}.
ticket 88: customer {person} <{email}> cannot log in since {date}
Review by {first} from {city}: the people at {org} are lovely.
How do I pronounce {person}?
Is {first} a {nation} name?
What is the time in {city} when it is noon in {country}?
give me a travel plan for {city} and {city}
Write a short biography of {person} ({nation}, born {date}).
lol {first} forgot the birthday of {first} again
@{first} can you check {ip}?
User: my email is {email}\nAssistant: Thanks, {first}. And your phone?\nUser: {phone}
User: I live at {street}\nAssistant: In {city}?\nUser: yes, zip {zip}
Assistant: May I have your date of birth?\nUser: {date}
The signatory, {person}, residing at {address}, agrees with {org}.
Beneficiary: {person}, IBAN {iban}, bank: {org}
Wire 500 to {person}, account {iban}, before {date}.
passport check: {person}, {nation}, {date}
The contract between {org} and {person} ends on {date}.
""".strip().split("\n")
NOTHING = """
order 4711-22 was shipped in box 17
what is 12345 divided by 5?
version 10.4.2 fixes the bug in 3 modules
the meeting is in room 204
error code 0x80070057 at line 1024
set the timeout to 30 seconds and retry 5 times
chapter 12 has 300 pages
give me a list of good names for a dog
how do I validate an e-mail address with a regular expression?
what is a social security number?
explain what an IBAN is
write a function that masks credit card numbers
How does a phone number get routed?
add 3 eggs and 250 g of flour, bake at 180 degrees
ISBN 978-3-16-148410-0
invoice no. 2024-00123 over 99.90 dollars
the train leaves from platform 9
the score was 3:2
localhost does not answer on port 8080
may I ask a question? will this work?
mark the best answer and bill them later
the rose bush is in bloom, hope it lasts
I will march there in the summer heat
commit 9fceb02 breaks the build
model X-200 has 16 GB of memory
5 out of 7 people agree
SELECT count(*) FROM orders WHERE total > 1000
the capital gains tax
a person of interest
translate good morning
""".strip().split("\n")


class Maker:
    """Invents values and fills forms."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.fakers = {locale: Faker(locale) for locale in dict.fromkeys(LOCALES)}
        for number, locale in enumerate(sorted(self.fakers)):
            self.fakers[locale].seed_instance(seed + number)

    def street(self, fake):
        number = self.random.choice((str(self.random.randint(1, 30)), str(self.random.randint(1, 9999)), f"{self.random.randint(1, 200)}{self.random.choice('abc')}"))
        name = fake.street_name()
        text = self.random.choice((f"{number} {name}", f"{name} {number}", f"{name}, {number}", fake.street_address().replace("\n", ", ")))
        if self.random.random() < 0.08:
            return f"{self.unit()}{self.random.choice((' ', ', '))}{text}"
        return text + self.random.choice(("", "", "", f", Apt {self.random.randint(1, 99)}", f" Flat {self.random.randint(1, 40)}", f", Suite {self.random.randint(100, 900)}"))

    def unit(self):
        return self.random.choice(("Apt. {}", "Apt {}", "Suite {}", "Flat {}", "Unit {}", "Apartment {}", "#{}", "Floor {}")).format(self.random.randint(1, 999))

    def company(self, fake):
        """An organisation: as Faker makes them, a well-known one, or invented of two words."""
        return self.random.choice((fake.company, fake.company, fake.company, lambda: self.random.choice(BRANDS), lambda: self.random.choice(FRONTS) + self.random.choice(BACKS) + self.random.choice(TRADES), lambda: self.random.choice(FRONTS) + self.random.choice(BACKS) + self.random.choice(TRADES),
                                   lambda: fake.last_name() + self.random.choice((" Inc.", " Ltd", " Bank", " Group", " & Sons", " Labs", " University", " Hospital", " Insurance", " Software", " Brothers", "-Werke", " plc", " Associates")), lambda: fake.city() + self.random.choice((" Hospital", " Bank", " Times", " Council", " Library", " FC", " Transit"))))()

    def date(self):
        day = datetime.date(self.random.randint(1950, 2026), self.random.randint(1, 12), self.random.randint(1, 28))
        day = datetime.datetime.combine(day, datetime.time(self.random.randint(0, 23), self.random.randint(0, 59)))
        return day.strftime(self.random.choice(("%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%B %d, %Y", "%d %b %Y", "%d %B", "%b %d", "%A", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%SZ", "%m/%d/%y", "%B %Y", "%Y", "%d %B %Y", "%A, %d %B %Y")))

    def spaced(self, digits, sizes, marks):
        mark, parts, at = self.random.choice(marks), [], 0
        for size in sizes:
            parts.append(digits[at : at + size])
            at += size
        return mark.join(p for p in parts if p)

    def value(self, slot):
        pick = self.random.choice
        fake = self.fakers[pick(LOCALES)]
        digits = lambda n: "".join(pick("0123456789") for _ in range(n))
        if slot == "person":
            return pick((fake.first_name() + " " + fake.last_name(),) * 5 + (fake.first_name(), fake.first_name() + " " + pick("ABCDJKMRST") + ". " + fake.last_name(), fake.last_name() + ", " + fake.first_name()))
        if slot == "phone":
            return pick((fake.phone_number, fake.phone_number, lambda: f"+{self.random.randint(1, 99)} {digits(3)} {digits(3)} {digits(4)}", lambda: f"({digits(3)}) {digits(3)}-{digits(4)}", lambda: f"{digits(3)}-{digits(3)}-{digits(4)}", lambda: f"{digits(3)}.{digits(3)}.{digits(4)}", lambda: "0" + digits(10), lambda: f"0{digits(4)} {digits(6)}"))()
        if slot == "card":
            number = fake.credit_card_number()
            return self.spaced(number, (4, 4, 4, 7), ("", "", " ", "-"))
        if slot == "iban":
            return self.spaced(fake.iban(), (4,) * 9, ("", "", " "))
        if slot == "ssn":
            return self.spaced(f"{self.random.randint(1, 772):03d}{digits(2)}{digits(4)}", (3, 2, 4), ("-", "-", " ", ""))
        if slot == "license":
            return pick((lambda: pick("ABCDGKLSTW") + digits(7), lambda: digits(8), lambda: pick("ABCDW") + digits(3) + "-" + digits(4) + "-" + digits(4), lambda: pick("ABCDEFST") + digits(8), lambda: pick("AB") + pick("CD") + digits(6) + pick("XYZ"), lambda: digits(9)))()
        simple = {
            "first": fake.first_name, "last": fake.last_name, "city": fake.city, "country": self.fakers["en_US"].country, "nation": lambda: pick(NATIONS), "peoples": lambda: pick(PEOPLES), "state": lambda: pick(STATES), "org": lambda: self.company(fake), "school": lambda: pick((fake.last_name() + " College", fake.last_name() + " University", fake.city() + " High School", fake.city() + " University", pick(("Harvard", "Stanford", "Oxford", "MIT", "Yale")))),
            "road": fake.street_name, "unit": self.unit, "deep": lambda: f"{self.random.randint(1, 99999)} {fake.street_name()}\n {self.unit()}", "url": lambda: pick((fake.url, fake.url, lambda: pick(("http://", "https://", "https://www.", "www.")) + fake.domain_name() + pick(("", "", "/"))))(),
            "email": lambda: pick((fake.email(), fake.ascii_free_email(), f"{fake.first_name()}.{fake.last_name()}@{fake.domain_name()}".lower().replace(" ", ""), f"{fake.user_name()}{digits(2)}@{fake.domain_name()}")), "domain": lambda: pick(("", "", "shop.", "mail.")) + fake.domain_name(),
            "ip": lambda: pick((fake.ipv4, fake.ipv4, fake.ipv4_private, fake.ipv6))(), "age": lambda: str(pick((self.random.randint(18, 80), self.random.randint(1, 99)))), "street": lambda: self.street(fake), "address": lambda: fake.address().replace("\n", pick(("\n", ", "))), "zip": fake.postcode,
            "date": self.date, "year": lambda: str(self.random.randint(1950, 2026)), "weekday": lambda: pick(("Monday", "Tuesday", "wednesday", "Thursday", "friday", "Saturday", "sunday", "Wednesday", "Friday", "Sunday", "monday", "tuesday", "Mon", "Tue", "Fri")), "expiry": lambda: f"{self.random.randint(1, 12):02d}/{self.random.randint(24, 34)}",
        }
        return simple[slot]()

    def row(self, form):
        """Settles the choices of one form and fills it; returns the text and its spans."""
        form = form.replace("\\n", "\n").replace("{{", "{").replace("}}", "}")
        while choice := re.search(r"\[([^\[\]]*\|[^\[\]]*)\]", form):
            form = form[: choice.start()] + self.random.choice(choice[1].split("|")) + form[choice.end() :]
        case = self.random.random()
        text, spans, at = "", [], 0
        for slot in re.finditer(r"\{(\w+)\}", form):
            text += form[at : slot.start()]
            value, at = self.value(slot[1]), slot.end()
            if slot[1] != "expiry":
                spans.append([len(text), len(text) + len(value), KINDS[slot[1]]])
            text += value
        text += form[at:]
        if case < 0.25 and len(text.lower()) == len(text):
            text = text.lower()
        elif case < 0.28 and len(text.upper()) == len(text):
            text = text.upper()
        return text, spans


KINDS = {"person": "PERSON", "first": "PERSON", "last": "PERSON", "phone": "PHONE_NUMBER", "card": "CREDIT_CARD", "iban": "IBAN_CODE", "ssn": "US_SSN", "license": "US_DRIVER_LICENSE", "city": "GPE", "country": "GPE",
         "nation": "NRP", "peoples": "NRP", "state": "GPE", "school": "ORGANIZATION", "road": "STREET_ADDRESS", "unit": "STREET_ADDRESS", "deep": "STREET_ADDRESS", "url": "DOMAIN_NAME", "org": "ORGANIZATION", "email": "EMAIL_ADDRESS", "domain": "DOMAIN_NAME", "ip": "IP_ADDRESS", "age": "AGE", "street": "STREET_ADDRESS", "address": "STREET_ADDRESS", "zip": "ZIP_CODE",
         "date": "DATE_TIME", "year": "DATE_TIME", "weekday": "DATE_TIME"}


def rows(seed, count=9500, joined=0.2):
    """Returns texts with spans; some are two forms one after the other, of one tenth of all. `form` tells which form (modulo ten) a row is of."""
    maker = Maker(seed)
    pick = maker.random.choice
    whole, empty = (*FORMS, *forms.ALL), (*NOTHING, *forms.EMPTY)
    made = []
    for number in range(count):
        tenth = number % 10
        some, none = whole[tenth::10], empty[tenth::10]
        text, spans = maker.row(pick(some if maker.random.random() < 0.85 else none))
        if maker.random.random() < joined:
            more, others = maker.row(pick(some if maker.random.random() < 0.6 else none))
            text += pick((" ", ". ", "\n"))
            spans += [[a + len(text), b + len(text), t] for a, b, t in others]
            text += more
        made.append({"text": text, "spans": spans, "use": "train", "form": f"ours/{tenth}"})
    return made
