"""Instructor, over the OpenAI SDK."""

import instructor
import openai
from cells import ASK, URL, is_idle, raises, run
from pydantic import BaseModel

CLIENT = instructor.from_openai(
    openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-none", max_retries=0, timeout=30), mode=instructor.Mode.TOOLS
)
MESSAGES = [{"role": "user", "content": ASK}]


class City(BaseModel):
    name: str
    river: str


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
    schema = instructor.from_openai(
        openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-none"), mode=instructor.Mode.JSON_SCHEMA
    )
    answer = schema.chat.completions.create(model="good", messages=MESSAGES, response_model=City, max_retries=1)
    assert isinstance(answer, City), answer


def errors():
    raises(Exception, lambda: create("nobody"), "nobody")
    raises(Exception, lambda: create("busy"), "429")


def cancel():
    got = create("slow", kind=None, stream=True)
    next(iter(got))
    got.close()
    is_idle()


def break_off():
    raises(openai.APIError, lambda: list(create("breaks", kind=None, stream=True)))


run(chat=chat, stream=stream, tools=tools, errors=errors, cancel=cancel, break_off=break_off)
