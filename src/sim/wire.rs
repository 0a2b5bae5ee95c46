//! The bytes of an answer: one JSON document, or one event a token, in the simulated server's own shape.
//! It refuses to know when they are sent. Shapes are those of vLLM 0.32 and of the OpenAI platform.

use std::fmt::Write;

use serde_json::{Value, json};

use super::Flavour;
use super::ask::{Kind, Streaming};
use super::run::{Run, Usage};
use super::words::Answer;

const VLLM_FINGERPRINT: &str = "vllm-0.32.0-simulated";
const OPENAI_FINGERPRINT: &str = "fp_51db84afab";

/// What all events of one answer have in common.
#[derive(Debug)]
pub(super) struct Envelope {
    flavour: Flavour,
    kind: Kind,
    id: String,
    created: u64,
    model: String,
    /// Every event's beginning.
    head: String,
}

impl Envelope {
    /// Makes the envelope of one answer.
    pub(super) fn new(flavour: Flavour, kind: Kind, id: &str, created: u64, model: &str) -> Self {
        let (prefix, object) = match kind {
            Kind::Chat => ("chatcmpl", "chat.completion.chunk"),
            Kind::Text => ("cmpl", "text_completion"),
        };
        let id = format!("{prefix}-{id}");
        let (quoted, quoted_model) = (quote(&id), quote(model));
        let mut head = format!(
            r#"data: {{"id":{quoted},"object":"{object}","created":{created},"model":{quoted_model},"#
        );
        if flavour == Flavour::OpenAi {
            head.push_str(r#""service_tier":"default","system_fingerprint":""#);
            head.push_str(OPENAI_FINGERPRINT);
            head.push_str("\",");
        }
        Self { flavour, kind, id, created, model: model.to_owned(), head }
    }

    /// The whole answer as one document.
    pub(super) fn whole(&self, run: &Run) -> Vec<u8> {
        let object = match self.kind {
            Kind::Chat => "chat.completion",
            Kind::Text => "text_completion",
        };
        let text: usize = run.answers.iter().map(|answer| answer.text.len() + 320).sum();
        let mut out = String::with_capacity(640 + text);
        let (id, created, model) = (quote(&self.id), self.created, quote(&self.model));
        let _ =
            write!(out, r#"{{"id":{id},"object":"{object}","created":{created},"model":{model},"choices":["#);
        for (index, answer) in run.answers.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            self.choice(&mut out, run, (index, answer));
        }
        out.push(']');
        self.ending(&mut out, run.usage());
        out.push('}');
        out.into_bytes()
    }

    /// The events that open each choice of a chat.
    pub(super) fn openings(&self, run: &Run) -> String {
        let mut out = String::new();
        for index in 0..run.answers.len() {
            self.open(&mut out);
            let refusal = if self.flavour == Flavour::OpenAi { r#","refusal":null"# } else { "" };
            let _ = write!(
                out,
                r#"{{"index":{index},"delta":{{"role":"assistant","content":""{refusal}}},"logprobs":null,"finish_reason":null}}]"#
            );
            self.usage_so_far(&mut out, run, Usage { output: 0, ..run.usage_of(index) });
            if self.flavour == Flavour::Vllm {
                out.push_str(r#","prompt_token_ids":null,"prompt_text":null"#);
            }
            out.push_str("}\n\n");
        }
        out
    }

    /// The events of the token told last, one for each choice that has it.
    pub(super) fn tokens(&self, run: &Run) -> String {
        let index = run.told() - 1;
        let mut out = String::with_capacity(320 * run.answers.len());
        for (choice, answer) in run.answers.iter().enumerate() {
            if index >= answer.ends.len() {
                continue;
            }
            let text = answer.token(index);
            let echo = if index == 0 { run.ask.echoes.get(choice / run.ask.n) } else { None };
            let text = match echo {
                Some(echo) => quote(&format!("{echo}{text}")),
                None => quote(text),
            };
            let ending = (index + 1 == answer.ends.len()).then_some(answer);
            match self.flavour {
                Flavour::Vllm => self.vllm_token(&mut out, run, (choice, &text, ending)),
                Flavour::OpenAi => self.openai_token(&mut out, run, (choice, &text, ending)),
            }
        }
        out
    }

    /// The event with the usage and no choice.
    pub(super) fn last(&self, run: &Run) -> String {
        let usage = run.usage();
        let usage = match (self.flavour, self.kind) {
            (Flavour::OpenAi, _) => openai_usage(usage),
            (Flavour::Vllm, Kind::Chat) => json!({
                "prompt_tokens": usage.prompt, "total_tokens": usage.prompt + usage.output,
                "completion_tokens": usage.output,
                "prompt_tokens_details": {"cached_tokens": usage.cached, "created_cache_tokens": 0},
            }),
            (Flavour::Vllm, Kind::Text) => json!({
                "prompt_tokens": usage.prompt, "total_tokens": usage.prompt + usage.output,
                "completion_tokens": usage.output, "prompt_tokens_details": {"cached_tokens": usage.cached},
            }),
        };
        let fingerprint = match self.flavour {
            Flavour::Vllm => format!(r#","system_fingerprint":"{VLLM_FINGERPRINT}""#),
            Flavour::OpenAi => String::new(),
        };
        format!("{}\"choices\":[],\"usage\":{usage}{fingerprint}}}\n\n", self.head)
    }

    fn vllm_token(&self, out: &mut String, run: &Run, token: (usize, &str, Option<&Answer>)) {
        let (choice, text, ending) = token;
        self.open(out);
        let (finish, stop) = match ending {
            None => ("null".to_owned(), "null".to_owned()),
            Some(answer) => (quote(answer.finish.word()), json!(answer.stopped_by).to_string()),
        };
        let _ = match (self.kind, ending) {
            (Kind::Text, _) => write!(
                out,
                r#"{{"index":{choice},"text":{text},"logprobs":null,"finish_reason":{finish},"stop_reason":{stop},"prompt_token_ids":null,"token_ids":null}}]"#
            ),
            (Kind::Chat, None) => write!(
                out,
                r#"{{"index":{choice},"delta":{{"content":{text}}},"logprobs":null,"finish_reason":null,"token_ids":null}}]"#
            ),
            (Kind::Chat, Some(_)) => write!(
                out,
                r#"{{"index":{choice},"delta":{{"content":{text}}},"logprobs":null,"finish_reason":{finish},"stop_reason":{stop},"token_ids":null}}]"#
            ),
        };
        self.usage_so_far(out, run, run.usage_of(choice));
        let usage_follows = matches!(run.ask.streaming, Streaming::Usage | Streaming::ContinuousUsage);
        if run.is_told() && choice + 1 == run.answers.len() && !usage_follows {
            let _ = write!(out, r#","system_fingerprint":"{VLLM_FINGERPRINT}""#);
        }
        out.push_str("}\n\n");
    }

    fn openai_token(&self, out: &mut String, run: &Run, token: (usize, &str, Option<&Answer>)) {
        let (choice, text, ending) = token;
        let finish = ending.map_or("null".to_owned(), |answer| quote(answer.finish.word()));
        self.open(out);
        let _ = match self.kind {
            Kind::Text => {
                write!(out, r#"{{"index":{choice},"text":{text},"logprobs":null,"finish_reason":{finish}}}]"#)
            }
            Kind::Chat => write!(
                out,
                r#"{{"index":{choice},"delta":{{"content":{text}}},"logprobs":null,"finish_reason":null}}]"#
            ),
        };
        self.usage_so_far(out, run, run.usage_of(choice));
        out.push_str("}\n\n");
        if ending.is_some() && self.kind == Kind::Chat {
            self.open(out);
            let _ =
                write!(out, r#"{{"index":{choice},"delta":{{}},"logprobs":null,"finish_reason":{finish}}}]"#);
            self.usage_so_far(out, run, run.usage_of(choice));
            out.push_str("}\n\n");
        }
    }

    fn open(&self, out: &mut String) {
        out.push_str(&self.head);
        out.push_str(r#""choices":["#);
    }

    fn usage_so_far(&self, out: &mut String, run: &Run, usage: Usage) {
        let (streaming, flavour) = (run.ask.streaming, self.flavour);
        if flavour == Flavour::OpenAi {
            if streaming != Streaming::Plain {
                out.push_str(r#","usage":null"#);
            }
        } else if streaming == Streaming::ContinuousUsage {
            let details = if self.kind == Kind::Chat { r#","completion_tokens_details":null"# } else { "" };
            let Usage { prompt, output, .. } = usage;
            let total = prompt + output;
            let _ = write!(
                out,
                r#","usage":{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{output}{details}}}"#
            );
        }
    }

    fn choice(&self, out: &mut String, run: &Run, choice: (usize, &Answer)) {
        let (index, answer) = choice;
        let finish = answer.finish.word();
        let text = match run.ask.echoes.get(index / run.ask.n) {
            Some(echo) => quote(&format!("{echo}{}", answer.text)),
            None => quote(&answer.text),
        };
        let stop = answer.stopped_by.as_deref().map_or("null".to_owned(), quote);
        let _ = match (self.flavour, self.kind) {
            (Flavour::Vllm, Kind::Chat) => write!(
                out,
                r#"{{"index":{index},"message":{{"role":"assistant","content":{text},"refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null}},"logprobs":null,"finish_reason":"{finish}","stop_reason":{stop},"token_ids":null,"routed_experts":null}}"#
            ),
            (Flavour::Vllm, Kind::Text) => write!(
                out,
                r#"{{"index":{index},"text":{text},"logprobs":null,"finish_reason":"{finish}","stop_reason":{stop},"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,"routed_experts":null}}"#
            ),
            (Flavour::OpenAi, Kind::Chat) => write!(
                out,
                r#"{{"index":{index},"message":{{"role":"assistant","content":{text},"refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"{finish}"}}"#
            ),
            (Flavour::OpenAi, Kind::Text) => {
                write!(out, r#"{{"text":{text},"index":{index},"logprobs":null,"finish_reason":"{finish}"}}"#)
            }
        };
    }

    fn ending(&self, out: &mut String, usage: Usage) {
        if self.flavour == Flavour::OpenAi {
            let usage = openai_usage(usage);
            let _ = write!(
                out,
                r#","usage":{usage},"service_tier":"default","system_fingerprint":"{OPENAI_FINGERPRINT}""#
            );
            return;
        }
        let Usage { prompt, output, cached } = usage;
        let (total, created) = (prompt + output, if self.kind == Kind::Chat { "0" } else { "null" });
        let _ = write!(
            out,
            r#","service_tier":null,"system_fingerprint":"{VLLM_FINGERPRINT}","usage":{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{output},"prompt_tokens_details":{{"cached_tokens":{cached},"created_cache_tokens":{created},"multimodal_tokens":null}},"completion_tokens_details":null}}"#
        );
        if self.kind == Kind::Chat {
            out.push_str(r#","prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null"#);
        }
        out.push_str(r#","kv_transfer_params":null,"ec_transfer_params":null,"metrics":null"#);
    }
}

/// The end of every stream.
pub(super) const DONE: &str = "data: [DONE]\n\n";

fn openai_usage(usage: Usage) -> Value {
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
