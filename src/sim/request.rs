//! The body of a completion request, read and checked as vLLM checks it.
//! It refuses to know how a completion is generated; keys that change nothing here are ignored.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::SimOptions;
use super::error::SimApiError;
use super::structured::{FormBody, OutputForm};
use super::tokens::TokenizedPrompt;
use super::transfer::{MeetingRoom, SglangRole, TransferParams};

/// vLLM's `max_tokens` of a text completion that names none.
const TEXT_DEFAULT_TOKENS: usize = 16;
/// The most sequences that one request may ask for.
const MAX_N: i64 = 128;

/// The API of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompletionApi {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// Whether and how the completion is streamed.
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
pub(super) struct SimRequest {
    pub(super) api: CompletionApi,
    /// One for a chat.
    pub(super) prompts: Vec<TokenizedPrompt>,
    /// What to repeat before each prompt's completion.
    pub(super) echoes: Vec<String>,
    /// Completions of each prompt.
    pub(super) n: usize,
    pub(super) max_tokens: usize,
    /// Whether a completion goes on to `max_tokens`.
    pub(super) ignore_eos: bool,
    /// Strings that end a completion.
    pub(super) stops: Vec<String>,
    pub(super) streaming: Streaming,
    /// What the completion has to be.
    pub(super) form: OutputForm,
    /// Where the prompt comes from and goes to, if not here.
    pub(super) transfer: TransferParams,
    /// Where it is met over with the other of `SGLang`'s engines.
    pub(super) room: Option<MeetingRoom>,
}

impl SimRequest {
    /// Reads a body; `context` is the longest prompt with its completion, in tokens.
    pub(super) fn read(
        api: CompletionApi,
        bytes: &[u8],
        options: &SimOptions,
        context: usize,
    ) -> Result<Self, SimApiError> {
        let body: CompletionBody = serde_json::from_slice(bytes).map_err(|error| SimApiError::Malformed {
            message: format!("{{'type': 'json_invalid', 'loc': 'body', 'msg': '{error}'}}"),
            at: Some("body"),
        })?;
        if let Some(model) = &body.model
            && !options.models.contains(model)
        {
            return Err(SimApiError::UnknownModel { model: model.clone(), served: options.models.clone() });
        }
        body.sampling.check()?;
        let streaming = body.streaming()?;
        let form = match api {
            CompletionApi::Chat => body.form.form()?,
            CompletionApi::Text => OutputForm::Text,
        };
        let (prompts, echoes) = match api {
            CompletionApi::Chat => (vec![body.conversation(options.capacity.block_size)?], Vec::new()),
            CompletionApi::Text => body.prompts(options.capacity.block_size)?,
        };
        let longest = prompts.iter().map(|prompt| prompt.tokens).max().unwrap_or_default();
        let max_tokens = match options.sglang {
            // Its answer is the prompt's.
            Some(SglangRole::Prefill) => 1,
            _ => body.sampling.max_tokens(api, longest, context)?,
        };
        if options.sglang.is_some() && body.room.is_none() {
            let message = "Invalid request: Disaggregated request received without bootstrap room id.";
            return Err(SimApiError::invalid(message, Some("bootstrap_room")));
        }
        Ok(Self {
            api,
            prompts,
            echoes,
            n: body.sampling.n.unwrap_or(1) as usize,
            max_tokens,
            ignore_eos: body.sampling.ignore_eos.unwrap_or_default(),
            stops: body.sampling.stop.map_or_else(Vec::new, StopStrings::into_vec),
            streaming,
            form,
            transfer: body.kv_transfer_params.unwrap_or_default(),
            room: body.room.filter(|_| options.sglang.is_some()),
        })
    }
}

#[derive(Debug, Deserialize)]
struct CompletionBody {
    model: Option<String>,
    messages: Option<Vec<SimMessage>>,
    prompt: Option<PromptInput>,
    echo: Option<bool>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    kv_transfer_params: Option<TransferParams>,
    #[serde(flatten)]
    room: Option<MeetingRoom>,
    #[serde(flatten)]
    form: FormBody,
    #[serde(flatten)]
    sampling: SamplingBody,
}

#[derive(Debug, Deserialize)]
struct SamplingBody {
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    n: Option<i64>,
    stop: Option<StopStrings>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    ignore_eos: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
    continuous_usage_stats: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct SimMessage {
    role: String,
    content: Option<SimContent>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum SimContent {
    Text(String),
    Parts(Vec<SimContentPart>),
}

#[derive(Debug, Deserialize)]
struct SimContentPart {
    text: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum StopStrings {
    One(String),
    Several(Vec<String>),
}

impl StopStrings {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum PromptInput {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u64>),
    ManyIds(Vec<Vec<u64>>),
    Other(IgnoredAny),
}

impl CompletionBody {
    fn streaming(&self) -> Result<Streaming, SimApiError> {
        let streams = self.stream.unwrap_or_default();
        match &self.stream_options {
            None if streams => Ok(Streaming::Plain),
            None => Ok(Streaming::Off),
            Some(_) if !streams => Err(SimApiError::invalid(
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

    fn conversation(&self, block_size: usize) -> Result<TokenizedPrompt, SimApiError> {
        let Some(messages) = &self.messages else {
            return Err(SimApiError::Malformed {
                message: "{'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required'}".to_owned(),
                at: Some("body.messages"),
            });
        };
        if messages.is_empty() {
            let message =
                "Cannot apply chat template to an empty conversation. Provide at least one message.";
            return Err(SimApiError::invalid(message, None));
        }
        let mut text = String::new();
        for message in messages {
            text.extend(["<|", &message.role, "|>\n"]);
            match &message.content {
                None => {}
                Some(SimContent::Text(content)) => text.push_str(content),
                Some(SimContent::Parts(parts)) => {
                    text.extend(parts.iter().map(|part| part.text.as_deref().unwrap_or("<|media|>")));
                }
            }
            text.push('\n');
        }
        text.push_str("<|assistant|>\n");
        Ok(TokenizedPrompt::of_text(&text, block_size))
    }

    fn prompts(&self, block_size: usize) -> Result<(Vec<TokenizedPrompt>, Vec<String>), SimApiError> {
        let texts = |texts: &[String]| {
            let echoes = if self.echo.unwrap_or_default() { texts.to_vec() } else { Vec::new() };
            (texts.iter().map(|text| TokenizedPrompt::of_text(text, block_size)).collect(), echoes)
        };
        let (prompts, echoes): (Vec<TokenizedPrompt>, Vec<String>) = match &self.prompt {
            Some(PromptInput::Text(text)) => texts(std::slice::from_ref(text)),
            Some(PromptInput::Texts(all)) => texts(all),
            Some(PromptInput::Ids(ids)) => (vec![TokenizedPrompt::of_ids(ids, block_size)], Vec::new()),
            Some(PromptInput::ManyIds(all)) => {
                (all.iter().map(|ids| TokenizedPrompt::of_ids(ids, block_size)).collect(), Vec::new())
            }
            Some(PromptInput::Other(_)) => {
                return Err(SimApiError::Malformed {
                    message: "{'type': 'string_type', 'loc': 'body.prompt', 'msg': 'Input should be a valid \
                              string'}"
                        .to_owned(),
                    at: Some("body.prompt"),
                });
            }
            None => (Vec::new(), Vec::new()),
        };
        if self.prompt.is_some() && prompts.is_empty() {
            return Err(SimApiError::invalid("You must pass at least one prompt", None));
        }
        if prompts.is_empty() || prompts.iter().any(|prompt| prompt.tokens == 0) {
            let message = "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)";
            return Err(SimApiError::invalid(message, Some("prompt")));
        }
        Ok((prompts, echoes))
    }
}

impl SamplingBody {
    fn check(&self) -> Result<(), SimApiError> {
        if let Some(n) = self.n.filter(|n| *n < 1) {
            return Err(SimApiError::invalid(format!("n must be at least 1, got {n}."), None));
        }
        if let Some(n) = self.n.filter(|n| *n > MAX_N) {
            return Err(SimApiError::invalid(format!("n must be at most {MAX_N}, got {n}."), None));
        }
        if let Some(temperature) = self.temperature.filter(|temperature| !(0.0..=2.0).contains(temperature)) {
            let bound = if temperature < 0.0 { "non-negative" } else { "in [0, 2]" };
            let message = format!(
                "temperature must be {bound}, got {temperature:?}. (parameter=temperature, value={temperature:?})"
            );
            return Err(SimApiError::invalid(message, Some("temperature")));
        }
        if let Some(top_p) = self.top_p.filter(|top_p| *top_p <= 0.0 || *top_p > 1.0) {
            let message =
                format!("top_p must be in (0, 1], got {top_p:?}. (parameter=top_p, value={top_p:?})");
            return Err(SimApiError::invalid(message, Some("top_p")));
        }
        Ok(())
    }

    fn max_tokens(&self, api: CompletionApi, prompt: usize, context: usize) -> Result<usize, SimApiError> {
        if prompt >= context {
            let message = format!(
                "This model's maximum context length is {context} tokens. However, your prompt contains at \
                 least {prompt} input tokens, which exceeds this limit even without any output tokens. Please \
                 reduce the length of the input prompt. (parameter=input_tokens, value={prompt})"
            );
            return Err(SimApiError::invalid(message, Some("input_tokens")));
        }
        let asked = match api {
            CompletionApi::Chat => self.max_completion_tokens.or(self.max_tokens),
            CompletionApi::Text => self.max_tokens,
        };
        let Some(asked) = asked else {
            return Ok(match api {
                CompletionApi::Chat => context - prompt,
                CompletionApi::Text => TEXT_DEFAULT_TOKENS.min(context - prompt),
            });
        };
        let wrong = |message: String| {
            SimApiError::invalid(
                format!("{message} (parameter=max_tokens, value={asked})"),
                Some("max_tokens"),
            )
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

    fn read(api: CompletionApi, body: &str) -> Result<SimRequest, SimApiError> {
        SimRequest::read(api, body.as_bytes(), &SimOptions::default(), 1000)
    }

    fn param(api: CompletionApi, body: &str) -> Option<&'static str> {
        match read(api, body) {
            Err(SimApiError::Invalid { param, .. }) => param,
            other => panic!("not invalid: {other:?}"),
        }
    }

    #[test]
    fn a_chat_is_one_prompt_whatever_its_contents_are_made_of() {
        let plain =
            read(CompletionApi::Chat, r#"{"messages":[{"role":"user","content":"one two"}]}"#).unwrap();
        let parts = read(
            CompletionApi::Chat,
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"one two"}]}],"tools":[{"x":1}],"tool_choice":"auto"}"#,
        )
        .unwrap();
        assert_eq!(plain.prompts[0].digest, parts.prompts[0].digest);
        assert_eq!(plain.max_tokens, 1000 - plain.prompts[0].tokens);
    }

    #[test]
    fn a_prompt_may_be_text_texts_or_token_ids() {
        assert_eq!(read(CompletionApi::Text, r#"{"prompt":"a"}"#).unwrap().prompts.len(), 1);
        assert_eq!(read(CompletionApi::Text, r#"{"prompt":["a","b"]}"#).unwrap().prompts.len(), 2);
        assert_eq!(read(CompletionApi::Text, r#"{"prompt":[5,6,7]}"#).unwrap().prompts[0].tokens, 3);
        assert_eq!(read(CompletionApi::Text, r#"{"prompt":[[5,6],[7]]}"#).unwrap().prompts.len(), 2);
        assert!(matches!(
            read(CompletionApi::Text, r#"{"prompt":{"a":1}}"#),
            Err(SimApiError::Malformed { .. })
        ));
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        assert_eq!(param(CompletionApi::Text, r#"{"prompt":"a","max_tokens":0}"#), Some("max_tokens"));
        assert_eq!(param(CompletionApi::Text, r#"{"prompt":"a","max_tokens":2000}"#), Some("max_tokens"));
        assert_eq!(param(CompletionApi::Text, r#"{"prompt":"a","temperature":-1}"#), Some("temperature"));
        assert_eq!(
            param(CompletionApi::Text, r#"{"prompt":"a","stream_options":{}}"#),
            Some("stream_options")
        );
        assert_eq!(param(CompletionApi::Text, "{}"), Some("prompt"));
        let long = format!(r#"{{"prompt":"{}"}}"#, "word ".repeat(1200));
        assert_eq!(param(CompletionApi::Text, &long), Some("input_tokens"));
        assert!(matches!(
            read(CompletionApi::Chat, r#"{"model":"other","messages":[]}"#),
            Err(SimApiError::UnknownModel { .. })
        ));
    }
}
