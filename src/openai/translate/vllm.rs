//! Holds translations to what vLLM's own converters make of the same conversations; tests only.
//!
//! `tests/golden/translation/make.py` has written that down. Where the gateway does otherwise the reason stands here.

use serde_json::{Map, Value, json};

use super::{TranslatedAnswer, Translation, UpstreamKind};
use crate::{Api, ChatRequest, Format};
use http::StatusCode;

const CONVERSATIONS: &str = include_str!("../../../tests/golden/translation/conversations.json");
const VLLM: &str = include_str!("../../../tests/golden/translation/vllm.json");

/// Where the gateway does otherwise on purpose.
struct Difference {
    /// The part of the conversations that it is seen in.
    section: &'static str,
    /// Where in it, each index and each name of a conversation as `*`.
    path: &'static str,
    why: &'static str,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        section: "messages_requests",
        path: ".max_completion_tokens",
        why: "one name of the limit is enough",
    },
    Difference {
        section: "messages_requests",
        path: ".tool_choice",
        why: "`auto` is what a chat with tools has anyway",
    },
    Difference {
        section: "messages_requests",
        path: ".parallel_tool_calls",
        why: "`true` is what it is anyway",
    },
    Difference {
        section: "messages_requests",
        path: "turn of Claude Code after tools.messages.*.content",
        why: "what tools gave stands together, as OpenAI asks for, and their images after it",
    },
    Difference {
        section: "messages_requests",
        path: "turn of Claude Code after tools.messages.*.role",
        why: "the same",
    },
    Difference {
        section: "messages_requests",
        path: "turn of Claude Code after tools.messages.*.tool_call_id",
        why: "the same",
    },
    Difference {
        section: "messages_requests",
        path: "two texts of an assistant.messages.*.content",
        why: "templates of chats read what an assistant said as a string",
    },
    Difference {
        section: "messages_requests",
        path: "structured output.response_format.json_schema.name",
        why: "it is a name that nobody reads",
    },
    Difference {
        section: "messages_requests",
        path: "structured output.response_format.json_schema.strict",
        why: "Anthropic's output always keeps to its schema",
    },
    Difference {
        section: "messages_requests",
        path: "a prefilled answer.continue_final_message",
        why: "Anthropic's models go on with what the client has begun; vLLM begins anew",
    },
    Difference {
        section: "messages_requests",
        path: "a prefilled answer.add_generation_prompt",
        why: "the same",
    },
    Difference {
        section: "messages_requests",
        path: "a document",
        why: "vLLM knows no documents; those that are text can be told",
    },
    Difference { section: "messages_answers", path: ".id", why: "ids begin as Anthropic's do" },
    Difference { section: "messages_streams", path: ".*.message.id", why: "the same" },
    Difference { section: "messages_answers", path: ".role", why: "vLLM's server adds it" },
    Difference { section: "messages_answers", path: ".type", why: "the same" },
    Difference {
        section: "messages_streams",
        path: "nothing",
        why: "a whole answer has an empty text too, which clients read without looking",
    },
    Difference {
        section: "responses_requests",
        path: "tools.messages.*.role",
        why: "few templates of chats know a developer",
    },
    Difference { section: "responses_requests", path: ".messages.*.type", why: "vLLM's renderer skips it" },
    Difference {
        section: "responses_requests",
        path: ".tools.*.function.name",
        why: "the name of a namespace ends in what parts it already",
    },
    Difference {
        section: "responses_requests",
        path: ".messages.*.tool_calls.*.function.name",
        why: "the same",
    },
    Difference {
        section: "responses_requests",
        path: ".tools.*.function.parameters.properties.input.description",
        why: "the tool's own description says what it takes",
    },
    Difference {
        section: "responses_requests",
        path: "encrypted reasoning",
        why: "what another has encrypted is left out: clients cannot",
    },
    Difference {
        section: "responses_requests",
        path: "an image.messages.*.content.*.type",
        why: "vLLM's renderer takes parts of Responses too",
    },
    Difference {
        section: "responses_requests",
        path: "an image.messages.*.content.*.detail",
        why: "the same",
    },
    Difference {
        section: "responses_requests",
        path: "an image.messages.*.content.*.image_url",
        why: "the same",
    },
    Difference {
        section: "responses_answers",
        path: ".*.status",
        why: "an item has one, and is cut where the answer is",
    },
    Difference { section: "responses_streams", path: ".*.item.status", why: "the same" },
    Difference {
        section: "responses_answers",
        path: "nothing",
        why: "an empty message is what clients read the text of",
    },
    Difference { section: "responses_streams", path: "nothing", why: "the same" },
    Difference {
        section: "responses_answers",
        path: "a namespaced call.*.name",
        why: "names are flattened otherwise",
    },
    Difference { section: "responses_answers", path: "a namespaced call.*.namespace", why: "the same" },
    Difference { section: "responses_streams", path: "a namespaced call.*.name", why: "the same" },
    Difference { section: "responses_streams", path: "a namespaced call.*.item.name", why: "the same" },
    Difference { section: "responses_streams", path: "a namespaced call.*.item.namespace", why: "the same" },
    Difference {
        section: "responses_streams",
        path: "a custom call",
        why: "its input is told from its wrapper once that is whole",
    },
    Difference {
        section: "responses_streams",
        path: "text in a call",
        why: "vLLM fails where text comes inside of a call",
    },
];

/// The name of each conversation of a section with what the gateway makes of it.
fn made(section: &str, conversations: &Value) -> Map<String, Value> {
    let (api, source) = match section {
        "messages_requests" => (Api::Messages, section),
        "responses_requests" => (Api::Responses, section),
        "messages_answers" => (Api::Messages, "answers"),
        "responses_answers" => (Api::Responses, "answers"),
        "messages_streams" => (Api::Messages, "streams"),
        _ => (Api::Responses, "streams"),
    };
    let asked = match api {
        Api::Messages => {
            json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]})
        }
        _ => conversations["responses_requests"]["tools"].clone(),
    };
    let make = |said: &Value| match section.split_once('_').unwrap().1 {
        "requests" => request(api, said),
        "answers" => answer(api, &asked, said),
        _ => stream(api, &asked, said),
    };
    conversations[source].as_object().unwrap().iter().map(|(name, said)| (name.clone(), make(said))).collect()
}

fn way(api: Api) -> Translation {
    Translation::between(api, |spoken| spoken == Api::Chat).unwrap()
}

/// The conversations that are compared.
pub(super) fn conversations() -> Value {
    serde_json::from_str(CONVERSATIONS).unwrap()
}

pub(super) fn read(api: Api, body: &Value) -> ChatRequest {
    ChatRequest::of(api, body.to_string().into()).unwrap()
}

/// A stream of Chat.
pub(super) fn streamed(chunks: &Value) -> String {
    let chunks = chunks.as_array().unwrap().iter().map(Value::to_string);
    let data: Vec<String> = chunks.chain(["[DONE]".to_owned()]).collect();
    format!("data: {}\n\n", data.join("\n\ndata: "))
}

fn refused() -> Value {
    json!({"refused": true})
}

fn request(api: Api, body: &Value) -> Value {
    let Ok(chat) = way(api).request(&read(api, body), UpstreamKind::Engine) else {
        return refused();
    };
    let mut chat: Value = serde_json::from_slice(chat.body()).unwrap();
    if api == Api::Responses {
        // The rest of it goes to vLLM's sampler, not through a chat.
        chat.as_object_mut().unwrap().retain(|name, _| ["messages", "tools"].contains(&name.as_str()));
    }
    chat
}

fn translated(api: Api, asked: &Value, format: Format, body: &str) -> Option<String> {
    let answer = TranslatedAnswer { model: "m", request_id: "r", kept_as: None, now: 5 };
    let mut translator = way(api).answer(&read(api, asked), StatusCode::OK, format, answer).unwrap();
    Some(String::from_utf8(translator.pass(body.as_bytes(), true).ok()?).unwrap())
}

fn answer(api: Api, asked: &Value, body: &Value) -> Value {
    let Some(made) = translated(api, asked, Format::Json, &body.to_string()) else { return refused() };
    let mut made: Value = serde_json::from_str(&made).unwrap();
    if api == Api::Responses { made["output"].take() } else { made }
}

fn stream(api: Api, asked: &Value, chunks: &Value) -> Value {
    let made = translated(api, asked, Format::EventStream, &streamed(chunks));
    let Some(made) = made else { return refused() };
    let events = made
        .split_terminator("\n\n")
        .map(|event| serde_json::from_str::<Value>(event.split_once("data: ").unwrap().1).unwrap());
    // What begins and ends a response vLLM's server says, not its converter.
    events.filter(|event| event.get("response").is_none()).collect()
}

/// A value without what is drawn, and with the arguments of tools as what they say.
fn settled(value: &Value) -> Value {
    match value {
        // A text alone is the same as a string; the parts of Responses vLLM's renderer takes as they are.
        Value::Array(items) => match items.as_slice() {
            [Value::Object(part)]
                if part.len() == 2
                    && part.get("type").is_some_and(|kind| kind != "reasoning_text")
                    && part.contains_key("text") =>
            {
                part["text"].clone()
            }
            items => items.iter().map(settled).collect(),
        },
        Value::Object(members) => {
            let drawn = ["signature", "item_id", "sequence_number"];
            let is_drawn = |name: &str, value: &Value| {
                let starts = |start: &&str| value.as_str().is_some_and(|text| text.starts_with(start));
                drawn.contains(&name) || name == "id" && ["msg_", "rs_", "fc_", "ctc_"].iter().any(starts)
            };
            let kept = members.iter().filter(|(name, value)| !is_drawn(name, value));
            let settle = |(name, value): (&String, &Value)| {
                let read = value.as_str().filter(|_| name == "arguments").map(serde_json::from_str::<Value>);
                (name.clone(), read.and_then(Result::ok).unwrap_or_else(|| settled(value)))
            };
            kept.map(settle).collect()
        }
        _ => value.clone(),
    }
}

/// Where two values differ, with both.
fn compare(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<(String, String)>) {
    let is_refused = |value: &Value| value.get("refused").is_some();
    let is_none = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) if is_refused(ours) == is_refused(theirs) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let [ours, theirs] = [a, b].map(|members| members.get(name).unwrap_or(&Value::Null));
                compare(&format!("{path}.{name}"), ours, theirs, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (a, b) in a.iter().zip(b) {
                compare(&format!("{path}.*"), a, b, found);
            }
        }
        _ if ours == theirs || (is_none(ours) && is_none(theirs)) => {}
        _ => found.push((path.to_owned(), format!("ours {ours}, vLLM's {theirs}"))),
    }
}

#[test]
fn what_is_translated_is_what_vllm_makes_of_it() {
    let (conversations, vllm): (Value, Value) = (conversations(), serde_json::from_str(VLLM).unwrap());
    let (mut unexpected, mut used) = (Vec::new(), vec![false; DIFFERENCES.len()]);
    for (section, theirs) in vllm.as_object().unwrap().iter().filter(|(_, section)| section.is_object()) {
        for (name, ours) in made(section, &conversations) {
            let mut found = Vec::new();
            compare("", &settled(&ours), &settled(&theirs[&name]), &mut found);
            for (path, both) in found {
                let is_it = |known: &Difference| {
                    known.section == section && (known.path == path || known.path == format!("{name}{path}"))
                };
                match DIFFERENCES.iter().position(is_it) {
                    Some(known) => used[known] = true,
                    None => unexpected.push(format!("{section}: {name}{path}: {both}")),
                }
            }
        }
    }
    assert!(unexpected.is_empty(), "\n{}", unexpected.join("\n"));
    let stale = DIFFERENCES.iter().zip(used).filter(|(_, used)| !used);
    let stale: Vec<&str> = stale.map(|(known, _)| known.why).collect();
    assert!(stale.is_empty(), "no longer seen: {stale:?}");
}
