//! What an answer cost, read while it passes.
//!
//! Owns the names under which OpenAI's two APIs, vLLM and Anthropic report tokens. Refuses to hold or change
//! the answer: it sees chunks, in any cut, and keeps counts.

use std::borrow::Cow;

use memchr::memmem::Finder;

use crate::json;
use crate::json::object::string_member;
use crate::sse::{MAX_EVENT, SseFrame};

use super::tail::{Tail, last_value};
use super::{AnswerPiece, AnswerSplitter, Format};

/// How many tokens a request took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// Tokens read, the cached ones included.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
    /// Tokens read that the upstream had in its cache.
    pub cached_tokens: u64,
}

impl TokenUsage {
    /// Returns it with no number above what can be.
    #[must_use]
    pub fn with_at_most(self, prompt: u64, completion: u64) -> Self {
        let prompt_tokens = self.prompt_tokens.min(prompt);
        Self {
            prompt_tokens,
            completion_tokens: self.completion_tokens.min(completion),
            cached_tokens: self.cached_tokens.min(prompt_tokens),
        }
    }
}

/// Reads usage out of an answer that passes in chunks, and changes nothing of it.
#[derive(Debug)]
pub struct UsageReader {
    splitter: AnswerSplitter,
    counter: UsageCounter,
}

/// Reads usage out of the pieces of an answer.
#[derive(Debug)]
pub struct UsageCounter {
    source: UsageSource,
}

#[derive(Debug)]
enum UsageSource {
    Json(Tail),
    Events(Box<StreamUsage>),
    Opaque,
}

impl UsageReader {
    /// Starts to read an answer.
    pub fn new(format: Format) -> Self {
        Self { splitter: AnswerSplitter::new(format, MAX_EVENT), counter: UsageCounter::new(format) }
    }

    /// Takes the next bytes of the body.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.splitter.feed(chunk, |piece| self.counter.take(piece));
        self.counter.follow(chunk, self.splitter.is_inside_oversized());
    }

    /// Ends the answer and returns what it cost, if it said so.
    pub fn finish(&mut self) -> Option<TokenUsage> {
        self.splitter.finish(|piece| self.counter.take(piece));
        self.usage()
    }

    /// Returns what the answer has said so far about its cost; the last word counts.
    pub fn usage(&self) -> Option<TokenUsage> {
        self.counter.usage()
    }

    /// Returns how many events with data have passed, the closing `[DONE]` not counted.
    pub fn events(&self) -> u64 {
        self.counter.events()
    }

    /// Returns how many events were too long to be read.
    pub fn skipped(&self) -> u64 {
        self.counter.stream().map_or(0, |stream| stream.skipped)
    }

    /// Says whether the stream's last event has passed.
    pub fn has_ended(&self) -> bool {
        self.counter.has_ended()
    }
}

impl UsageCounter {
    /// Starts to read an answer.
    pub fn new(format: Format) -> Self {
        let source = match format {
            Format::Json => UsageSource::Json(Tail::default()),
            Format::EventStream => UsageSource::Events(Box::new(StreamUsage::new())),
            Format::Opaque => UsageSource::Opaque,
        };
        Self { source }
    }

    /// Takes the next piece of the body.
    pub fn take(&mut self, piece: AnswerPiece<'_>) {
        match (&mut self.source, piece) {
            (UsageSource::Events(stream), AnswerPiece::Event(frame)) if frame.len() > MAX_EVENT => {
                stream.skip();
                stream.take_end(frame.raw());
            }
            (UsageSource::Events(stream), AnswerPiece::Event(frame)) => stream.take(frame),
            (UsageSource::Events(stream), AnswerPiece::Oversized) => stream.skip(),
            (UsageSource::Json(tail), AnswerPiece::Bytes(bytes)) => tail.feed(bytes),
            _ => {}
        }
    }

    /// Takes a chunk whose events were taken, and says whether it ends inside of one of which nothing is held: of those the
    /// end is looked at, where usage stands.
    pub fn follow(&mut self, chunk: &[u8], is_inside: bool) {
        let UsageSource::Events(stream) = &mut self.source else { return };
        let Some(long) = &mut stream.long else { return };
        long.feed(chunk);
        if !is_inside && let Some(long) = stream.long.take() {
            stream.take_end(long.bytes());
        }
    }

    /// Returns what the answer has said so far about its cost; the last word counts.
    pub fn usage(&self) -> Option<TokenUsage> {
        match &self.source {
            UsageSource::Json(tail) => tail.usage(UsageCounts::read)?.usage(),
            UsageSource::Events(stream) => stream.counts.usage(),
            UsageSource::Opaque => None,
        }
    }

    /// Returns how many events with data have passed, the closing `[DONE]` not counted.
    pub fn events(&self) -> u64 {
        self.stream().map_or(0, |stream| stream.events)
    }

    /// Says whether the stream's last event has passed: `[DONE]`, or what ends a message or a response.
    pub fn has_ended(&self) -> bool {
        self.stream().is_some_and(|stream| stream.has_ended)
    }

    fn stream(&self) -> Option<&StreamUsage> {
        match &self.source {
            UsageSource::Events(stream) => Some(stream),
            UsageSource::Json(_) | UsageSource::Opaque => None,
        }
    }
}

/// What the events of a stream have said so far.
#[derive(Debug)]
struct StreamUsage {
    counts: UsageCounts,
    events: u64,
    skipped: u64,
    /// The end of an event that is too long to be held.
    long: Option<Tail>,
    has_ended: bool,
    usage_key: Finder<'static>,
    message_end: Finder<'static>,
    response_event: Finder<'static>,
}

/// How the names of the events go on that end a response, behind `response.`.
const RESPONSE_ENDS: [&[u8]; 3] = [b"completed\"", b"incomplete\"", b"failed\""];

impl StreamUsage {
    fn new() -> Self {
        Self {
            counts: UsageCounts::default(),
            events: 0,
            skipped: 0,
            long: None,
            has_ended: false,
            usage_key: Finder::new("\"usage\""),
            message_end: Finder::new("\"message_stop\""),
            response_event: Finder::new("\"response."),
        }
    }

    /// Whether an event is the last of Anthropic's Messages or of the Responses API.
    fn is_last(&self, data: &[u8]) -> bool {
        // A quote inside a text is escaped, so what a model says is not taken for a name.
        let begins = self.response_event.find_iter(data).map(|at| &data[at + "\"response.".len()..]);
        let may_be = self.message_end.find(data).is_some()
            || begins.into_iter().any(|rest| RESPONSE_ENDS.iter().any(|end| rest.starts_with(end)));
        let ends = ["message_stop", "response.completed", "response.incomplete", "response.failed"];
        may_be && string_member(data, "type").is_some_and(|kind| ends.contains(&&*kind))
    }

    /// Notes an event that is too long to be read.
    fn skip(&mut self) {
        self.skipped += 1;
        self.long = Some(Tail::default());
    }

    /// Takes the last usage from the end of a long event.
    fn take_end(&mut self, bytes: &[u8]) {
        self.long = None;
        let counts = last_value(bytes, UsageCounts::read_object);
        self.counts = counts.unwrap_or_else(|| std::mem::take(&mut self.counts));
    }

    /// Looks at an event's bytes, and into its JSON only if it may say something about usage.
    fn take(&mut self, event: SseFrame<'_>) {
        let Some(data) = event.data() else {
            return;
        };
        if *data == *b"[DONE]" {
            self.has_ended = true;
            return;
        }
        self.events += 1;
        // The events of choices have no names, and are not looked into.
        let is_named = event.raw().starts_with(b"event") || data.starts_with(b"{\"type\"");
        self.has_ended |= is_named && self.is_last(&data);
        if !speaks(&data, &self.usage_key) {
            return;
        }
        for (key, value) in members(&data) {
            match key {
                // The Responses API reports inside `response`, Anthropic's first event inside `message`.
                b"response" | b"message" => members(value).for_each(|(key, value)| self.member(key, value)),
                _ => self.member(key, value),
            }
        }
    }

    fn member(&mut self, key: &[u8], value: &[u8]) {
        if key == b"usage" {
            self.counts.take(value);
        }
    }
}

/// Says whether `key` stands anywhere but before a `null`, which some servers write into every event.
fn speaks(data: &[u8], key: &Finder<'_>) -> bool {
    key.find_iter(data).any(|at| {
        let after = data[at + key.needle().len()..].trim_ascii_start();
        !after.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"null"))
    })
}

/// Token counts under the names that upstreams give them; what comes later replaces what came before.
#[derive(Debug, Default)]
struct UsageCounts {
    /// `prompt_tokens`, cached ones included.
    prompt: Option<u64>,
    /// `input_tokens`, in which the Responses API includes cached ones and Anthropic does not.
    input: Option<u64>,
    /// `completion_tokens` or `output_tokens`.
    completion: Option<u64>,
    /// `cached_tokens` in the details.
    cached: Option<u64>,
    /// Anthropic's `cache_read_input_tokens`.
    cache_read: Option<u64>,
    /// Anthropic's `cache_creation_input_tokens`.
    cache_created: Option<u64>,
}

impl UsageCounts {
    /// Reads the value of a `usage` that stands at the start, and says where it ends.
    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut counts = Self::default();
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Some((counts, json::value_end(bytes)?));
        }
        let mut items = json::members(bytes, 0);
        for item in items.by_ref() {
            let item = item.ok()?;
            counts.member(&bytes[item.key], &bytes[item.value]);
        }
        Some((counts, items.at()))
    }

    /// Reads the value of a `usage` that stands at the start, if that is an object that says something.
    fn read_object(bytes: &[u8]) -> Option<Self> {
        let (counts, _) = Self::read(bytes)?;
        counts.usage().is_some().then_some(counts)
    }

    /// Reads the value of a `usage`.
    fn take(&mut self, usage: &[u8]) {
        members(usage).for_each(|(key, value)| self.member(key, value));
    }

    fn member(&mut self, key: &[u8], value: &[u8]) {
        let place = match key {
            b"prompt_tokens" => &mut self.prompt,
            b"input_tokens" => &mut self.input,
            b"completion_tokens" | b"output_tokens" => &mut self.completion,
            b"cache_read_input_tokens" => &mut self.cache_read,
            b"cache_creation_input_tokens" => &mut self.cache_created,
            b"prompt_tokens_details" | b"input_tokens_details" => {
                let cached = members(value).find(|(key, _)| *key == b"cached_tokens");
                let cached = cached.and_then(|(_, value)| number(value));
                self.cached = cached.or(self.cached);
                return;
            }
            _ => return,
        };
        *place = number(value).or(*place);
    }

    fn usage(&self) -> Option<TokenUsage> {
        let apart = self.cache_read.unwrap_or(0).saturating_add(self.cache_created.unwrap_or(0));
        let prompt = self.prompt.or(self.input.map(|input| input.saturating_add(apart)));
        if prompt.is_none() && self.completion.is_none() {
            return None;
        }
        Some(TokenUsage {
            prompt_tokens: prompt.unwrap_or(0),
            completion_tokens: self.completion.unwrap_or(0),
            cached_tokens: self.cached.or(self.cache_read).unwrap_or(0),
        })
    }
}

/// Says whether an event tells what a stream of choices cost, and nothing else.
pub fn is_usage_chunk(event: SseFrame<'_>) -> bool {
    let Some(data) = event.data() else { return false };
    json::member(&data, "choices").is_some_and(|choices| choices[1..].trim_ascii_start() == b"]")
        && json::member(&data, "usage").is_some_and(|usage| usage.starts_with(b"{"))
}

/// Returns an event without what its stream has cost so far; nothing if it does not say that, or not on one line.
pub fn without_usage(event: SseFrame<'_>) -> Option<Vec<u8>> {
    let Some(Cow::Borrowed(data)) = event.data() else { return None };
    let items: Vec<_> = json::members(data, 0).collect::<Result<_, _>>().ok()?;
    let at = items.iter().position(|item| data[item.key.clone()] == *b"usage")?;
    // With the quotes around its key, and one of the commas beside it.
    let (start, end) = match (at.checked_sub(1), items.get(at + 1)) {
        (_, Some(next)) => (items[at].key.start - 1, next.key.start - 1),
        (Some(before), None) => (items[before].value.end, items[at].value.end),
        (None, None) => (items[at].key.start - 1, items[at].value.end),
    };
    let offset = data.as_ptr() as usize - event.raw().as_ptr() as usize;
    let raw = event.raw();
    Some([&raw[..offset + start], &raw[offset + end..]].concat())
}

/// Returns keys as written and values of an object; nothing if it is none.
fn members(object: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    json::members(object, 0).map_while(Result::ok).map(|item| (&object[item.key], &object[item.value]))
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(format: Format, body: &str, cuts: &[usize]) -> UsageReader {
        let mut reader = UsageReader::new(format);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        cuts.windows(2).for_each(|pair| reader.feed(&body.as_bytes()[pair[0]..pair[1]]));
        reader.finish();
        reader
    }

    fn summary(reader: &UsageReader) -> (Option<TokenUsage>, u64, bool, u64) {
        (reader.usage(), reader.events(), reader.has_ended(), reader.skipped())
    }

    fn tokens(prompt_tokens: u64, completion_tokens: u64, cached_tokens: u64) -> TokenUsage {
        TokenUsage { prompt_tokens, completion_tokens, cached_tokens }
    }

    const CHAT: &str = concat!(
        "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n",
        "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"say \\\"usage\\\"\"}}],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"total_tokens\":14,\"completion_tokens\":2,",
        "\"prompt_tokens_details\":{\"cached_tokens\":8}}}\n\ndata: [DONE]\n\n",
    );

    #[test]
    fn a_chat_stream_reports_at_its_end() {
        assert_eq!(summary(&read(Format::EventStream, CHAT, &[])), (Some(tokens(12, 2, 8)), 3, true, 0));
    }

    #[test]
    fn the_last_word_counts() {
        let event =
            |n: u64| format!("data: {{\"usage\":{{\"prompt_tokens\":7,\"completion_tokens\":{n}}}}}\n\n");
        let stream = format!("{}{}{}", event(1), event(2), event(3));
        assert_eq!(read(Format::EventStream, &stream, &[]).usage(), Some(tokens(7, 3, 0)));
    }

    #[test]
    fn the_responses_api_and_anthropic_report_elsewhere() {
        let responses = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"error\":null,\
            \"usage\":{\"input_tokens\":9,\"input_tokens_details\":{\"cached_tokens\":4},\"output_tokens\":5}}}\n\n";
        assert_eq!(summary(&read(Format::EventStream, responses, &[])), (Some(tokens(9, 5, 4)), 1, true, 0));
        let anthropic = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":\
            {\"input_tokens\":3,\"cache_read_input_tokens\":20,\"cache_creation_input_tokens\":2,\"output_tokens\":1}}}\n\n\
            event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15}}\n\n";
        assert_eq!(read(Format::EventStream, anthropic, &[]).usage(), Some(tokens(25, 15, 20)));
    }

    #[test]
    fn a_json_answer_reports_in_its_top_level() {
        let body = r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":1}"}}],"usage":{"prompt_tokens":5,"completion_tokens":6}}"#;
        assert_eq!(summary(&read(Format::Json, body, &[])), (Some(tokens(5, 6, 0)), 0, false, 0));
        for none in ["", "[]", r#"{"usage":null}"#, r#"{"usage":{"prompt_tokens":"5"}}"#, r#"{"usage":"x"}"#]
        {
            assert_eq!(read(Format::Json, none, &[]).usage(), None);
        }
        assert_eq!(read(Format::Opaque, body, &[]).usage(), None);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_counts(
            end in prop::sample::select(vec!["\n", "\r", "\r\n"]),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            let stream = format!("\u{feff}: hello\n\n{CHAT}").replace('\n', end);
            let reader = read(Format::EventStream, &stream, &cuts);
            prop_assert_eq!(summary(&reader), (Some(tokens(12, 2, 8)), 3, true, 0));
        }

        #[test]
        fn any_chunking_of_json_gives_the_same_counts(cuts in prop::collection::vec(any::<usize>(), 0..20)) {
            let body = r#" {"id":"x","choices":[{"message":{"content":"{\\\"usage\\\""},"n":[1, 2]}], "usage" :
                {"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens":6}, "z":0}"#;
            prop_assert_eq!(read(Format::Json, body, &cuts).usage(), Some(tokens(5, 6, 4)));
        }
    }
}
