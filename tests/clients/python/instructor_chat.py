"""Instructor, over the OpenAI SDK."""

from typing import Literal

import instructor
import openai
from cells import MESSAGES, OPENAI, leave, raises, run
from pydantic import BaseModel

CLIENT = instructor.from_openai(openai.OpenAI(**OPENAI), mode=instructor.Mode.TOOLS)


class City(BaseModel):
    name: Literal["Tulcea", "Galati"]
    river: Literal["Danube"]


def create(model="good", kind=City, **more):
    return CLIENT.chat.completions.create(model=model, messages=MESSAGES, response_model=kind, max_retries=1, **more)


def chat():
    assert create(kind=None).choices[0].message.content


def stream():
    *_, last = CLIENT.chat.completions.create_partial(
        model="good", messages=MESSAGES, response_model=City, max_retries=1
    )
    assert last.name is not None and last.river is not None, last


def tools():
    city = create()
    assert isinstance(city, City) and city.name is not None, city
    schema = instructor.from_openai(openai.OpenAI(**OPENAI), mode=instructor.Mode.JSON_SCHEMA)
    answer = schema.chat.completions.create(model="good", messages=MESSAGES, response_model=City, max_retries=1)
    assert isinstance(answer, City), answer


def errors():
    raises(Exception, lambda: create("nobody"), "nobody")
    raises(Exception, lambda: create("busy"), "429")


def cancel():
    leave(create("slow", kind=None, stream=True))


def break_off():
    raises(openai.APIError, lambda: list(create("breaks", kind=None, stream=True)))


run(chat=chat, stream=stream, tools=tools, errors=errors, cancel=cancel, break_off=break_off)
