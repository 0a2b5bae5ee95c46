//! What the client wants: the body of a completion request, read and checked as vLLM checks it.
//! It refuses to know how the answer is made; keys that change nothing here, tools among them, are ignored.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Options;
use super::refusal::Refusal;
use super::words::Prompt;

/// vLLM's `max_tokens` of a text completion that names none.
const TEXT_DEFAULT_TOKENS: usize = 16;
/// The most sequences that one request may ask for.
const MAX_N: i64 = 128;

/// Which of the two completion APIs is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// Whether and how the answer is streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streaming {
    /// One JSON document.
    Off,
    /// Events without usage.
    Plain,
    /// A last event with the usage.
    Usage,
    /// The usage so far in every event, and a last one.
    ContinuousUsage,
}

/// A checked request.
#[derive(Debug)]
pub(super) struct Ask {
    /// Which API is spoken.
    pub(super) kind: Kind,
    /// What to answer to; a chat is one prompt.
    pub(super) prompts: Vec<Prompt>,
    /// What to repeat before each prompt's answer.
    pub(super) echoes: Vec<String>,
    /// How many answers to each prompt.
    pub(super) n: usize,
    /// The most tokens of an answer.
    pub(super) max_tokens: usize,
    /// Whether an answer goes on to `max_tokens`.
    pub(super) ignore_eos: bool,
    /// What ends an answer.
    pub(super) stops: Vec<String>,
    /// How it is sent.
    pub(super) streaming: Streaming,
}

impl Ask {
    /// Reads a body; `context` is the longest prompt with its answer, in tokens.
    pub(super) fn read(kind: Kind, body: &[u8], options: &Options, context: usize) -> Result<Self, Refusal> {
        let raw: Raw = serde_json::from_slice(body).map_err(|error| Refusal::Malformed {
            message: format!("{{'type': 'json_invalid', 'loc': 'body', 'msg': '{error}'}}"),
            at: Some("body"),
        })?;
        if let Some(model) = &raw.model
            && !options.models.contains(model)
        {
            return Err(Refusal::UnknownModel { model: model.clone(), served: options.models.clone() });
        }
        raw.check()?;
        let streaming = raw.streaming()?;
        let (prompts, echoes) = match kind {
            Kind::Chat => (vec![raw.conversation(options.block_size)?], Vec::new()),
            Kind::Text => raw.prompts(options.block_size)?,
        };
        let longest = prompts.iter().map(|prompt| prompt.tokens).max().unwrap_or_default();
        let max_tokens = raw.limit(kind, longest, context)?;
        Ok(Self {
            kind,
            prompts,
            echoes,
            n: raw.n.unwrap_or(1) as usize,
            max_tokens,
            ignore_eos: raw.ignore_eos.unwrap_or_default(),
            stops: raw.stop.map_or_else(Vec::new, Many::into_vec),
            streaming,
        })
    }
}

#[derive(Debug, Deserialize)]
struct Raw {
    model: Option<String>,
    messages: Option<Vec<Message>>,
    prompt: Option<RawPrompt>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    n: Option<i64>,
    stop: Option<Many>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    ignore_eos: Option<bool>,
    echo: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
    continuous_usage_stats: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    text: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Many {
    One(String),
    Several(Vec<String>),
}

impl Many {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawPrompt {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u64>),
    ManyIds(Vec<Vec<u64>>),
    Other(IgnoredAny),
}

impl Raw {
    fn check(&self) -> Result<(), Refusal> {
        if let Some(n) = self.n.filter(|n| *n < 1) {
            return Err(Refusal::invalid(format!("n must be at least 1, got {n}."), None));
        }
        if let Some(n) = self.n.filter(|n| *n > MAX_N) {
            return Err(Refusal::invalid(format!("n must be at most {MAX_N}, got {n}."), None));
        }
        if let Some(heat) = self.temperature.filter(|heat| !(0.0..=2.0).contains(heat)) {
            let bound = if heat < 0.0 { "non-negative" } else { "in [0, 2]" };
            let message =
                format!("temperature must be {bound}, got {heat:?}. (parameter=temperature, value={heat:?})");
            return Err(Refusal::invalid(message, Some("temperature")));
        }
        if let Some(top_p) = self.top_p.filter(|top_p| *top_p <= 0.0 || *top_p > 1.0) {
            let message =
                format!("top_p must be in (0, 1], got {top_p:?}. (parameter=top_p, value={top_p:?})");
            return Err(Refusal::invalid(message, Some("top_p")));
        }
        Ok(())
    }

    fn streaming(&self) -> Result<Streaming, Refusal> {
        let streams = self.stream.unwrap_or_default();
        match &self.stream_options {
            None if streams => Ok(Streaming::Plain),
            None => Ok(Streaming::Off),
            Some(_) if !streams => Err(Refusal::invalid(
                "Stream options can only be defined when `stream=True`. (parameter=stream_options)",
                Some("stream_options"),
            )),
            Some(options) if !options.include_usage.unwrap_or_default() => Ok(Streaming::Plain),
            Some(options) if options.continuous_usage_stats.unwrap_or_default() => {
                Ok(Streaming::ContinuousUsage)
            }
            Some(_) => Ok(Streaming::Usage),
        }
    }

    fn conversation(&self, block_size: usize) -> Result<Prompt, Refusal> {
        let Some(messages) = &self.messages else {
            return Err(Refusal::Malformed {
                message: "{'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required'}".to_owned(),
                at: Some("body.messages"),
            });
        };
        if messages.is_empty() {
            let message =
                "Cannot apply chat template to an empty conversation. Provide at least one message.";
            return Err(Refusal::invalid(message, None));
        }
        let mut text = String::new();
        for message in messages {
            text.extend(["<|", &message.role, "|>\n"]);
            match &message.content {
                None => {}
                Some(Content::Text(content)) => text.push_str(content),
                Some(Content::Parts(parts)) => {
                    text.extend(parts.iter().map(|part| part.text.as_deref().unwrap_or("<|media|>")));
                }
            }
            text.push('\n');
        }
        text.push_str("<|assistant|>\n");
        Ok(Prompt::of_text(&text, block_size))
    }

    fn prompts(&self, block_size: usize) -> Result<(Vec<Prompt>, Vec<String>), Refusal> {
        let texts = |texts: &[String]| {
            let echoes = if self.echo.unwrap_or_default() { texts.to_vec() } else { Vec::new() };
            (texts.iter().map(|text| Prompt::of_text(text, block_size)).collect(), echoes)
        };
        let (prompts, echoes): (Vec<Prompt>, Vec<String>) = match &self.prompt {
            Some(RawPrompt::Text(text)) => texts(std::slice::from_ref(text)),
            Some(RawPrompt::Texts(all)) => texts(all),
            Some(RawPrompt::Ids(ids)) => (vec![Prompt::of_ids(ids, block_size)], Vec::new()),
            Some(RawPrompt::ManyIds(all)) => {
                (all.iter().map(|ids| Prompt::of_ids(ids, block_size)).collect(), Vec::new())
            }
            Some(RawPrompt::Other(_)) => {
                return Err(Refusal::Malformed {
                    message: "{'type': 'string_type', 'loc': 'body.prompt', 'msg': 'Input should be a valid \
                              string'}"
                        .to_owned(),
                    at: Some("body.prompt"),
                });
            }
            None => (Vec::new(), Vec::new()),
        };
        if self.prompt.is_some() && prompts.is_empty() {
            return Err(Refusal::invalid("You must pass at least one prompt", None));
        }
        if prompts.is_empty() || prompts.iter().any(|prompt| prompt.tokens == 0) {
            let message = "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)";
            return Err(Refusal::invalid(message, Some("prompt")));
        }
        Ok((prompts, echoes))
    }

    fn limit(&self, kind: Kind, prompt: usize, context: usize) -> Result<usize, Refusal> {
        if prompt >= context {
            let message = format!(
                "This model's maximum context length is {context} tokens. However, your prompt contains at \
                 least {prompt} input tokens, which exceeds this limit even without any output tokens. Please \
                 reduce the length of the input prompt. (parameter=input_tokens, value={prompt})"
            );
            return Err(Refusal::invalid(message, Some("input_tokens")));
        }
        let asked = match kind {
            Kind::Chat => self.max_completion_tokens.or(self.max_tokens),
            Kind::Text => self.max_tokens,
        };
        let Some(asked) = asked else {
            return Ok(match kind {
                Kind::Chat => context - prompt,
                Kind::Text => TEXT_DEFAULT_TOKENS.min(context - prompt),
            });
        };
        let wrong = |message: String| {
            Refusal::invalid(format!("{message} (parameter=max_tokens, value={asked})"), Some("max_tokens"))
        };
        if asked < 1 {
            return Err(wrong(format!("max_tokens must be at least 1, got {asked}.")));
        }
        let limit = usize::try_from(asked).unwrap_or(usize::MAX);
        if limit > context {
            return Err(wrong(format!(
                "max_tokens={asked} cannot be greater than max_model_len={context}. Please request fewer \
                 output tokens."
            )));
        }
        Ok(limit.min(context - prompt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, body: &str) -> Result<Ask, Refusal> {
        Ask::read(kind, body.as_bytes(), &Options::default(), 1000)
    }

    fn param(kind: Kind, body: &str) -> Option<&'static str> {
        match read(kind, body) {
            Err(Refusal::Invalid { param, .. }) => param,
            other => panic!("not invalid: {other:?}"),
        }
    }

    #[test]
    fn a_chat_is_one_prompt_whatever_its_contents_are_made_of() {
        let plain = read(Kind::Chat, r#"{"messages":[{"role":"user","content":"one two"}]}"#).unwrap();
        let parts = read(
            Kind::Chat,
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"one two"}]}],"tools":[{"x":1}]}"#,
        )
        .unwrap();
        assert_eq!(plain.prompts[0].digest, parts.prompts[0].digest);
        assert_eq!(plain.max_tokens, 1000 - plain.prompts[0].tokens);
    }

    #[test]
    fn a_prompt_may_be_text_texts_or_token_ids() {
        assert_eq!(read(Kind::Text, r#"{"prompt":"a"}"#).unwrap().prompts.len(), 1);
        assert_eq!(read(Kind::Text, r#"{"prompt":["a","b"]}"#).unwrap().prompts.len(), 2);
        assert_eq!(read(Kind::Text, r#"{"prompt":[5,6,7]}"#).unwrap().prompts[0].tokens, 3);
        assert_eq!(read(Kind::Text, r#"{"prompt":[[5,6],[7]]}"#).unwrap().prompts.len(), 2);
        assert!(matches!(read(Kind::Text, r#"{"prompt":{"a":1}}"#), Err(Refusal::Malformed { .. })));
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        assert_eq!(param(Kind::Text, r#"{"prompt":"a","max_tokens":0}"#), Some("max_tokens"));
        assert_eq!(param(Kind::Text, r#"{"prompt":"a","max_tokens":2000}"#), Some("max_tokens"));
        assert_eq!(param(Kind::Text, r#"{"prompt":"a","temperature":-1}"#), Some("temperature"));
        assert_eq!(param(Kind::Text, r#"{"prompt":"a","stream_options":{}}"#), Some("stream_options"));
        assert_eq!(param(Kind::Text, "{}"), Some("prompt"));
        let long = format!(r#"{{"prompt":"{}"}}"#, "word ".repeat(1200));
        assert_eq!(param(Kind::Text, &long), Some("input_tokens"));
        assert!(matches!(
            read(Kind::Chat, r#"{"model":"other","messages":[]}"#),
            Err(Refusal::UnknownModel { .. })
        ));
    }
}
