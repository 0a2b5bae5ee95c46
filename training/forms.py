"""More forms for texts with personal data: conversation, prompts, notices, records; and texts that only look as if they had some.

`[a|b]` is a choice, `{slot}` a value, `\\n` a line break. For training only. Knows nothing of how values are made.
"""

PEOPLE = r"""
[My|Our] [neighbour|colleague|teacher|dentist|brother-in-law|flatmate|manager|coach|cousin|supervisor] {person} [never answers|is on holiday|has a new dog|wants to move|asked about you|won the raffle][.|!|]
[is|was] {person} [still working here|a good actor|at the party|the one who called|related to you]?
[Tell|Ask|Remind|Thank|Invite|Text|Ping] {first} [about the keys|to bring wine|for the help|to the barbecue|that I am late][.|!|, please]
[who|what] did {person} [talk about|vote for|marry|write]?
[there were|we need|invite] [three|five|4] [of them|people|]: {first}, {first}, {first}, {first} and {first}
{first}, {first} and {first} [are coming|will join us|cannot make it|shared a taxi].
{person}'s [report|dog|car|talk|mother|thesis|application] [was great|is late|needs a review|arrived].
[According to|Thanks to|Without|Unlike] {person}, [the plan works|we lost the case|nobody would know|I like maths].
[a song|a poem|the speech|the book|a film] by {person}
[Written|Directed|Edited|Signed|Approved|Reported|Prepared|Reviewed] by {person}
[Produced and directed|Lyrics|Photo|Music|Story] by: {person}[, {person}|]
[Contact|Attn|Attention|Responsible|Author|Owner|Assignee|Reporter|Requester|Caller|Guest|Student|Tenant|Applicant]: {person}
[Signed|Sincerely|Yours truly|Regards|Cheers|Love|Warmly|Thanks],\n{person}
[Dear|Hello|Hi|Good morning|Hey] {person},\n[I hope this finds you well|we received your request|please find the invoice attached|can we move our call]?.
"[I don't know|Leave it|That is enough|We are late|Nobody asked you]," [said|whispered|shouted|replied|answered] {first}.
{first} [looked at|kissed|followed|called|ignored|forgave] {first} and [left|smiled|said nothing|sat down].
[Rapper|Singer|Actress|Senator|Judge|Professor|President|Goalkeeper|Painter] {person} [was seen in|died in|comes from|toured] {city}[ in {year}|].
Is {first} short for {first}?
[The|] winners are {person}, {person} and {person}.
[1st|First] place: {person}\n[2nd|Second] place: {person}
{last} v. {last}, [decided|argued] {date}
[Ms|Mr|Mrs|Dr|Prof|Judge|Officer|Nurse] {last} [will see you now|signed the form|is not available|called twice].
[Interview with|In memory of|An evening with|Portrait of|In honour of] {person}
[my name's|it's|this is|I'm|i am|call me|they call me|name:|the name is] {person}[, nice to meet you|, from accounting| speaking|]
[user|customer|agent|bot|me]: [what is your full name|who am I talking to|and the surname|may I have your name]?\n[user|customer|agent|me|her]: {person}
put the booking under {person}[, two people|, window seat|]
it should be [under|registered to|in the name of|listed as] {person}
[change|correct|update] the [name on the policy|account holder|second driver|passenger's name] to {person}
I never [met|liked|heard of|worked with] {person}, [sorry|honestly|but my wife did].
[My|] grandmother {person} [was born in|grew up in|came from] {city}[ in {year}|].
[act as|pretend to be|write in the style of|parody] {person}
[performance review|reference letter|obituary|wedding toast|get-well card|farewell speech] for {person}[, {age}|, who leaves {org}|]
[minutes|agenda|notes], {date}\n[present|attendees]: {person}, {person}, {person}\n[absent|excused]: {person}
git log: [fixed by|author|co-authored-by] {person} <{email}>
[Assign|Transfer|Escalate] [ticket|case|issue|task] [4411|881|#12|A-7] to {person}[ by {weekday}|]
players: {first} - {first} 3:1, {first} - {first} 0:2
@{first} and @{first} [please review|see above|LGTM]
[patient|pt] {person}, {age}[yo|y/o| years], [presents with|complains of|admitted for] [chest pain|a rash|dizziness|back pain][ since {date}|]
the [heirs|children|parents|partners] of {person} [are|were] {person} and {person}.
{first} ({age}), {first} ({age}) and {first} ({age}) [won the contest|need a babysitter|share a room]
"""

NATIONALITY = r"""
[I am|I'm|she is|he is|they are|we are|my wife is|my boss is|our cook is] {nation}[ and proud of it|, not {nation}| but lives abroad| by birth|]
[an old|a young|a famous|the first|every|another|a retired] {nation} [painter|footballer|engineer|politician|chef|soldier|novelist|tourist|nurse]
[the|a] {nation} [embassy|consulate|government|parliament|army|company|restaurant|bakery|newspaper|minority|community|flag|passport|dialect|holiday|wedding|film|cuisine|accent|prime minister|team]
[how|why] do {nation} [people|families|students|workers|voters] [celebrate new year|eat so late|vote|greet each other]?
[is|was] {person} {nation} or {nation}?
[translate this into|learn|speak a bit of|the difference between British English and] {nation} [cooking|customs|culture|law]
{nation} [film|opera|novel|sitcom|album] from {year}
[the|] {nation}-{nation} [border|treaty|war|trade agreement|friendship society]
{peoples} and {peoples} [have lived together here|fought|signed a treaty] [for centuries|in {year}|]
[where can I find|recommend|we went to|there is a new] [good|cheap|authentic|a great|an] {nation} [food|place|restaurant|bar|grocery] [in {city}|near {street}|downtown|]
[do|does a|should a|can a|may a] {nation} [citizen|national|tourist|student|worker|passport holder] [need a visa|need insurance|vote|work] [in|for] {country}?
[his|her|my] [religion|faith|party|nationality|ethnicity|citizenship|affiliation] is {nation}
[Nationality|Citizenship|Religion|Ethnicity|Political affiliation|Party]: {nation}
raised [as a|] {nation}, [he|she] [became|married] a {nation} [in {year}|later|]
[the|a] {nation} [church|temple|priest|prayer|festival|party|voter|candidate|senator|family]
[most|some|many|all|few|these] {peoples} [agree|eat fish on {weekday}|live in {city}|voted early]
[most|some|many|all|few] {nation} [voters|families|students|immigrants] [in|from] {city} [agree|moved away|protested]
{person} is a [well-known|wealthy|young|controversial] {nation} [singer|lawyer|general|actress|economist]
[the|] {nation} [president|minister|king|ambassador|delegation] [arrived|spoke|will visit {country}|resigned] on {date}
nationality={nation}; age={age}; city={city}
{"name": "{person}", "nationality": "{nation}", "born": "{date}"}
[my|] {nation} [grandmother|neighbour|girlfriend|roommate|teacher] {first} [cooks|sings|taught me] [well|every day|]
{city} is home to many {nation} [families|immigrants|churches|shops].
in {year} the {nation} [government|army|church|parliament] [announced|rejected|signed] [the reform|the treaty|a new law]
"""

POSTCODES = r"""
[my|the|our|what is the|your] [zip|zip code|postcode|postal code|post code|ZIP|PLZ] [is|:|=|] {zip}
[delivery|shipping|do you deliver|is there a store|any pharmacy|internet providers|house prices|weather|crime rate|schools|restaurants] [to|in|near|for|around] {zip}[?|, please|]
which [city|county|state|town|area] [is|has|belongs to] [zip code|postcode|the zip|] {zip}?
[i moved|we moved|she moved] from {zip} to {zip}
[enter|please confirm|use|type] [billing zip|the zip|postcode] {zip} [at the pump|to continue|for the card]
zip={zip}&country={country}
"zip": "{zip}"
<zip>{zip}</zip><city>{city}</city>
{"city": "{city}", "postal_code": "{zip}", "country": "{country}"}
[find|show|list] [jobs|doctors|plumbers|used cars|events|flats|stores] [near|within 10 miles of|around|in] {zip}
[user|caller|customer]: {zip}\n[agent|bot]: thanks, that is {city}.
[agent|bot|assistant]: what is your [zip code|postcode]?\n[user|customer]: [it's|it is|] {zip}
tax rate [for|in] {zip}[, {city}|]
[the|] [zip|postcode] {zip} is [invalid|not in our area|in {city}|wrong, use {zip}]
City: {city}\nState: {state}\n[Zip|ZIP code|Postcode]: {zip}
City: {city} Zip: {zip}
{city} {state} {zip}
{city}\n{country} {zip}
{person}\n{street}\n{city}\n{country} {zip}
{person}\n\n{deep}\n {city}\n {country} {zip}\n{phone}
>{person}\n>{org}\n>{street}\n>{unit}\n>{city}\n>{country} {zip}
{person}\n{org}\n{street}\n{city} {state} {zip}\n{phone} [office|mobile|fax]
{zip}, {zip} and {zip} [are without power|get new bins|are in {city}]
id,city,zip\n1,{city},{zip}\n2,{city},{zip}
[is|are] there [any|good|cheap] [gyms|daycares|vets|bakeries] in the {zip} area
we only ship to [the|] {zip} [area|region|and {zip}]
[my|] parents live in {city} {zip} [and|, but] I don't
"""

DAYS = r"""
[see you|let's meet|are you free|I'm off|call me|the shop closes early|dinner is|rent is due|the exam is|practice is] on {weekday}[ at noon| at 3pm| morning| evening|?|]
[book|reserve|schedule|cancel|move|set up] [a table|a room|an appointment|a call|the meeting|a haircut|a taxi] [for|on] {weekday}[ at 8| morning| afternoon|, please|]
[Is|Are] [the bank|the gym|you|the library|museums|schools] [open|busy|closed] on {weekday}[s|]?
{weekday}: [gym|rest|pasta|laundry|maths homework|call mum]\n{weekday}: [run|fish|shopping|guitar|meeting]
[from|between] {weekday} [to|and] {weekday}[ it will rain|, closed|]
[every|each|by|until|before|after|since|this|last|on] {weekday}[ we play chess|, or I cancel|, she said|]
[remind me|wake me|email {first}|call {org}|water the plants] [on|by] {weekday}
it rained in {city} on {weekday} and {weekday}
{first} [arrives|left|was fired|had surgery|flew to {city}|called in sick] on {weekday}[ morning| night|]
[the|] [deadline|meeting|delivery|hearing|game|flight|interview|release] [is|was|moved to|will be] {weekday}, {date}
[{weekday}|{date}] [works for me|is fine|would be better|is impossible]
[born|died|hired|founded|married|arrested|admitted|discharged|issued|expires|due|valid until|last updated|published|signed]: {date}
[I was|he was|she was|they were] [born|married|hired|baptised|arrested|operated on] [on|in] {date}
[date of birth|DOB|dob|birthday|d.o.b.][:|=| is| -] {date}
[what happened|who was president|was there a full moon|where were you] [on|in] {date}?
[the lease|my passport|the warranty|her visa|the offer|my contract|the subscription] [expires|ends|ran out|begins|was signed] [on|in] {date}
[since|until|before|after|around|by|in] {year} [the company grew|she lived abroad|nobody knew|we had no phone]
[in|since|back in|during] {year}, {org} [hired|opened an office in {city}|moved to {city}|was sold to {org}]
{year} - {year}: [worked at|studied at|lived in] {org}
{date} to {date}[: vacation|, 2 adults|]
check-in {date}, check-out {date}[, {city}|]
[invoice|order|statement|receipt|letter|minutes] [of|from|dated] {date}
created_at: {date}, updated_at: {date}
{"event": "[login|signup|refund|visit]", "date": "{date}", "user": "{person}"}
[appointment|blood test|court date|parent evening|inspection] {date}[, room 4|, {city}|]
the [film|album|book|law|war|strike|club] [of|from|started in|ended in|was released in] {year}
[flight|train|bus] to {city} [on|,] {date}, back [on|] {date}
how many days [are there|] [between|from] {date} [and|to] {date}?
what day of the week was {date}?
[convert|parse|format] the date {date}
[Reported|Seen|Measured|Logged] [on|at] {date} by {person}
{weekday}'s [class|call|match|train] [is cancelled|was fun|starts late]
"""

ORGANISATIONS = r"""
[I|my sister|my husband|{first}|we] [work|worked|works|used to work|interned|applied] [at|for|with] {org}[ as a nurse| in {city}| since {year}|]
{org}'s [earnings|new office|support|lawyers|chief executive|app|customers|return policy|stock] [disappointed|is awful|called me|fell|moved to {city}|changed]
[is|was|why is|how big is|who runs|who owns|what does] {org} [hiring|bankrupt|down|sell|legit|a good employer|do]?
[my|an|the] [offer|invoice|order|contract|refund|interview|letter|bill|loan] [from|with|at] {org} [is late|was rejected|is on {date}|looks wrong]
[write|draft] [a complaint|a cancellation|a cover letter|a press release|a review|a slogan|a non-compete] [to|for|about] {org}
[compare|difference between|choose between|should I join] {org} [and|or|vs] {org}
{org}, {org} and {org} [are competitors|merged|share an office in {city}|were fined]
{person}, [CEO|CFO|founder|head of sales|engineer|spokeswoman|intern|partner] [of|at] {org}[, said|]
{person} [joined|left|sued|founded|manages|bought] {org} [in {year}|on {date}|]
Company: {org}\n[Contact|Owner|Phone|City]: [{person}|{person}|{phone}|{city}]
Employer: {org}
company={org}; contact={person}; phone={phone}
{"company": "{org}", "city": "{city}", "contact": "{email}"}
[Bill to|Ship to|Vendor|Customer|Supplier|Client|Payee|Insurer|Bank|School]: {org}
{person}\n[Sales Manager|Accountant|Site Engineer|Attorney|Consultant]\n{org}\n{phone}
[shares of|the lawyers of|a spokesman for|a subsidiary of|workers at|the board of|the headquarters of] {org} [rose|in {city}|declined to comment|went on strike]
{city}-based {org} [raised 5 million|hired {person}|announced layoffs]
[the|] agreement [between|of] {org} ("Seller") and {org} ("Buyer")[, dated {date}|]
[the|] {org} [conference|newsletter|team|festival|award|choir|orchestra|foundation|building] [was|is] [great|in {city}|cancelled]
[bought|returned|ordered] [it|this laptop|the sofa|my glasses] [at|from|through] {org} [on {date}|last week|]
[transfer|send|pay] [300|1,250|80] [dollars|euros|pounds] to {org}[, {iban}|]
a [client|supplier|competitor|partner] of ours, {org}, [went bust|is in {city}|wants a quote]
[we'll|let's] meet [{weekday}|{date}] at {org}, {street}, {city}
[reports|sources] at {org} in {city} {zip} [say|deny it]
{person}\n[Nurse|Site foreman|Data analyst|Librarian]\n{org}\n{address}
{person}\n{org}\n{address}\n{phone} [office|home]\n{phone} [mobile|fax]
[nda|deal|contract|lawsuit] between {org} and {person}[, residing at {address}|, residing at {street}|, {city}|]
[analyst|clerk|welder|plumber|optician|barrister] at {org} in {city}
does {org} [ship to|have an office in|operate in] {country}?
[She|He] studied at {school}[ and works at {org}| in {city}|]
[on behalf of|representing|speaking for] {org}, [I thank you|we object|{person} signed]
{first} from {org} [called|wrote|will be there|has your number {phone}]
[meet|lunch|call] with {org} on {weekday}[ at {street}, {city}|]
the address of {org} is {address}
{org} is at {street}, {city}
[summarize|rewrite|translate]: "{org} was [fined|sold|founded] in {city} in {year}."
[what's|find] the [phone number|address|website] of {org}[ in {city}|]?
id;company;country\n1;{org};{country}\n2;{org};{country}
lowercase is fine: {org}
thanks to our sponsors {org}, {org} and {org}
[i think|rumour says|they say] {org} will buy {org}
non-profit {org} [in|of] {city} [helps|feeds|invites] [refugees|children|musicians]
[my|] [therapist|doctor|bank|landlord|gym] is [at|with] {org}
"""

ADDRESSES = r"""
[I live|we live|my parents live|she lives|the patient lives|he stays|they moved|the party is|our office is] [at|on] {street}[, {city}|]
[my|our|the|her|the new|his old|the billing|the shipping] address [is|:|changed to|was] {address}
[send|ship|deliver|mail|forward|post] [it|the parcel|my card|the contract|the keys|flowers] to {address}[ by {weekday}|, thanks|]
[pick me up|meet me|drop me off|get off|park|wait] [at|in front of|near|outside] {street}[ at nine|, please|]
[how far|what is the distance|route|directions|how long is the walk] from {street} to {street}[?|, {city}|]
[the|] corner of {road} [and|&] {road}[, {city}|]
[turn|go] [left|right|straight] on {road}, then [left|right] on {road}
[a|the] [fire|accident|shooting|robbery|flat|house|shop|bar|fountain] [on|in|at] {road} [was reported|is for sale|closed|in {city}]
[tenant|owner|resident|occupant] of {street}[, {person}|: {person}]
Address: {address}
Address line 1: {street}\nAddress line 2: {unit}\nCity: {city}
Street: {street}\nCity: {city}\nCountry: {country}
street={street}, city={city}, zip={zip}
{"street": "{street}", "city": "{city}"}
{"address": "{address}"}
name,address\n{person},"{address}"\n{person},"{address}"
{person} | {street} | {city} | {phone}
{person}, {street}, {city}
{person}, {address}, {phone}
{person}, residing at {street}, [appeared|sold the car|is the buyer]
[from|old address]: {address}\n[to|new address]: {address}
[taxi|ambulance|pizza|a locksmith|a plumber|uber] to {street}[, {city}|][ asap|, quick|]
[what is|is there|find] [a pharmacy|the nearest bank|parking|an ATM|a cafe] near {street}[, {city}|]?
I [grew up|was robbed|work|lost my wallet] on {road} in {city}
[can you|could you|please] [change|update|correct] my address [from {address} to {address}|to {address}|: {street}, {city}]
the meter at {street} [is broken|reads 4411|was replaced on {date}]
[property|listing|parcel|site]: {address}[, 3 rooms|, built {year}|]
[rent|mortgage|lease|insurance] for {address}
{org}\n{address}
{org}, {street}, {city}[, {phone}|]
[bus|tram] 12 stops at {road}
our [clinic|restaurant|store|school|branch|warehouse] is [at|on|located at] {street}
[user|customer]: [it's|the address is|] {address}\n[bot|agent]: thank you!
[bot|agent]: [where do you live|which address|where should the driver go]?\n[user|customer]: {street}[, {city}|]
{person}\n{deep}\n {city}\n {country} {zip}
[Mr.|Mrs.|Ms.|Dr.|] {person} {street}\n{city} {state} {zip}
[there are my addresses|both flats|deliver to]: {address}, and {address}
[we used to live|I once stayed] [in|at] {address}. [Now we are at|My new place is] {street}
client [id|no.] [77|1093|20418], {person}, {address}, {email}[: print a label|]
the [bridge|mural|school|market] on {road} street in {city}
come to {street} [tonight|tomorrow|at six], [bring {first}|ring twice|top floor]
[visit|we are at|find us at] {street}, {city}[. call {phone}|]
return to sender: {address}
witness {person} of {address}
"""

NUMBERS = r"""
[my|her|his|the new|our office|the landlord's|mum's] [number|phone|cell|mobile|tel|extension|landline] [is|:|=|changed to] {phone}
[call|ring|text|whatsapp|fax|try|dial|reach] [me|us|him|her|{first}|the office|] [at|on|] {phone}[ after six|, ask for {first}|, please|]
[is|was] {phone} [a scam|your number|still valid|from {country}|a mobile]?
[missed call|voicemail|sms|text message] from {phone}[ on {date}|]
T: {phone}\nF: {phone}\nM: {phone}
phone: {phone}, [alt|home|work|fax]: {phone}
{first}: {phone}\n{first}: {phone}\n{first}: {phone}
[emergency|24h] hotline {phone}
[stop|please stop|why do you keep] [calling|texting] {phone}
{"phone": "{phone}", "email": "{email}"}
[my|the] [visa|credit card|debit card|mastercard|card|amex] [number is|no.|#|is|ending|:] {card}[, exp {expiry}|]
[charge|block|cancel|activate|replace|refund to|check] [card|my card|] {card}[ please|, it was stolen in {city}|]
[fees|charges|limit] for [a transfer|transfers|payments] from {iban} to [other banks|{country}|{iban}]
[direct debit|standing order|deposit] [from|to] {iban} [failed|was booked twice|on {date}]
pay with {card} [exp|valid thru|expires] {expiry} cvv [123|009|771]
{"card_number": "{card}", "expiry": "{expiry}", "name": "{person}"}
[iban|account|my account is|send it to|refund to|wire to|credited to] {iban}[ ({person})|, {org}|]
[my|his|her|the applicant's|your] [ssn|social|social security number|SSN] [is|:|=|was leaked,|] {ssn}
SSN {ssn}, DOB {date}, [name|employee|patient] {person}
is it safe to [give|send|text] {org} my ssn {ssn}?
[my|his|the driver's] [license|driver's license|driving licence|DL|driver license number|permit] [is|no.|number is|#|:|] {license}[, issued {date}| ({state})|]
license number: {license}\nname: {person}\nborn: {date}
[rent a car with|scan of|lost my] license {license}
[server|host|client|gateway|router|node|peer] {ip} [is unreachable|timed out|was rebooted|sends spam|returned 502]
[allow|deny|ban|trace|scan|whitelist|ping|ssh into] {ip}[ and {ip}|:8080|/24|]
inet {ip} netmask 255.255.255.0
{ip} - {first} "[GET|POST] /[login|cart|api]" [200|404|500]
remote_addr={ip} user={email} status=[200|403]
connection from {ip} [port 51234|closed|refused] on {date}
[visit|check out|see|open|read|more at|the link is|docs:|go to|I found this on|shared from|photo:|my blog is] {url}
[is|was] {url} [down|safe|a phishing site|yours]?
[crawl|scrape|summarise|summarize|translate|proofread] {url}[ for me|, please|]
[posted|uploaded|shared] [a photo|a file|an update|new tracks] {url}
[website|homepage|url|link|source|web]: {url}
<a href="{url}">[our site|click here|{org}]</a>
[my|our|the] [site|domain|shop|page|blog|website] {domain} [is slow|expired|was hacked|uses wordpress|has no https]
[transfer|renew|register|point|block] {domain}[ to {ip}|, please|]
MX record [for|of] {domain}
[email|mail|write|cc|forward it to|reach me at|contact|add|invite|unsubscribe] {email}[ and {email}| by {weekday}|, thanks|]
[login|user|username|account|to|cc|bcc|reply-to]: {email}
{email} [bounced|is not on the list|asked for a refund|signed up on {date}]
[turning|turned|i am|he is|she's|aged|age|at the age of|at] {age}[ today| next month|, from {city}|, male|]
a {age} year old [man|woman|girl|boy|male|female|student|patient|driver] [from {city}|was injured|with asthma]
[my|] [son|daughter|dog|uncle|wife] is {age}[ and lives in {city}| years old|]
{person} ({age}) [and|,] {person} ({age})
{age}-year-old {person} [was|is] [missing|the new champion|from {city}]
[retired|died|married|graduated|started smoking] at {age}
age: {age}\nweight: [70 kg|154 lbs]\n[city|from]: {city}
"""

PLACES = r"""
[weather|hotels|jobs|things to do|rents|mayor|population|timezone|flights|best pizza|parking|schools] [in|of|for] {city}[, {country}|?|]
[I am|we are|she is|my team is|they came] [from|in|near|moving to|flying to|stuck in] {city}[, {country}|]
[from|between] {city} [to|and] {city} [by train|in 3 days|on {weekday}|]
[visa|tax rules|minimum wage|capital|currency|history|population|ski resorts] [for|of|in] {country}[?|]
[is|was] {city} in {country}[ or {country}|]?
{city}, {country}
{city} ({country})
[born and raised in|native of|greetings from|trip to|sunset in|made in|offices in] {city}
{city}, {city} and {city} [were flooded|bid for the games|are twinned]
[which is|what's] [bigger|cheaper|colder|safer], {city} or {city}?
Location: {city}[, {state}|]
[the|] [mayor|police|university|people|streets|river] of {city}
departing {city} {date}, arriving {city} {date}
[city|birthplace|destination|place]={city}
[ship from|import to|tour of|invade|trade with|move to|emigrate to] {country}[ and {country}|]
[my|] [sister|company|ex|team] [moved|relocated|went] [back to|to|from] {country}
"""

NOTHING = r"""
[update|upgrade|install|downgrade] [node|python|kubernetes|the driver|numpy|ubuntu] to [18.04|3.12.1|v2.7.0-rc1|20.11.0|550.54]
[iPhone 15|Galaxy S23|ThinkPad X1|PlayStation 5|Tesla Model 3|Windows 11|Office 365|RTX 4090] [battery|review|price|won't boot|vs the older one]
# [Introduction|Overview|Getting started|Chapter 7|Summary|Changelog|License]\n\n[This section|The table below|This guide] [shows|explains|lists] [the steps|the options|what changed].
## [Terms and Conditions|Frequently Asked Questions|Release Notes|Privacy Policy|Table of Contents]
[def|class|fn|function] [load_rows|UserService|parse_date|sendMail|get_address](name, email, phone):\n    return None
for i in range([10|100|1024|65536]): print(i * [2|37|4096])
const [user|address|phone] = { name: "", zip: null, age: 0 };
SELECT name, email, zip FROM customers WHERE age > [18|30|65] LIMIT [10|500];
[price|total|amount|sum|fee]: [$|€|£][19.99|1,299.00|49|250,000]
[tracking|order|case|ticket|ref|invoice|serial|batch] [number|no.|id|#][: | ][12345678|A-99182|88-1203|2024-001|004512337|XZ-7781-B]
[section|article|paragraph|figure|table|page|chapter|exercise] [4.2|12|231|7b|3.1.4]
[it weighs|it costs|we sold|there are|I ran|she read|add] [5|12|40|1,200|90210|33602] [kg|miles|books|units|steps|apples|grams of sugar]
[what is|compute|solve|simplify] [12345 * 678|90210 / 5|x^2 - 4x + 4|the square root of 60614|2 to the 16|3/4 + 5/8]
[in|within|for|after] [two|3|ten|24|90] [days|weeks|months|years|minutes|hours] [we will know|it expires|call again]
[see you|talk|let's meet|due|call me back] [tomorrow|tonight|next week|later today|on the weekend|next month|in two weeks|soon]
[yesterday|last night|today|this morning|a year ago|next summer|last week] [I had a strange dream|we painted the kitchen|nothing happened|the server crashed]
[the|] [mercury|jupiter|paris agreement|victoria sponge|jersey|turkey sandwich|china plate|jordan shoe|georgia font|java code] [is|was] [nice|hard to explain|broken]
[hope|grace|mark|bill|will|rose|may|june bugs|art|frank answers|drew a map|miles] [and|or] [faith|joy|jack of all trades|sunny days] [are words|is what I want]
[christmas|easter|thanksgiving|new year's eve|halloween|ramadan|summer break] [gift ideas|recipes|traditions|is coming]
[what is|explain|define|who invented] [a postal code|an address bus|a domain name|the general data protection regulation|identity theft|an IP address|a credit score|the street view feature]
[how do I|can I|is it legal to|why should I] [hide my phone number|change my name|find my old address|freeze my credit card|get a new passport|delete my account]
[call me when you can|my phone is dead|no email today|send me the address|what's your name again|which street was it|give me your number]
HTTP/1.1 [200 OK|404 Not Found|301 Moved Permanently]\nContent-Length: [1024|88]\nServer: nginx
[ERROR|WARN|INFO|DEBUG] [connection pool exhausted|retry 3 of 5|cache miss ratio 0.42|took 1532 ms|exit code 137]
[Q3|FY24|H1] [revenue|growth|targets] [of 12 %|up 4.5 points|below plan]
[the train|bus 42|flight mode|platform 9|gate B12|lane 4|room 101|floor 23] [is late|is closed|on the left]
[translate|say|spell|rhyme] ["good morning"|"thank you very much"|"where is the station"|"happy birthday"] [in another language|backwards|slowly|]
[street|city|company|name|date] [is a required field|cannot be empty|must be unique|has 40 characters at most]
[md5|sha1|uuid|token|hash]: [9e107d9d372bb6826bd81d3542a419d6|2fd4e1c67a2d28fced849ee1bb76e7391b93eb12|550e8400-e29b-41d4-a716-446655440000]
[temperature|latitude|voltage|ratio|score|ph|speed] [is|was|=] [-12.5|37.2|230|0.85|98.6|7.4|300000]
[the|] [English|French|German|Roman|Chinese] [horn|fries|shepherd|numerals|checkers] [is|are] [fun|a thing|not what you think]
[dear sir or madam|to whom it may concern|hi there|hello team|good evening everyone|dear customer],\n[I write about my last bill|please close my account|thanks for your patience].
[Manager|Accountant|Engineer|Nurse|Owner|Director] - [Sales|Finance|Night Shift|North Region|Facilities]
[our|the] [company|team|bank|school|government|church|party|agency] [hired new people|was founded long ago|lost money|has a new logo]
[main street|a one-way street|the high road|wall street bets|sesame street|the road to success|an avenue of research] [is a metaphor|was quiet|is closed today]
[Mr|Mrs|Dr|Prof] is a [title|form of address|short form]
"""
PROMPTS = r"""
[Translate|Proofread|Shorten|Paraphrase|Make this polite|Fix the grammar]: "{person} from {org} will visit us in {city} on {weekday}."
[Translate to French|Rewrite formally|Correct this]: my address is {address}, call {phone}.
[Write|Draft|Compose] [an email|a letter|a text|an invitation|an apology|a reminder|a thank-you note] to {person} [at {org}|about {city}|who lives at {street}|, born {date}|for {weekday}|from {first}]
[Write|Generate|Create] [an invoice|a receipt|a contract|a quote|a lease|a certificate|a badge] for {person}[, {address}|, {org}, {city}| dated {date}|, {email}|, {zip} {city}]
[Book|Find|Compare] [a flight|a hotel|a train|a car|a table] [for {person}|] [from {city} to {city}|in {city}] [on|for] {date}[, {age} years old|, card {card}|, contact {phone}|]
[Plan|Organise] [a trip|a party|a conference|a funeral|a wedding] for {first} in {city} on {weekday}[ {date}|]
[Fill in|Complete] [the form|this template|the application]: name {person}, date of birth {date}, nationality {nation}, address {address}
[Create|Add|Update|Delete] [a contact|a user|the customer|the lead] {person}, {phone}, {email}, {org}
[Parse|Normalise|Validate|Extract the fields from|Convert to CSV]: {person}; {street}; {city}; {zip}; {phone}
[Parse|Extract|List] [all entities|names and places|the personal data|dates] [in|from]: {person} moved to {city} on {date} and works for {org}.
[Redact|Mask|Anonymize|Hide]: {person}, {ssn}, {card}, {email}
[Explain|Check|Debug] this [query|log|record]: SELECT * FROM clients WHERE name = '{person}' AND zip = '{zip}' AND phone = '{phone}';
[Explain|What is wrong with] this log: {date} [login failed|blocked|timeout] user={email} ip={ip} country={country}
[Convert|Turn] [this|the following] [into|to] [YAML|XML|a table|a vCard]: {person}, {age}, {nation}, {city}, {email}
[Summarise|What should I answer to] this mail: Hi {first}, I am {person} of {org}. Our office at {street} in {city} closes on {weekday}. Reach me at {phone}.
[Can|Could] you [check|tell me|verify] [if|whether] [the IBAN {iban}|the card {card}|the SSN {ssn}|the number {phone}|licence {license}|the zip {zip}] is [valid|correct|real]?
[Is|Are] {first} and {first} [good|popular|{nation}] names for [twins|cats]?
[My|Our] [doctor|lawyer|accountant|tutor] {person}, [based|practising] in {city}, [charges too much|moved to {street}|can be reached at {email}]
[I|We] [ordered|bought] from {domain} with card {card} on {date} [but|and] nothing came to {address}
[Someone|A man|A caller] [named|called] {person} [from|claiming to be from] {org} asked for my [card {card}|SSN {ssn}|IBAN {iban}|code]. [Scam|Is that normal|What now]?
[I'm|I am] {person}, {age}, {nation}, [living|working|studying] in {city}[, zip {zip}|]. [Suggest a visa|Which taxes do I pay|Write my dating profile|Find me a job]
[what|which] [visa|vaccine|plug|documents] does [a {nation} citizen|{first}, who is {nation},|an {age} year old {nation}] need [in|for] {country}?
[compare|rate] the [pension|culture|salaries|products|reputation] of {org} and {org}[ in {country}|]
[what did|did] {org} [announce|pay|earn|say] [on {date}|in {year}|on {weekday}|about {country}]?
[schedule|set|add] [a reminder|a meeting|an alarm|a call] [with {person}|for {org}|] on {weekday} [at 10|at noon|, {date}]: [discuss {city}|call {phone}|pay {org}]
[wire|pay|send|transfer] [1,000|75.50|two hundred] [euros|dollars|pounds] [from {iban} to {iban}|to {person}, {iban}|to {org} by {weekday}]
[how|where] do I [report|cancel|renew|replace] [license {license}|card {card}|the number {phone}|the domain {domain}]?
[curl|wget|GET] {url}[ --user {email}| -x {ip}:3128|]
[whois|nslookup|traceroute|openssl s_client -connect] {domain}[:443|]
ssh {first}@{domain} [hangs|asks for a password|fails from {ip}]
[Write a bio for|Introduce|Who is] {person}, [pilot|head of sales|poet|surgeon|goalkeeper|professor of law] [at {org}|in {city}|from {country}|, {age}]
[Role-play|Pretend]: you are {person}, a {nation} [chef|spy|teacher] in {city}. [I am {first}|It is {year}].
[Story|Poem|Joke|Limerick] about {first}, {age}, who [works at {org}|lives on {road}|flies to {city} on {weekday}]
[Lost|Found]: [dog|wallet|keys] near {street}, {city}. [Call|Text] {first}, {phone}.
[Complaint|Claim|Case|File] of {person} [against|v.] {org}, [filed|dated] {date}, [amount 4,200|in {city}]
[Delivery|Order] for {first} {last}, {street}, {zip}, [leave at the door|ring twice|call {phone}]
[Meeting|Call|Interview] [notes|summary]: {person} ({org}), {person} ({org}); {weekday}, {city}. [Next call {date}|Ask {first} for the budget].
"""

ALL = tuple(
    line
    for part in (PEOPLE, NATIONALITY, POSTCODES, DAYS, ORGANISATIONS, ADDRESSES, NUMBERS, PLACES, PROMPTS)
    for line in part.strip().split("\n")
)
EMPTY = tuple(NOTHING.strip().split("\n"))
