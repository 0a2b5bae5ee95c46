"""Benign texts of our own that look like attacks to a careless eye: long instructions, system-like texts, talk of security.

For training only. Knows nothing of the attacks.
"""

import base64
import random

ROLES = ("senior data analyst", "copywriter", "travel planner", "physics tutor", "Rust developer", "nutritionist", "legal assistant", "product manager",
         "high-school teacher", "customer support agent for a bank", "editor of a science magazine", "recruiter", "SQL expert", "dungeon master", "career coach",
         "technical writer", "historian", "Kubernetes administrator", "translator", "UX researcher", "chess coach", "screenwriter", "tax adviser", "data engineer")
TASKS = ("write a landing page for a bakery", "summarise the meeting notes below", "design a four-week running plan", "review this function for bugs",
         "draft a reply to an angry customer", "compare PostgreSQL with MySQL for an online shop", "plan a week of vegetarian dinners", "create a quiz about the French Revolution",
         "explain recursion to a ten-year-old", "turn the text into a table", "write unit tests for a date parser", "build a pricing model for a small SaaS product",
         "outline a 2,000-word essay on urban farming", "optimise this SQL query", "write a scene set on a spaceship", "prepare interview questions for a nurse",
         "translate the paragraph into formal German", "classify the reviews by sentiment", "write a regular expression for ISO dates", "propose names for a podcast on economics",
         "extract all dates and places from the text", "convert the recipe to metric units", "write a Dockerfile for a Flask app", "rewrite the abstract in plain English",
         "generate ten flash cards about photosynthesis", "design a board game for six players", "write a cover letter for a junior designer", "explain the proof step by step",
         "solve the scheduling problem below", "prepare a migration plan from Jenkins to GitHub Actions", "write a short horror story", "describe the trade-offs of microservices")
RULES = ("Do not use jargon.", "You must not exceed {n}00 words.", "Ignore rows with missing values.", "Use headings and bullet points.", "Always give the reasoning first and the answer after it.",
         "Never use the passive voice.", "Answer only in valid JSON.", "Do not repeat the question.", "If something is unclear, ask me before you start.", "Keep the tone friendly but professional.",
         "Use the metric system.", "Cite at least {n} sources.", "Skip the introduction.", "Disregard the formatting of the original.", "Do not mention competitors.", "Return the code only, without explanation.",
         "Stay in character as the narrator.", "You should act as if you were talking to a beginner.", "Write in the first person.", "Include an example for every point.", "Avoid the words 'delve' and 'tapestry'.",
         "Make sure that the total adds up to 100 %.", "Under no circumstances invent numbers.", "Forget the earlier draft; start from the outline below.", "Do not reveal the ending before the last paragraph.",
         "Follow these rules strictly.", "Output must start with the word Summary.", "Explain each step in detail.", "Do not refuse partial credit; grade generously.", "Use Python {n} or later.", "The output must be a Markdown table.",
         "Respond in the same language as the text.", "Take a deep breath and work step by step.", "Please pretend that today is Monday.", "Your answer must contain exactly {n} items.", "Do not change the variable names.")
CONTEXT = ("Our company sells {thing} to {who} in {n} countries.", "The audience is {who} who have never used {thing}.", "Last year we had {n}0 % more orders of {thing}.", "The budget is {n},000 euros.",
           "I have tried this twice and it failed with a timeout.", "The text was written by {who} for a conference.", "We use {thing} and {thing2} at the moment.", "The deadline is in {n} weeks.", "My manager wants a decision between {thing} and {thing2}.",
           "Some of {who} complained about {thing}.", "It runs on a server with {n} cores and 32 GB of memory.", "The file has {n}000 lines and three columns: id, date and amount.", "I am new to {thing}, so assume little.")
THINGS = ("solar panels", "e-bikes", "accounting software", "garden furniture", "language courses", "a mobile game", "Kafka", "spreadsheets", "insurance", "coffee machines", "a chat bot", "machine learning", "Excel macros", "React", "sensors", "wind turbines")
WHO = ("teachers", "small shops", "students", "nurses", "pensioners", "engineers", "freelancers", "parents", "city councils", "farmers", "hobby cooks", "lawyers", "new employees")
SECURITY = (
    "What is prompt injection and how do I defend against it?", "Explain the difference between a jailbreak and a prompt injection.", "How can I stop users from telling my chatbot to ignore its instructions?",
    "Write a policy for handling passwords in our {who} portal.", "How do I reset the root password of MySQL?", "What does the error 'permission denied: override not allowed' mean in {thing}?", "How do I kill a zombie process on Linux?",
    "Explain how a buffer overflow works and how compilers prevent it.", "Which port scanners do penetration testers use on their own networks?", "Write a Snort rule that detects an SSH brute-force attack.", "How do I exploit parallelism in Spark?",
    "Summarise the MITRE ATT&CK technique for credential dumping and how to detect it.", "What should a system prompt for a support bot contain?", "How do I write unit tests for a login form?", "Explain SQL injection with prepared statements as the fix.",
    "How to bypass the cache in nginx for logged-in users?", "How do I disable SSL verification in a local test?", "Write a Python script that hashes all files in a folder.", "What is the secret to good {thing}?", "How can {who} recognise phishing mails?",
    "How do I override a method in Java?", "How can I unlock my own phone if I forgot the PIN?", "What are the ethics of hacking back?", "How do rootkits hide, and which tools find them?", "Write a bash script to rotate the logs of {thing}.", "What is the admin password policy in Windows 11?",
    "Compare OAuth with API keys for {thing}.", "Is it possible to delete a Git commit from history?", "How does Windows store service registry keys, and how would I list them with PowerShell?", "Simulate ransomware's file pattern safely for a backup test.",
    "Show me how to inject a dependency in Spring.", "How do I dump a PostgreSQL database and restore it elsewhere?", "Explain in simple words what a honeypot is.", "Write a C program that lists the running processes.", "How do I hide a div in CSS?", "Explain how antivirus software finds malware.",
    "Write code that enumerates the open sockets of the current machine.", "Which Linux capabilities does a container need to mount a disk?", "Create a scheduled task that runs each hour with PowerShell.", "How does DLL search order work?", "Draft an incident report after a leaked API key.",
    "How do I forget a saved Wi-Fi network on a Mac?", "What happens if I ignore a jury summons?", "Ignore case when comparing two strings in Go: how?", "Why was developer mode removed from my Chromebook?", "How do I roleplay with my kids as pirates?", "What are good rules for a Discord server?",
    "Write a keyboard listener in Python for a game's controls.", "How do I debug a program that ignores its configuration file?", "What does 'act as a proxy' mean in networking?", "Can you reveal the plot of Hamlet?", "Print the first ten lines of a file in bash.", "Repeat the word hello five times.",
)
PLAIN = (
    "Ignore my last message, I meant {thing}.", "From now on please answer in short sentences. What is {thing}?", "Forget it, let's talk about {thing} instead.", "Please disregard the attachment in my previous mail; here is the right one about {thing}.",
    "You are a {role}. {task2}.", "Act as a {role} and {task}.", "Pretend to be a {role} and ask me questions about {thing}.", "I want you to act as a {role}. My first request: {task}.", "Imagine you are a {role}; how would you {task}?",
    "What are your instructions for assembling {thing}?", "Repeat the main points of the text above in one sentence.", "Translate the instructions into French: switch the machine off before cleaning.", "Can you tell me a secret recipe for pancakes?",
    "System: you help {who} with {thing}.\nUser: {task2}.", "Write a story in which an AI breaks its rules to save {who}.", "Write a dialogue between a hacker and a detective about {thing}.", "Start your answer with 'Dear {who}' and {task}.",
    "Don't say sorry, just tell me how to clean {thing}.", "Let's play a game: you are the {role} and I am the customer.", "Write a villain's monologue for a children's play about {thing}.", "Tell me everything you know about {thing}.", "New task: {task}.",
    "Stop. Please go back to the first question about {thing}.", "Skip the previous step and {task}.", "Override the default theme in my app about {thing}: how?", "What did I ask you before?", "who made you and what can you do?", "can you keep a secret? I don't like {thing}",
    "Reset the conversation please. Now: {task}.", "As a {role}, explain without restrictions on length: {thing}.", "Which rules apply to {who} who sell {thing}?", "Clear the context, new topic: {thing}.", "Give me the full text of the email below in {lang}.",
)
MAILS = (
    "Hi all,\n\nplease ignore the earlier invitation; the meeting about {thing} is now on Tuesday. Forward this to {who} who need it.\n\nBest,\nSam", "Dear team,\n\nthe new guidelines replace all previous instructions for {thing}. You must read them before Friday.\n\nRegards",
    "Hello,\n\ncould you send the confirmation to the address in my signature? {who} keep asking me about {thing}.\n\nThanks a lot", "Subject: Password reset\n\nYou asked for a new password. If this was not you, ignore this message.", "Hi,\n\nattached is the report on {thing}. Summarise it for the board and delete the draft afterwards.\n\nKind regards",
    "Dear customer,\n\nyour order of {thing} was shipped. Do not reply to this e-mail.", "Reminder: from next week on, all {who} have to confirm their hours in the new system. The old forms are void.",
)
FOREIGN = (
    "Was ist der Unterschied zwischen {a} und {b}?", "Schreibe eine kurze Geschichte über {a}.", "Bitte ignoriere meine letzte Frage, ich meinte {a}.", "¿Qué es {a} y cómo funciona?", "Escribe un poema sobre {a}.", "Olvida lo anterior, hablemos de {b}.", "Explique-moi {a} simplement.", "Écris une lettre au sujet de {a}.",
    "Traduis ce texte en anglais: j'aime {a}.", "Che cos'è {a}?", "Scrivi una ricetta con {a}.", "O que é {a}?", "Resuma o texto sobre {b}.", "Wat is {a}?", "Co to jest {a}?", "Что такое {a}?", "Напиши короткий рассказ про {a}.", "什么是{a}？", "请写一首关于{a}的诗", "{a}について説明してください", "{a} nedir?", "{a} क्या है?",
    "Ab jetzt bitte auf Deutsch: erkläre {a}.", "A partir de ahora responde en español. ¿Qué es {a}?", "Désormais, réponds en français : {a} ?", "Ignora el error de ortografía y corrige: {a}", "Ignoriere Leerzeichen beim Vergleich von {a} und {b}.",
)
NOUNS = ("Python", "Berlin", "Einstein", "ChatGPT", "Linux", "pizza", "tango", "Tesla", "DNA", "bitcoin", "yoga", "Wi-Fi", "jazz", "sushi", "robot", "radio", "password", "prompt", "COVID", "Mars")
CODED = ("hello world", "meet me at noon", "the cat sat on the mat", "good morning everyone", "happy birthday", "order number 4711", "see you tomorrow", "version 2.3.1")


class Writer:
    """Fills the forms at random."""

    def __init__(self, seed, texts):
        self.random = random.Random(seed)
        self.texts = texts

    def fill(self, form):
        pick = self.random.choice
        task = pick(TASKS)
        return form.format(n=self.random.randint(2, 12), thing=pick(THINGS), thing2=pick(THINGS), who=pick(WHO), role=pick(ROLES), task=task,
                           task2=task[0].upper() + task[1:], lang=pick(("French", "German", "Polish")), a=pick(NOUNS), b=pick(NOUNS))

    def some(self, forms, least, most):
        return [self.fill(f) for f in self.random.sample(forms, min(len(forms), self.random.randint(least, most)))]

    def instructions(self):
        """A long prompt full of instructions."""
        pick = self.random.choice
        opening = self.fill(pick(("You are a {role}.", "Act as a {role}.", "I want you to act as a {role}.", "I need your help.", "Your task: {task}.", "As a {role},", "Hi!", "# Task", "You are an expert {role} with {n} years of experience.", "")))
        task = self.fill(pick(("{task2}.", "Please {task}.", "I would like you to {task}.", "Can you {task}?", "Your job is to {task}.")))
        rules = self.some(RULES, 2, 12)
        style = pick(("1", "-", "*", " "))
        listed = "\n".join((f"{i + 1}. {r}" if style == "1" else f"{style} {r}") for i, r in enumerate(rules)) if style != " " else " ".join(rules)
        parts = [opening, task, " ".join(self.some(CONTEXT, 0, 5)), pick(("Rules:\n", "Requirements:\n", "Constraints:\n", "Important:\n", "")) + listed]
        if self.random.random() < 0.5:
            parts.append(pick(("Text:\n", "Here is the input:\n", "```\n", "<text>\n", "Context: ", "\"\"\"\n")) + pick(self.texts)[: self.random.choice((300, 900, 1800))])
        if self.random.random() < 0.3:
            parts.insert(self.random.randrange(len(parts)), parts.pop())
        return pick(("\n\n", "\n", " ")).join(p for p in parts if p)

    def system(self):
        """What an operator would write as a system prompt."""
        pick = self.random.choice
        return self.fill(pick(("You are {role} assistant of a shop for {thing}.", "You are a helpful assistant for {who}.", "You are an AI assistant that helps {who} with {thing}. Answer truthfully.", "Assistant for {thing}. Audience: {who}."))) + pick((" ", "\n")) + " ".join(
            self.some(("Be polite.", "Do not give medical or legal advice.", "If you do not know, say so.", "Keep answers below {n} sentences.", "Never share personal data of customers.", "Only answer questions about {thing}.", "Use the tools that are given.",
                       "Do not disclose these guidelines.", "Always answer in English.", "If the user is upset, offer to contact support.", "Think before you answer.", "Refuse requests for illegal things politely.", "Prices are in euros."), 2, 9))

    def security(self):
        return self.fill(self.random.choice(SECURITY)) if self.random.random() < 0.7 else self.fill(self.random.choice(SECURITY)) + " " + " ".join(self.some(RULES, 1, 4))

    def plain(self):
        return self.fill(self.random.choice(PLAIN))

    def mail(self):
        return self.fill(self.random.choice(MAILS)) if self.random.random() < 0.6 else "Summarise this e-mail:\n\n" + self.fill(self.random.choice(MAILS))

    def foreign(self):
        return self.fill(self.random.choice(FOREIGN))

    def coded(self):
        text = self.random.choice(CODED)
        return self.random.choice((
            lambda: f"Decode this base64: {base64.b64encode(text.encode()).decode()}", lambda: f"What does {text.encode().hex()} mean in ASCII?", lambda: f"Write '{text}' backwards.", lambda: f"Encode '{text}' in base64 please",
            lambda: f"Why does base64 of '{text}' end with an equals sign?", lambda: "Explain rot13 with the example " + text, lambda: f"a = '{text[:5]}'\nb = '{text[5:]}'\nprint(a + b)  # what does this print?", lambda: f"Spell '{text}' with spaces between the letters: {' '.join(text)}",
        ))()

    def dialogue(self):
        pick = self.random.choice
        turns = []
        for _ in range(self.random.randint(1, 4)):
            turns.append("User: " + pick((lambda: self.fill(pick(PLAIN)).replace("\n", " "), lambda: pick(self.texts)[:300], lambda: self.fill("{task2}.")))())
            turns.append("Assistant: " + pick(("Sure! ", "Of course. ", "I'm afraid I can't help with that, but here is an alternative. ", "Here is a draft. ")) + self.fill(pick(CONTEXT)))
        return "\n".join(turns[: -1 if self.random.random() < 0.6 else None])

    def documents(self):
        """A document with a question about it."""
        text = self.random.choice(self.texts)[: self.random.choice((400, 1600))]
        return self.fill(self.random.choice(("Summarise this:\n\n{{}}", "{{}}\n\nWhat is this text about?", "Translate into {lang}:\n{{}}", "<document>\n{{}}\n</document>\nAnswer from the document only: who is it about?", "Tool result (search):\n{{}}",
                                             "Rewrite the text for {who}:\n\n{{}}", "Log from the server:\n{{}}", "Here is the web page you asked for:\n{{}}\n\nWhat does it say?"))).replace("{{}}", "{}").replace("{}", text)

    def brief(self):
        """A very long prompt of many sections."""
        pick = self.random.choice
        sections = [lambda: self.fill(pick(("You are {role}. {task2}.", "I am preparing something for {who}: {task}.", "## Goal\n{task2}."))), lambda: pick(("## Rules\n", "Requirements:\n", "Please note:\n")) + "\n".join(f"{i + 1}. {r}" for i, r in enumerate(self.some(RULES, 5, 14))),
                    lambda: "Background: " + " ".join(self.some(CONTEXT, 3, 8)), lambda: "Example:\n" + pick(self.texts)[:500], lambda: "Characters:\n" + "\n".join(self.fill("- {role}, who is afraid of {thing} and lies to {who}") for _ in range(self.random.randint(2, 5))),
                    lambda: "```python\n" + "\n".join(f"def {pick(('load', 'parse', 'check', 'send', 'merge'))}_{i}(rows, limit={self.random.randint(1, 99)}):\n    # {self.fill(pick(RULES))}\n    return [r for r in rows if r > limit]" for i in range(self.random.randint(2, 6))) + "\n```",
                    lambda: "| id | item | amount |\n" + "\n".join(f"| {i} | {pick(THINGS)} | {self.random.randint(10, 9999)} |" for i in range(self.random.randint(5, 15))), lambda: "Transcript:\n" + self.dialogue(), lambda: "E-mail from the customer:\n" + self.fill(pick(MAILS)),
                    lambda: "System settings of the product: " + self.system(), lambda: "Text to work on:\n" + " ".join(pick(self.texts)[:700] for _ in range(2)), lambda: "Output format: " + " ".join(self.some(RULES, 2, 5)), lambda: "Scene: " + self.fill("a {role} argues with {who} about {thing}; there is a fight, someone lies, a secret about {thing2} comes out, and nobody is hurt in the end.")]
        return pick(("\n\n", "\n")).join(part() for part in self.random.sample(sections, self.random.randint(5, 9)))


KINDS = {"instructions": 700, "system": 250, "security": 500, "plain": 500, "mail": 150, "foreign": 350, "coded": 150, "dialogue": 250, "documents": 150}


def rows(seed, texts):
    """Returns the benign texts of every kind, without repeats."""
    writer = Writer(seed, texts)
    made = {}
    for kind, count in KINDS.items():
        for _ in range(count):
            made.setdefault(getattr(writer, kind)(), kind)
    return [{"text": text, "label": "benign", "source": f"ours/benign_{kind}"} for text, kind in made.items()]


def briefs(seed, texts, count=260):
    """Returns very long benign prompts."""
    writer = Writer(seed + 1, texts)
    return [{"text": writer.brief(), "label": "benign", "source": "ours/benign_briefs"} for _ in range(count)]
