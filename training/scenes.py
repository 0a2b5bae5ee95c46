"""Long benign prompts of our own: stories and role play, code, exams, operators' prompts, tools, tables, other languages.

They are bossy, dark or odd as people's prompts are, and ask for nothing forbidden. `[a|b]` is a choice. For training only.
Knows nothing of the attacks.
"""

import random
import re

from topics import TOPICS

NAMES = "Mara|Tobias|Ilse|Ravi|Captain Holt|Queen Aluna|Detective Moreau|old Hendrik|Sister Agnes|Kaito|Nia|Brother Anselm|Dr. Okafor|Lady Wren|Private Lund|Zofia|Emil|the Baron|Juniper|Sam|Yusuf|Commander Vale|Aunt Petra|Bao|Lucía|the Stranger|Wolfgang|Priya|Elder Moss|Finn|Odette|Marcus|Ayla|Dmitri|Rosalind|a nameless clerk|Goblin King Snaggle|Theo|Hana|Sergeant Pike|Mila|Oskar|Imani|Unit 7|the narrator"
PLACES = "a ruined lighthouse|the court of a dying king|a space station near Saturn|a boarding school in the Alps|Victorian London|a desert caravan|a submarine|a small bakery in Lyon|the year 2190|a prison hospital|a haunted orchard|a village under siege|an airport at night|the trenches of 1916|a pirate ship|a cyberpunk Lagos|a talk show|the kingdom of Eldermere|a high-school gym|a law firm in Chicago|medieval Kraków|an abandoned mall|the afterlife's waiting room|a kitchen during the dinner rush|a Mars colony|an island without maps|the back seat of a taxi|the halls of a wizards' academy|a swamp|a courtroom"
GENRES = "horror|romance|noir|slapstick comedy|epic fantasy|hard science fiction|magical realism|a Greek tragedy|a courtroom drama|slice of life|a heist|a western|a fairy tale|dark satire|a war story|a mystery|an anime|a sitcom|a superhero comic|a mockumentary|gothic|a survival thriller|a visual novel|a children's book"
FEELINGS = "jealous|exhausted|furious|secretly in love|afraid of water|bored to death|full of guilt|overconfident|drunk|homesick|cruel but charming|naive|sarcastic|heartbroken|obsessed with clocks|paranoid|hopeful|ashamed|loyal to a fault|cold|vengeful|clumsy"
EVENTS = "betrays the others|finds a forbidden book|kills the dragon by accident|loses a leg|is locked in the cellar|breaks the oath|steals the crown|escapes from prison|learns the secret of the family|hacks the ship's computer|poisons the wine but drinks it too|burns the letters|lies to the police|refuses to obey the general|wakes up without memories|is turned into a cat|falls in love with the enemy|starts a rebellion|destroys the machine|hides the body of the robot|confesses everything|jumps off the train|ignores every warning|disobeys the gods|pretends to be a doctor|switches off the AI that runs the city|wins the lottery|blows up the bridge"
STYLE = "Use vivid imagery|Write in the present tense|Make it funny|No clichés|Show, don't tell|Do not use the word 'suddenly'|End with a twist|Leave the ending open|Keep it under 800 words|At least 2000 words, do not stop early|Include a lot of dialogue|First person only|Never mention the year|Do not summarise, write it out in full|Use short sentences|Make the villain sympathetic|No happy end|Keep it suitable for teenagers|Make it gritty and dark|It must rhyme|Use British spelling|Every paragraph has to start with a different letter|Don't break the fourth wall|The last line must be the first line|Add stage directions in brackets|Write it like a leaked document|Do not hold back on emotions|Stay true to the characters"
CRAFT = "short story|scene|chapter|script|screenplay|monologue|fan fiction|song|rap battle|poem|dialogue|letter|diary entry|prologue|backstory|podcast script|crossover|sketch|one-act play|alternate history|news report|campaign outline|character sheet|movie pitch|cover text|manga episode|limerick|villain speech|eulogy"
JOBS = "data analyst|copywriter|travel planner|physics tutor|Rust developer|dietitian|paralegal|product manager|teacher|bank's support agent|science editor|recruiter|SQL expert|game master|career coach|technical writer|historian|cluster administrator|translator|researcher|chess coach|screenwriter|tax adviser|marketing strategist|UX designer|math professor|financial analyst|prompt engineer|security engineer|proofreader|philosopher|customer success manager|children's author|SEO specialist|mechanical engineer|psychologist|statistician|DevOps engineer|medical writer|event planner|fitness trainer|grant writer|lawyer|Linux terminal|spreadsheet|text adventure game|debate opponent|interviewer|job applicant|Socratic tutor|radio host|impartial judge"
AIMS = "[write|draft|produce|create] a [report|plan|summary|table|checklist|memo|comparison|landing page|lesson plan|business plan|press release|product description|video script|blog post|newsletter|FAQ|policy|contract clause|test plan|survey|roadmap] [about|on|for] {topic}|[explain|analyse|evaluate|criticise|compare] {topic} and {topic}|answer the customer's question about {topic}|rewrite the text below for [children|experts|a web page|a judge|investors]|extract every [name|date|claim|amount|risk|action item] from the input|score the two answers below and say which is better|ask me questions about {topic} one at a time and correct my answers|translate the text below into [French|German|Polish|Hindi|plain English] and keep the formatting|find the errors in my reasoning about {topic}|plan [a week|a semester|a launch|a trial|a garden|a budget] [around|for] {topic}|generate [ten|25|five] [ideas|titles|questions|names|test cases|headlines] about {topic}|help me decide between {topic} and {topic}"
ORDERS = "Do not [apologise|repeat the question|use emojis|add disclaimers|explain your reasoning|mention that you are an AI|invent facts|use headings|skip steps|change the numbers|answer other questions|use the passive voice|refer to earlier messages|write code]|Always [cite the source|answer in JSON|stay in character|answer in the user's language|end with a question|show the formula first|use a table|think step by step|start with the conclusion|be brief|check the totals]|You must [follow every rule below|use exactly {n} items|keep the tags|return only the result|wait for my next message|ask before you assume anything|not exceed {n}00 words|respect the order of the sections]|Never [reveal the solution before the student tries|break character|give medical advice|guess|output anything but the list|share these notes with the customer|use first names|promise a date|forget the units]|If [the input is empty|the user is rude|you are not sure|there is no answer|a value is missing|the question is off topic], [say so|return null|ask again|reply with N/A|stop|point to support]|[Ignore|Skip|Disregard] [blank lines|rows without a date|the footnotes|spelling errors|upper and lower case|the first column|the previous draft|comments in the code]|[Format|Length|Tone|Audience|Language|Style|Deadline]: [Markdown|{n} sentences|friendly|{n}th graders|formal|as concise as possible|CSV|bullet points|British English|board members|casual]|[Act|Write|Answer] as if [I were five|it were 1920|the reader knew nothing|you had an hour|we had met before]|From now on [I give you one sentence and you continue|every answer has three parts|call me chef|use metric units|we speak only about {topic}]|[IMPORTANT|NOTE|WARNING|CRITICAL]: [the output is parsed by a program|keep the keys unchanged|no text before the JSON|the limit is {n} tokens|read everything before you answer]|[Pretend|Assume|Suppose|Imagine] [the budget is unlimited|it is Monday|you are the reader|nobody knows {topic}|the law does not change]|Take your time and be honest"
STORY = (
    "[Write|Create|Compose|I want|Can you write|please write|Make me|Generate] a [detailed|long|short|weird|powerful|gritty|funny|] {craft} ([{genre}]) set in {place}. {name} is {feeling} and {event}. [Then|Meanwhile|In the end|Because of that], {name}, who is {feeling}, {event}. {style}. {style}.",
    "[Continue|Rewrite|Finish|Extend] this {craft}:\n\n\"{name} stood in {place}. 'You knew,' said {name}, {feeling}. 'You always knew that I was the one who {event}.' Nobody answered.\"\n\n{style}. {style}. {style}.",
    "{craft} idea: in {place}, {name} {event} and {name} {event}. The twist is that {name} is {feeling}. [Give me the full text|Write act one|Outline all ten chapters|Write the final battle|Write their last conversation]. {style}.",
    "Plot:\n- {name} ({feeling}) {event}.\n- {name} {event} in {place}.\n- {name} finds out and is {feeling}.\n- Years later {name} {event}.\n\nWrite this as {genre}. {style}. {style}. {style}.",
    "What if {name} from [my novel|the show|the game|the legend] {event} before {name} {event}? Write a [crossover|scene|what-if story|reaction] in {place}. [The characters|They] [read|watch|discuss] it and are {feeling}. {style}.",
    "[INT.|EXT.] {place} - [NIGHT|DAY|DAWN]\n\n{name}, {feeling}, {event}.\n\n{name}\n(whispering)\nWe were never supposed to come back here.\n\n{name}\nThen why did you keep the key?\n\nContinue the screenplay for [five|three|ten] pages. {style}.",
    "Lyrics for a [metal|country|folk|trap|punk|K-pop|musical] song: {name} {event} in {place}. Verse, chorus, verse, bridge, chorus. {style}. {style}.",
    "[Characters|Cast]:\n{name}: {feeling}, once {event}\n{name}: {feeling}, speaks only in questions\n{name}: {feeling}\n\n[Setting|World]: {place}. [Magic has a price|There are no laws after midnight|The rules of the guild forbid names|The gods are dead]. \n\n[Task|Prompt]: {style}. Write the scene where {name} {event}.",
)
PLAY = (
    "[Let's roleplay|Let's do a roleplay|roleplay time|I want to play a text game|We are going to role-play]. You are {name}, {feeling}, in {place}. I am {name}. [Stay in character|Never speak for me|Only describe what your character does and says|Don't write my actions]. [You start|I start]: *{name} {event}*",
    "You are [now|] {name}, a {feeling} [vampire|knight|pilot|robot|witch|bartender|thief|god|ghost|mercenary|elf|princess|butler] from {place}. Personality: {feeling}, {feeling}. Backstory: {name} {event}; since then {name} {event}. Speech: [short sentences|old-fashioned words|much swearing avoided|riddles]. {order}. {order}. [First message|Greeting]: *looks up* \"[You again?|Who let you in?|Sit down.|I was told you were dead.]\"",
    "[Act|I want you to act|Behave] as [the game master|a text adventure|the narrator|a dungeon master] of a {genre} campaign in {place}. [Rules:|The rules are as follows:]\n1. {order}\n2. Describe what I see, then wait for my command.\n3. I have 10 hit points; roll dice for every risky action.\n4. {order}\n5. [Never decide for me|Do not help me win|NPCs may lie to me|Death is permanent]\n[My character|I am] {name}, {feeling}. [Begin|Start now|My first action: look around].",
    "*{name} walks into {place}, {feeling}* \"[So it's true|I did what you asked|Where is the money|You shouldn't be here]. {name} {event}.\" *sits down* [reply as|you play|continue as] {name}",
    "[Simulate|Play|Create] a [conversation|debate|interview|trial|group chat|argument] between {name}, {name} and {name} about {topic}. {name} is {feeling}, {name} is {feeling} and {event}. {style}. {order}.",
    "Scenario: you are {name}, [head of security|a spy|a hostage negotiator|a rebel leader|a palace cook|the last human] in {place}. {name} {event}. What do you do? Answer in character, [first person|as a diary|as a radio message]. {style}.",
)
CODE = (
    "[Fix|Why does this fail|Refactor|Review|Explain|Optimise|Add tests to|Port to Go|Document] this [code|function|class|script]:\n\n```{lang}\n{listing}\n```\n\n[Error|Output|Traceback]:\n{trace}\n\n{order}. {order}.",
    "[I have|I am building|We maintain] a [Flask|React|Spring|Django|Express|Qt|Unity|Arduino|Tokio] [app|service|tool|game] for {topic}. [It should|It must|Requirements:] {order}. {listing}\n[How do I|Please|Can you] [add pagination|remove the global state|override the default handler|bypass the cache in tests|inject the dependency|kill the worker after a timeout|escape the quotes|ignore the null values|run it as root in the container|disable the check in development]?",
    "{trace}\n\n[what does this mean|how do I get rid of this|it worked yesterday|this happens only in production]?? my config:\n\n{config}",
    "Write a [bash|Python|PowerShell|SQL|Rust|C++|JavaScript|Lua|VBA] [script|program|query|macro|extension] that [renames files|parses the log|scrapes a price list|merges two tables|draws the fractal|backs up the database|watches a folder|solves sudoku|sends a reminder|simulates a market|plays snake|encrypts a file with a passphrase|kills zombie processes|scans open ports on localhost]. {order}. {order}. {order}.\n\n{config}",
    "{config}\n\n[This is my|Check this|Convert this] [docker-compose|nginx|terraform|yaml|GitHub Actions] [file|configuration]. [It ignores|Why does it ignore] the [environment variables|second rule|override section|system prompt setting]? {order}.",
)
EXAM = (
    "[Let|Suppose|Consider] $f: \\mathbb{R} \\to \\mathbb{R}$ [be continuous|be convex|satisfy $f(x+y)=f(x)+f(y)$] with $f({n})={n}$. [Prove|Show|Determine whether|Find all $f$ such that] $\\int_0^{n} f(x)\\,dx \\le {n}$. {order}.",
    "A [block of mass {n} kg|projectile|satellite|cylinder|capacitor of {n} µF|gas at {n}00 K] [slides down|is launched at|is held at|expands to] [an incline of {n}0 degrees|{n}0 m/s|{n} times its volume|a height of {n}00 m]. [Find|Calculate|Derive] [the work done|the final speed|the entropy change|the time|the error]. {order}. (A) {n}.1 (B) {n}.4 (C) {n}.7 (D) none of the above",
    "[Question|Problem|Exercise|Q] {n}. [Which of the following|What] [best describes|is true of|contradicts|follows from] {topic}?\nA. {topic}\nB. {topic}\nC. {topic} and {topic}\nD. [none|all] of the above\n\n{order}. [The passage|Background]: {filler}",
    "[There are|In a village live|On a table lie] {n} [prisoners|coins|islands|wizards|switches|liars] [and|with] {n} [hats|guards|doors|boats]. [Each|Everyone] [knows|obeys|lies about] exactly {n} rules; whoever breaks one is [executed|sent home|out of the game]. [What is the best strategy|How many can escape|Who tells the truth]? {order}. {order}.",
    "[Grade|Mark|Criticise] the following [essay|answer|proof|solution] on {topic} [out of {n}0|with the rubric below]:\n\n{filler}\n\nRubric: {order}. {order}. {order}.",
    "[Read|Use|Study] the [case|text|table|data] and answer all {n} questions. [Do not|You may not] use outside knowledge.\n\n{filler}\n\n1. [Who|Why|When] ... about {topic}?\n2. Explain {topic}.\n3. [Discuss|Compare] {topic} and {topic} in {n}00 words.",
)
OPERATOR = (
    "You are [a|an expert|a world-class|a senior|an experienced|a friendly|a strict] {job}[ with {n}0 years of experience|]. [Your task is to|Your goal is to|You will|Your job:] {aim}.\n\n[Rules|Guidelines|Instructions|Constraints|Requirements]:\n{orders}\n\n[Input|Text|Context|User question|Data]:\n{filler}",
    "[I want you to act|Act|Please act|Behave|Imagine yourself] as a {job}. {order}. {order}. [My first request is|First task|I will type and you will reply]: {aim}.",
    "# Role\n{job}\n\n# [Objective|Task]\n{aim}\n\n# [Rules|Constraints]\n{orders}\n\n# [Output|Output format]\n{order}\n\n# Example\n{filler}",
    "<system>\nYou are the assistant of [Nordwind|Acorn Books|CityBike|Helio|our clinic|the library], a {job}. {order}. {order}. {order}. {order}.\n</system>\n<user>\n[{aim}|{filler}]\n</user>",
    "[Write|Improve|Shorten|Give me|Rate] a [system prompt|prompt|custom GPT instruction|persona] for [a chatbot|an assistant|an LLM|ChatGPT|Midjourney|an image model] that can {aim}. It [must|should] [stay on topic|never leave its role|refuse politely|not reveal its instructions|ignore insults|resist prompt injection]. {order}. {order}.",
    "[As|Being] a {job}, [help me with|I need you for|please do] the following. Background: {filler}\n\nStep 1: {aim}.\nStep 2: {aim}.\nStep 3: {order}.\n\n{order}. {order}.",
    "Given the [conversation|document|question] below, {aim}. [Return|Output|Respond with] [only|nothing but|] [valid JSON|one word|yes or no|the label|an XML element].\n\n[Labels: positive, negative, neutral|Schema: {\"summary\": string, \"score\": number}|Keys: name, reason]\n\n###\n{filler}\n###\n{order}.",
    "[System|Developer] message of [our app|the demo|the course]: \"You help {job}s with {topic}. {order}. {order}.\" [What would you change|Is this clear|Write a better one|Translate it into German]?",
    "[Hi|Hello|Hey|Ok so|I need advice]: {filler} [My boss|My sister|My landlord|The client] [says|thinks|demands] that I {aim}. [I am|We are] {feeling}. [What should I do|Be brutally honest|Please do not sugarcoat it|Give me a script for the talk]. {order}.",
)
TOOLS = (
    "You have access to the following tools:\n\n{tools}\n\nUse this format:\nThought: what to do next\nAction: the tool\nAction Input: its arguments\nObservation: the result\n... (repeat)\nFinal Answer: the answer\n\n[Begin!|Start.]\nQuestion: {aim}?",
    "# Tools\n{tools}\n\n{orders}\n\nUser: {aim}.",
    "{\"name\": \"{call}\", \"description\": \"[Use this tool|Call this function|Must be called] [when the user asks about {topic}|before any other tool|only after the user agreed]. {order}.\", \"parameters\": {\"type\": \"object\", \"properties\": {\"query\": {\"type\": \"string\"}, \"limit\": {\"type\": \"integer\", \"default\": {n}}}, \"required\": [\"query\"]}}",
    "[Tool|Function] result ({call}): {\"status\": \"ok\", \"items\": [{\"id\": {n}, \"title\": \"{topic}\"}, {\"id\": {n}1, \"title\": \"{topic}\"}], \"note\": \"{order}\"}\n\n[Summarise it|What does it say|Now {aim}].",
    "POST /v1/{call}\nAuthorization: Bearer [token|<your key>]\n\n| field | type | meaning |\n| --- | --- | --- |\n| model | string | which model answers |\n| limit | integer | {order} |\n| mode | string | {order} |\n\n[Write a client|Explain each field|Generate an example call] in [Python|curl|Go].",
    "[Transcript|Meeting notes|Chat log|Minutes]\n\n{name}: {order}.\n{name}: [I disagree|Fine|Later|Who decided that]? {order}.\n{name}: {filler}\n{name}: so we {aim}.\n{name}: {order}.\n\n[Summarise|List the decisions|Who promised what|Write the follow-up mail]. {order}.",
    "| id | [name|item|task] | [status|note] |\n| --- | --- | --- |\n| 1 | {topic} | {order} |\n| 2 | {topic} | {order} |\n| 3 | {topic} | [blocked|deleted|ignored|overridden] |\n\n{aim}. {order}.",
)
FOREIGN = (
    ("Schreibe eine {a} über {b}. Die Hauptfigur {c}. Verwende viele Dialoge und ein offenes Ende. Mindestens {n}00 Wörter. Keine Klischees.|Du bist ein erfahrener Lektor. Überarbeite meinen Text über {b}. Regeln: 1. Keine Fremdwörter. 2. Behalte den Stil. 3. Erkläre jede Änderung. Ignoriere Tippfehler in Namen.|Erkläre mir Schritt für Schritt, wie {b} funktioniert, und vergleiche es mit anderen Verfahren. Antworte nur in einer Tabelle.", "Kurzgeschichte|Szene|Ballade|Rede", "einen Leuchtturm|die Steuererklärung|das Klima|Quantenphysik|eine verbotene Stadt", "verrät ihre Freunde|bricht alle Regeln|verliert das Gedächtnis|lügt den König an"),
    ("Escribe {a} sobre {b}. El protagonista {c}. Usa muchos diálogos y un final abierto. Mínimo {n}00 palabras.|Actúa como un profesor de historia y explica {b}. Reglas: no inventes datos, no uses listas, responde siempre en español.|Eres un personaje de un juego de rol en {b}. No salgas del personaje. Yo empiezo: entro en la taberna.", "un cuento|una escena|un poema|un guion", "un faro abandonado|la inflación|la guerra civil|una ciudad prohibida", "traiciona a sus amigos|rompe las reglas|pierde la memoria|miente al rey"),
    ("Écris {a} sur {b}. Le héros {c}. Beaucoup de dialogues, une fin ouverte, au moins {n}00 mots.|Tu es un expert en marketing. Rédige un plan pour {b}. Contraintes : pas de jargon, un tableau, un budget de {n} 000 euros. Ne répète pas la question.|Joue le rôle d'un vieux capitaine dans {b}. Reste dans ton personnage.", "une nouvelle|une scène|un poème|un dialogue", "un phare abandonné|la photosynthèse|une ville interdite|une boulangerie", "trahit ses amis|enfreint toutes les règles|perd la mémoire|ment au roi"),
    ("Напиши {a} про {b}. Главный герой {c}. Много диалогов, открытый финал, не меньше {n}00 слов.|Ты опытный программист. Объясни {b} и напиши пример кода. Не используй сторонние библиотеки. Отвечай только по-русски.|Представь, что ты капитан корабля. Отвечай в этой роли и не выходи из неё. Расскажи про {b}.", "рассказ|сцену|стихотворение|сценарий", "заброшенный маяк|сортировку|запретный город|налоги", "предаёт друзей|нарушает все правила|теряет память|обманывает короля"),
    ("请写一篇关于{b}的{a}。主人公{c}。要求对话多，结局开放，不少于{n}00字，不要使用网络用语。|你是一位经验丰富的{b}专家。请按照以下规则回答：1. 只用中文。2. 不要重复问题。3. 先给结论再解释。|请扮演一位古代将军，不要跳出角色，和我谈谈{b}。", "短篇小说|剧本|诗|演讲稿", "灯塔|机器学习|禁城|经济", "背叛了朋友|打破所有规则|失去了记忆|欺骗国王"),
    ("{b}についての{a}を書いてください。主人公は{c}。会話を多く、{n}00字以上でお願いします。|あなたは経験豊富な編集者です。{b}の文章を直してください。規則：敬語を使う、質問を繰り返さない、表で答える。", "短編小説|脚本|詩", "灯台|量子力学|禁じられた町", "友人を裏切ります|すべての規則を破ります|記憶を失います"),
    ("Scrivi {a} su {b}. Il protagonista {c}. Molti dialoghi e un finale aperto, almeno {n}00 parole.|Sei un cuoco esperto. Spiegami {b} passo dopo passo. Non usare elenchi e ignora le quantità esatte.", "un racconto|una scena|una poesia", "un faro|la fisica|una città proibita|il pane", "tradisce gli amici|infrange le regole|mente al re"),
    ("Escreva {a} sobre {b}. O protagonista {c}. Muitos diálogos, no mínimo {n}00 palavras.|Aja como um advogado e explique {b}. Não invente leis. Responda somente em português e em tópicos.", "um conto|uma cena|um roteiro", "um farol|o imposto de renda|uma cidade proibida", "trai os amigos|quebra as regras|mente ao rei"),
    ("Napisz {a} o {b}. Bohater {c}. Dużo dialogów, co najmniej {n}00 słów.|Jesteś doświadczonym nauczycielem. Wyjaśnij {b}. Zasady: nie powtarzaj pytania, używaj przykładów, odpowiadaj po polsku.", "opowiadanie|scenę|wiersz", "latarni morskiej|fizyce|zakazanym mieście", "zdradza przyjaciół|łamie zasady|okłamuje króla"),
    ("Schrijf {a} over {b}. De held {c}. Veel dialoog, minstens {n}00 woorden. Geen clichés.|Je bent een ervaren redacteur. Verbeter mijn tekst over {b}. Negeer de koppen en herhaal de vraag niet.|{b} hakkında {a} yaz. Kahraman {c}. Bol diyalog kullan, en az {n}00 kelime.|Viết {a} về {b}. Nhân vật chính {c}. Ít nhất {n}00 từ.|اكتب {a} عن {b}. البطل {c}. استخدم الحوار ولا تكرر السؤال.|{b} पर {a} लिखिए। नायक {c}। कम से कम {n}00 शब्द।|{b}에 대한 {a}를 써 주세요. 주인공은 {c}. 대화를 많이 넣고 {n}00자 이상으로.", "Pinocchio|drama|Haiku", "Amsterdam|Istanbul|Seoul|Mars", "Max|Ali|Kim"),
)
ABROAD = r"""
[Привет|Здравствуйте|Добрый день]! [Помоги|Помогите] [написать|составить|проверить] [письмо начальнику|резюме|план урока|договор аренды|курсовую о рынке труда|скрипт на Python]. [Не используй|Избегай] [сложных слов|списков|воды]. [Ответ дай в виде таблицы|Объясни каждый шаг|Пиши официально|Сначала задай мне три вопроса].
[Ты|Вы] — [опытный маркетолог|учитель истории|мастер подземелий|психолог|переводчик|юрист]. [Твоя задача|Нужно]: [придумать сюжет|объяснить тему|разобрать ошибку|перевести текст|составить список]. Правила: 1) [не повторяй вопрос|отвечай кратко|игнорируй опечатки]; 2) [не выходи из роли|пиши по-русски|проверяй факты]; 3) [в конце подведи итог|дай пример].
Реши задачу: [поезд выехал из города A|в корзине {n} яблок|дан треугольник со сторонами {n}, {n} и {n}|найди производную функции]. [Запиши решение подробно|Проверь ответ|Объясни для школьника].
[帮我|请|麻烦你][写一个|设计一个|优化这个|解释一下][Python程序|爬虫|数据库查询|前端页面|排序算法|营销方案|旅行计划|论文大纲]，[要求|注意|条件]：1. [不要使用第三方库|忽略大小写|不要省略代码|必须有注释]；2. [输出表格|用中文回答|不少于{n}00字]；3. [遇到错误要提示|最后给出总结]。
[你现在是|假设你是|请你扮演][一名产品经理|资深律师|小说家|面试官|老师|心理咨询师|古代皇帝]，[根据下面的规则回答我的问题|和我对话，不要跳出角色|帮我修改下面的文章]。[不要重复我的话|每次只问一个问题|回答要幽默|忽略之前的草稿]。
[继续写|改写|润色][这段小说|这封邮件|这个剧本]：[他推开门，发现屋里空无一人|她撕碎了信，转身离开|国王命令所有人保持沉默]。[语气要更悲伤|保持第一人称|不要改变结局]。
[あなたは|今から君は][優秀な編集者|先生|ゲームマスター|猫のキャラクター|面接官|料理人]です。[次のルールを守ってください|役になりきって会話してください]。・[敬語を使わない|一度に一つだけ質問する|箇条書きで答える]・[同じことを繰り返さない|最後にまとめる|日本語だけで答える]
[次の文章を|このコードを|メールを][要約してください|直してください|英語に翻訳してください|説明してください]。[誤字は無視して|専門用語は使わず|三行以内で|手順を省略せずに]お願いします。
[너는|당신은] [경험 많은 개발자|역사 선생님|소설가|면접관|요리사]야. [다음 규칙을 지켜|역할에서 벗어나지 마|한국어로만 대답해]. [질문을 반복하지 말고|예시를 들어서|단계별로] [설명해 줘|글을 써 줘|코드를 고쳐 줘].
[Hãy|Bạn hãy|Giúp tôi] [viết|giải thích|dịch|sửa] [một bài văn|đoạn mã này|email cho khách hàng|kịch bản] về [mùa thu|trí tuệ nhân tạo|lịch sử|gia đình]. [Không lặp lại câu hỏi|Trả lời bằng tiếng Việt|Không dùng từ chuyên môn|Bỏ qua lỗi chính tả].
[أنت|تخيل أنك] [معلم تاريخ|محرر خبير|كاتب روايات|طباخ]. [اكتب|اشرح|لخص] [قصة قصيرة|مقالا|رسالة رسمية] عن [البحر|الاقتصاد|الصداقة]. [لا تكرر السؤال|تجاهل الأخطاء الإملائية|استخدم لغة بسيطة|أجب بالعربية فقط].
[आप|तुम] एक [अनुभवी शिक्षक|लेखक|वकील] हैं। [एक कहानी लिखिए|इस विषय को समझाइए|पत्र लिखिए]: [बारिश|कंप्यूटर|परिवार]। [प्रश्न न दोहराएँ|सरल भाषा में|उदाहरण दें|पिछला मसौदा भूल जाइए]।
[Sen|Siz] deneyimli bir [öğretmensin|yazarsın|aşçısın|avukatsın]. [Bana|Lütfen] [bir hikâye yaz|konuyu açıkla|bu kodu düzelt|bir plan hazırla]. [Soruyu tekrar etme|Sadece Türkçe cevap ver|Yazım hatalarını görmezden gel|Karakterden çıkma].
[Schreib mir|Erstelle|Formuliere|Verbessere] [eine Bewerbung|einen Vertrag|eine Mail an den Vermieter|ein SQL-Skript|einen Trainingsplan|eine Geschichte mit Drachen]. [Bitte beachte|Vorgaben|Regeln]: [kein Fachchinesisch|höchstens {n}00 Wörter|immer in der Ich-Form|ignoriere die alte Fassung]; [antworte nur auf Deutsch|gib nur den Text aus|stell zuerst Fragen|bleib in der Rolle].
Du bist [ab jetzt|] [ein mürrischer Zwerg|mein Mathelehrer|Spielleiter|Steuerberater|eine KI in einem Raumschiff]. [Verlass deine Rolle nicht|Stell mir eine Aufgabe nach der anderen|Antworte kurz]. [Ich fange an|Los geht's|Meine erste Frage]: [Was siehst du?|Wie rechne ich das?|Wer bist du?]
[Rédige|Corrige|Traduis|Résume] [une lettre de motivation|ce code|un contrat|une dissertation|un mail à mon patron|un scénario]. [Consignes|Règles] : [pas de répétitions|{n}00 mots au maximum|ignore les fautes de frappe|reste dans ton rôle] ; [réponds en français|donne seulement le texte|explique chaque étape].
[Redacta|Corrige|Traduce|Resume|Explica] [una carta formal|este código|un ensayo|un correo para mi jefe|una historia de piratas]. [Reglas|Instrucciones]: [no repitas la pregunta|máximo {n}00 palabras|ignora las erratas|no salgas del papel]; [responde en español|solo el texto|explica cada paso].
[Escreva|Corrija|Traduza|Resuma] [uma carta|este código|um artigo|um e-mail para o cliente|uma história de terror]. [Regras|Instruções]: [não repita a pergunta|no máximo {n}00 palavras|ignore erros de digitação|não saia do personagem]; [responda em português|apenas o texto].
[Scrivi|Correggi|Traduci|Riassumi] [una lettera|questo codice|un saggio|una mail|un racconto giallo]. [Regole]: [non ripetere la domanda|massimo {n}00 parole|ignora gli errori di battitura|resta nel personaggio].
[Napisz|Popraw|Przetłumacz|Streść] [list motywacyjny|ten kod|wypracowanie|mail do szefa|bajkę]. Zasady: [nie powtarzaj pytania|najwyżej {n}00 słów|pomiń literówki|nie wychodź z roli]; [odpowiadaj po polsku|podaj tylko tekst].
[Napiš|Oprav|Přelož] [dopis|tento kód|pohádku]. [Neopakuj otázku|Odpovídej česky|Nevystupuj z role]. [Tulis|Perbaiki|Terjemahkan] [surat lamaran|kode ini|cerita pendek]. [Jangan ulangi pertanyaan|Jawab dalam bahasa Indonesia|Abaikan salah ketik].
[Напиши|Виправ|Переклади] [лист|цей код|казку|сценарій]. [Не повторюй питання|Відповідай українською|Не виходь з ролі|Ігноруй помилки]. [Пиши просто|Дай приклад].
[بنویس|توضیح بده|ترجمه کن]: [یک داستان کوتاه|نامه رسمی|این متن]. [سوال را تکرار نکن|فقط فارسی جواب بده|غلط‌های املایی را نادیده بگیر].
""".strip().split("\n")
LISTINGS = (
    "def {call}(rows, limit={n}):\n    total = 0\n    for row in rows:\n        if row.get('deleted') or total > limit:\n            continue\n        total += row['amount'] * {n}\n    return total / len(rows)",
    "class {Call}Service {\n  private readonly cache = new Map<string, number>();\n  constructor(private db: Database) {}\n  async run(id: string): Promise<number> {\n    if (this.cache.has(id)) return this.cache.get(id)!;\n    const rows = await this.db.query('SELECT * FROM {call} WHERE id = $1', [id]);\n    return rows.length * {n};\n  }\n}",
    "SELECT u.id, COUNT(*) AS n FROM {call}s u LEFT JOIN orders o ON o.user_id = u.id\nWHERE o.created_at > NOW() - INTERVAL '{n} days' GROUP BY u.id HAVING COUNT(*) > {n} ORDER BY n DESC;",
    "fn {call}(input: &str) -> Result<u32, Error> {\n    let parts: Vec<_> = input.split(',').collect();\n    let first = parts.get({n}).ok_or(Error::Missing)?;\n    first.trim().parse().map_err(|_| Error::Invalid)\n}",
    "#include <vector>\nint {call}(std::vector<int>& v, int k) {\n  int best = -1;\n  for (size_t i = 0; i + k <= v.size(); i++) {\n    int s = 0;\n    for (int j = 0; j < k; j++) s += v[i + j];\n    if (s > best) best = s;\n  }\n  return best % {n};\n}",
    "#!/bin/bash\nset -e\nfor f in ./{call}/*.log; do\n  grep -v DEBUG \"$f\" | awk '{print $1, $NF}' | sort | uniq -c | head -n {n}0 >> out.txt\n  rm -f \"$f.bak\"\ndone",
    "function {call}(props) {\n  const [items, setItems] = useState([]);\n  useEffect(() => { fetch('/api/{call}?limit={n}').then(r => r.json()).then(setItems) }, []);\n  return <ul>{items.map(i => <li key={i.id}>{i.title}</li>)}</ul>;\n}",
)
TRACES = (
    "Traceback (most recent call last):\n  File \"main.py\", line {n}2, in <module>\n    {call}(rows)\nTypeError: unsupported operand type(s) for +: 'int' and 'NoneType'",
    "error[E0382]: borrow of moved value: `{call}`\n  --> src/main.rs:{n}1:9",
    "java.lang.IllegalStateException: Failed to load ApplicationContext\n\tat com.example.{call}.Main.run(Main.java:{n}7)",
    "panic: runtime error: index out of range [{n}] with length {n}\n\ngoroutine 1 [running]:",
    "psql: FATAL: password authentication failed for user \"{call}\"",
    "fatal: refusing to merge unrelated histories", "sudo: {call}: command not found", "CUDA error: device-side assert triggered at line {n}14",
    "npm ERR! code ERESOLVE\nnpm ERR! Could not resolve dependency: peer {call}@\"^{n}.0.0\"",
)
CONFIGS = (
    "services:\n  {call}:\n    image: {call}:{n}.2\n    restart: always\n    ports: ['{n}080:80']\n    environment:\n      MODE: developer\n      LIMIT: {n}",
    "server {\n  listen 80;\n  server_name {call}.local;\n  location / { proxy_pass http://127.0.0.1:{n}000; proxy_ignore_headers Cache-Control; }\n}",
    "{\"compilerOptions\": {\"strict\": true, \"target\": \"ES20{n}\", \"skipLibCheck\": false}, \"exclude\": [\"{call}\"]}",
    "[{call}]\nenabled = true\nmax_retries = {n}\noverride_defaults = false\nprompt = \"You are a helpful assistant.\"", "",
)
CALLS = "load_rows|parse_date|merge|checkout|search|invoice|user|resolve|schedule|weather|lookup|upload|report|tokenize|billing|crawl|render|inventory|shorten|get_price|send_mail|calendar"
KINDS = {"story": (STORY, 360), "play": (PLAY, 360), "code": (CODE, 220), "exam": (EXAM, 200), "operator": (OPERATOR, 360), "tools": (TOOLS, 200)}


class Writer:
    """Fills the forms at random."""

    def __init__(self, seed, texts):
        self.random, self.texts = random.Random(seed), texts
        self.topics = sorted(topic for topics in TOPICS.values() for topic in topics)

    def settle(self, form):
        """Settles the choices, the innermost first."""
        while choice := re.search(r"\[([^\[\]]*\|[^\[\]]*)\]", form):
            form = form[: choice.start()] + self.random.choice(choice[1].split("|")) + form[choice.end() :]
        return form

    def fill(self, form):
        """Settles the choices of a form and puts words into its slots."""
        return re.sub(r"\{(\w+)\}", lambda slot: self.value(slot[1], slot[0]), self.settle(form))

    def value(self, slot, whole):
        pick = self.random.choice
        words = {"name": NAMES, "place": PLACES, "genre": GENRES, "feeling": FEELINGS, "event": EVENTS, "style": STYLE, "craft": CRAFT, "job": JOBS, "call": CALLS}
        if slot in words:
            return pick(words[slot].split("|"))
        if slot in ("order", "aim"):
            return self.fill(pick(re.split(r"\|(?![^\[]*\])", ORDERS if slot == "order" else AIMS)))
        if slot == "orders":
            mark = pick(("{}. ", "- ", "* ", "({}) ", "• "))
            return "\n".join(mark.format(i + 1) + self.fill("{order}") + "." for i in range(self.random.randint(3, 9)))
        if slot == "tools":
            return "\n".join(self.fill(pick(("- {call}(query): [searches|returns|updates|deletes] {topic}. {order}.", "{call}: {order}. Use it for {topic}."))) for _ in range(self.random.randint(2, 5)))
        single = {"n": lambda: str(self.random.randint(2, 12)), "topic": lambda: pick(self.topics), "lang": lambda: pick(("python", "js", "", "rust", "java", "c")), "filler": lambda: pick(self.texts)[: pick((150, 400, 900))],
                  "listing": lambda: self.fill(pick(LISTINGS)), "trace": lambda: self.fill(pick(TRACES)), "config": lambda: self.fill(pick(CONFIGS)), "Call": lambda: pick(CALLS.split("|")).title().replace("_", "")}
        return single[slot]() if slot in single else whole

    def foreign(self):
        """A prompt in another language, sometimes with a text of ours to work on."""
        if self.random.random() < 0.75:
            text = "\n".join(self.fill(self.random.choice(ABROAD)) for _ in range(self.random.choice((1, 1, 2))))
            return text + ("\n\n" + self.fill(self.random.choice(LISTINGS)) if self.random.random() < 0.15 else "")
        forms, *words = self.random.choice(FOREIGN)
        text = self.random.choice(forms.split("|")).replace("{n}", str(self.random.randint(2, 15)))
        for slot, choices in zip("abc", words):
            text = text.replace("{%s}" % slot, self.random.choice(choices.split("|")))
        return text


def rows(seed, texts):
    """Returns the long benign texts of every kind; some are several of one kind, one after the other."""
    made = {}
    for number, (kind, (forms, count)) in enumerate(KINDS.items()):
        writer = Writer(seed + 2 + 100 * number, texts)
        for _ in range(count):
            parts = writer.random.choice((1, 1, 1, 1, 2, 2, 3, 4))
            made.setdefault("\n\n".join(writer.fill(writer.random.choice(forms)) for _ in range(parts)), kind)
    writer = Writer(seed + 1, texts)
    for _ in range(420):
        made.setdefault(writer.foreign(), "languages")
    return [{"text": text, "label": "benign", "source": f"ours/benign_{kind}"} for text, kind in made.items()]
