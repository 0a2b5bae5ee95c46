//! The bytes of a completion: one JSON document, or one event a token, in the simulated server's own shape.
//! It refuses to know when they are sent. Shapes are those of vLLM 0.32 and of the OpenAI platform.

use std::fmt::Write;

use serde_json::{Value, json};

use super::Flavour;
use super::completion::{Completion, SimUsage};
use super::generation::{Generation, SimFinishReason};
use super::request::{CompletionApi, Streaming};
use super::structured::{ForcedCall, OutputForm};

const VLLM_FINGERPRINT: &str = "vllm-0.32.0-simulated";
const OPENAI_FINGERPRINT: &str = "fp_51db84afab";

/// Writes one completion; what all of its events have in common.
#[derive(Debug)]
pub(super) struct CompletionWriter {
    flavour: Flavour,
    api: CompletionApi,
    id: String,
    created: u64,
    model: String,
    /// What every event begins with.
    prefix: String,
}

/// One token of one choice.
struct TokenEvent<'a> {
    choice: usize,
    /// The token's text as a JSON string.
    text: &'a str,
    /// The choice, where this token is its last.
    ending: Option<&'a Generation>,
}

impl CompletionWriter {
    pub(super) fn new(flavour: Flavour, api: CompletionApi, id: &str, created: u64, model: &str) -> Self {
        let (id_prefix, object) = match api {
            CompletionApi::Chat => ("chatcmpl", "chat.completion.chunk"),
            CompletionApi::Text => ("cmpl", "text_completion"),
        };
        let id = format!("{id_prefix}-{id}");
        let (quoted, quoted_model) = (quote(&id), quote(model));
        let mut prefix = format!(
            r#"data: {{"id":{quoted},"object":"{object}","created":{created},"model":{quoted_model},"#
        );
        if flavour == Flavour::OpenAi {
            prefix.push_str(r#""service_tier":"default","system_fingerprint":""#);
            prefix.push_str(OPENAI_FINGERPRINT);
            prefix.push_str("\",");
        }
        Self { flavour, api, id, created, model: model.to_owned(), prefix }
    }

    /// The whole completion as one document.
    pub(super) fn whole(&self, completion: &Completion) -> Vec<u8> {
        let object = match self.api {
            CompletionApi::Chat => "chat.completion",
            CompletionApi::Text => "text_completion",
        };
        let text: usize = completion.choices.iter().map(|generation| generation.text.len() + 320).sum();
        let mut out = String::with_capacity(640 + text);
        let (id, created, model) = (quote(&self.id), self.created, quote(&self.model));
        let _ =
            write!(out, r#"{{"id":{id},"object":"{object}","created":{created},"model":{model},"choices":["#);
        for index in 0..completion.choices.len() {
            if index > 0 {
                out.push(',');
            }
            self.choice(&mut out, completion, index);
        }
        out.push(']');
        self.ending(&mut out, completion);
        out.push('}');
        out.into_bytes()
    }

    /// The events that open each choice of a chat.
    pub(super) fn openings(&self, completion: &Completion) -> String {
        let mut out = String::new();
        for index in 0..completion.choices.len() {
            self.open(&mut out);
            let refusal = if self.flavour == Flavour::OpenAi { r#","refusal":null"# } else { "" };
            let _ = write!(
                out,
                r#"{{"index":{index},"delta":{{"role":"assistant","content":""{refusal}}},"logprobs":null,"finish_reason":null}}]"#
            );
            self.usage_so_far(&mut out, completion, SimUsage { output: 0, ..completion.usage_of(index) });
            if self.flavour == Flavour::Vllm {
                out.push_str(r#","prompt_token_ids":null,"prompt_text":null"#);
            }
            out.push_str("}\n\n");
            if let Some(call) = forced_call(completion) {
                let (id, name) = (quote(&self.call_id(index)), quote(&call.name));
                self.open(&mut out);
                let _ = write!(
                    out,
                    r#"{{"index":{index},"delta":{{"tool_calls":[{{"index":0,"id":{id},"type":"function","function":{{"name":{name},"arguments":""}}}}]}},"logprobs":null,"finish_reason":null}}]"#
                );
                self.usage_so_far(&mut out, completion, SimUsage { output: 0, ..completion.usage_of(index) });
                out.push_str("}\n\n");
            }
        }
        out
    }

    fn call_id(&self, choice: usize) -> String {
        format!("call_{}_{choice}", self.id)
    }

    /// The events of the token emitted last, one for each choice that has it.
    pub(super) fn tokens(&self, completion: &Completion) -> String {
        let index = completion.emitted() - 1;
        let mut out = String::with_capacity(320 * completion.choices.len());
        for (choice, generation) in completion.choices.iter().enumerate() {
            if index >= generation.ends.len() {
                continue;
            }
            let text = generation.token(index);
            let echo =
                if index == 0 { completion.request.echoes.get(choice / completion.request.n) } else { None };
            let text = match echo {
                Some(echo) => quote(&format!("{echo}{text}")),
                None => quote(text),
            };
            let ending = (index + 1 == generation.ends.len()).then_some(generation);
            let token = TokenEvent { choice, text: &text, ending };
            match self.flavour {
                Flavour::Vllm => self.vllm_token(&mut out, completion, &token),
                Flavour::OpenAi => self.openai_token(&mut out, completion, &token),
            }
        }
        out
    }

    /// The event with the usage and no choice.
    pub(super) fn last(&self, completion: &Completion) -> String {
        let usage = completion.usage();
        let usage = match (self.flavour, self.api) {
            (Flavour::OpenAi, _) => openai_usage(usage),
            (Flavour::Vllm, CompletionApi::Chat) => json!({
                "prompt_tokens": usage.prompt, "total_tokens": usage.prompt + usage.output,
                "completion_tokens": usage.output,
                "prompt_tokens_details": {"cached_tokens": usage.cached, "created_cache_tokens": 0},
            }),
            (Flavour::Vllm, CompletionApi::Text) => json!({
                "prompt_tokens": usage.prompt, "total_tokens": usage.prompt + usage.output,
                "completion_tokens": usage.output, "prompt_tokens_details": {"cached_tokens": usage.cached},
            }),
        };
        let fingerprint = match self.flavour {
            Flavour::Vllm => format!(r#","system_fingerprint":"{VLLM_FINGERPRINT}""#),
            Flavour::OpenAi => String::new(),
        };
        format!("{}\"choices\":[],\"usage\":{usage}{fingerprint}}}\n\n", self.prefix)
    }

    fn vllm_token(&self, out: &mut String, completion: &Completion, token: &TokenEvent<'_>) {
        let TokenEvent { choice, text, ending } = *token;
        self.open(out);
        let (finish, stop) = match ending {
            None => ("null".to_owned(), "null".to_owned()),
            Some(generation) => {
                (quote(finish(completion, generation)), json!(generation.stopped_by).to_string())
            }
        };
        let delta = delta(completion, text);
        let _ = match (self.api, ending) {
            (CompletionApi::Text, _) => write!(
                out,
                r#"{{"index":{choice},"text":{text},"logprobs":null,"finish_reason":{finish},"stop_reason":{stop},"prompt_token_ids":null,"token_ids":null}}]"#
            ),
            (CompletionApi::Chat, None) => write!(
                out,
                r#"{{"index":{choice},"delta":{delta},"logprobs":null,"finish_reason":null,"token_ids":null}}]"#
            ),
            (CompletionApi::Chat, Some(_)) => write!(
                out,
                r#"{{"index":{choice},"delta":{delta},"logprobs":null,"finish_reason":{finish},"stop_reason":{stop},"token_ids":null}}]"#
            ),
        };
        self.usage_so_far(out, completion, completion.usage_of(choice));
        let usage_follows =
            matches!(completion.request.streaming, Streaming::Usage | Streaming::ContinuousUsage);
        if completion.is_finished() && choice + 1 == completion.choices.len() && !usage_follows {
            let _ = write!(out, r#","system_fingerprint":"{VLLM_FINGERPRINT}""#);
        }
        out.push_str("}\n\n");
    }

    fn openai_token(&self, out: &mut String, completion: &Completion, token: &TokenEvent<'_>) {
        let TokenEvent { choice, text, ending } = *token;
        let finish = ending.map_or("null".to_owned(), |generation| quote(finish(completion, generation)));
        let delta = delta(completion, text);
        self.open(out);
        let _ = match self.api {
            CompletionApi::Text => {
                write!(out, r#"{{"index":{choice},"text":{text},"logprobs":null,"finish_reason":{finish}}}]"#)
            }
            CompletionApi::Chat => {
                write!(out, r#"{{"index":{choice},"delta":{delta},"logprobs":null,"finish_reason":null}}]"#)
            }
        };
        self.usage_so_far(out, completion, completion.usage_of(choice));
        out.push_str("}\n\n");
        if ending.is_some() && self.api == CompletionApi::Chat {
            self.open(out);
            let _ =
                write!(out, r#"{{"index":{choice},"delta":{{}},"logprobs":null,"finish_reason":{finish}}}]"#);
            self.usage_so_far(out, completion, completion.usage_of(choice));
            out.push_str("}\n\n");
        }
    }

    fn open(&self, out: &mut String) {
        out.push_str(&self.prefix);
        out.push_str(r#""choices":["#);
    }

    fn usage_so_far(&self, out: &mut String, completion: &Completion, usage: SimUsage) {
        let (streaming, flavour) = (completion.request.streaming, self.flavour);
        if flavour == Flavour::OpenAi {
            if streaming != Streaming::Plain {
                out.push_str(r#","usage":null"#);
            }
        } else if streaming == Streaming::ContinuousUsage {
            let details =
                if self.api == CompletionApi::Chat { r#","completion_tokens_details":null"# } else { "" };
            let SimUsage { prompt, output, .. } = usage;
            let total = prompt + output;
            let _ = write!(
                out,
                r#","usage":{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{output}{details}}}"#
            );
        }
    }

    fn choice(&self, out: &mut String, completion: &Completion, index: usize) {
        let generation = &completion.choices[index];
        let finish = finish(completion, generation);
        let text = match completion.request.echoes.get(index / completion.request.n) {
            Some(echo) => quote(&format!("{echo}{}", generation.text)),
            None => quote(&generation.text),
        };
        let stop = generation.stopped_by.as_deref().map_or("null".to_owned(), quote);
        let (text, calls) = match forced_call(completion) {
            Some(call) => {
                let (id, name) = (quote(&self.call_id(index)), quote(&call.name));
                let function = format!(r#"{{"name":{name},"arguments":{text}}}"#);
                let call =
                    format!(r#","tool_calls":[{{"id":{id},"type":"function","function":{function}}}]"#);
                ("null".to_owned(), call)
            }
            None => (text, String::new()),
        };
        let _ = match (self.flavour, self.api) {
            (Flavour::Vllm, CompletionApi::Chat) => write!(
                out,
                r#"{{"index":{index},"message":{{"role":"assistant","content":{text},"refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null{calls}}},"logprobs":null,"finish_reason":"{finish}","stop_reason":{stop},"token_ids":null,"routed_experts":null}}"#
            ),
            (Flavour::Vllm, CompletionApi::Text) => write!(
                out,
                r#"{{"index":{index},"text":{text},"logprobs":null,"finish_reason":"{finish}","stop_reason":{stop},"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,"routed_experts":null}}"#
            ),
            (Flavour::OpenAi, CompletionApi::Chat) => write!(
                out,
                r#"{{"index":{index},"message":{{"role":"assistant","content":{text},"refusal":null,"annotations":[]{calls}}},"logprobs":null,"finish_reason":"{finish}"}}"#
            ),
            (Flavour::OpenAi, CompletionApi::Text) => {
                write!(out, r#"{{"text":{text},"index":{index},"logprobs":null,"finish_reason":"{finish}"}}"#)
            }
        };
    }

    fn ending(&self, out: &mut String, completion: &Completion) {
        let usage = completion.usage();
        if self.flavour == Flavour::OpenAi {
            let usage = openai_usage(usage);
            let _ = write!(
                out,
                r#","usage":{usage},"service_tier":"default","system_fingerprint":"{OPENAI_FINGERPRINT}""#
            );
            return;
        }
        let SimUsage { prompt, output, cached } = usage;
        let (total, created) = (prompt + output, if self.api == CompletionApi::Chat { "0" } else { "null" });
        let _ = write!(
            out,
            r#","service_tier":null,"system_fingerprint":"{VLLM_FINGERPRINT}","usage":{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{output},"prompt_tokens_details":{{"cached_tokens":{cached},"created_cache_tokens":{created},"multimodal_tokens":null}},"completion_tokens_details":null}}"#
        );
        if self.api == CompletionApi::Chat {
            out.push_str(r#","prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null"#);
        }
        let handed_over = &completion.handed_over;
        let _ =
            write!(out, r#","kv_transfer_params":{handed_over},"ec_transfer_params":null,"metrics":null"#);
    }
}

/// The call that a completion has to be.
fn forced_call(completion: &Completion) -> Option<&ForcedCall> {
    match &completion.request.form {
        OutputForm::Call(call) => Some(call),
        OutputForm::Text | OutputForm::Json(_) => None,
    }
}

/// Why a completion ends, as its API calls it.
fn finish(completion: &Completion, generation: &Generation) -> &'static str {
    match forced_call(completion) {
        Some(call) if !call.is_named && generation.finish == SimFinishReason::Stop => "tool_calls",
        _ => generation.finish.as_str(),
    }
}

/// What a token adds to a chat's message; `text` as a JSON string.
fn delta(completion: &Completion, text: &str) -> String {
    match forced_call(completion) {
        Some(_) => format!(r#"{{"tool_calls":[{{"index":0,"function":{{"arguments":{text}}}}}]}}"#),
        None => format!(r#"{{"content":{text}}}"#),
    }
}

/// The end of every stream.
pub(super) const DONE: &str = "data: [DONE]\n\n";

fn openai_usage(usage: SimUsage) -> Value {
    json!({
        "prompt_tokens": usage.prompt, "completion_tokens": usage.output,
        "total_tokens": usage.prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}

fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}
