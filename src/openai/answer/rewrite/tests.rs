//! Tests of answers that are held back, changed and cut.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::answer::content::Channel;
use crate::{AnswerSplitter, Assembler, stream_of};

mod properties;

const ROOMY: RewriteLimits = RewriteLimits { max_held: 1 << 20 };

const APIS: [Api; 4] = [Api::Chat, Api::Completions, Api::Messages, Api::Responses];

/// A rewriter behind the splitter that it gets its pieces from.
struct SplitRewriter {
    splitter: AnswerSplitter,
    rewriter: AnswerRewriter,
}

impl SplitRewriter {
    fn new(format: Format, api: Api, limits: RewriteLimits) -> Self {
        let splitter = AnswerSplitter::new(format, limits.max_held);
        Self { splitter, rewriter: AnswerRewriter::new(format, api, limits) }
    }

    fn feed(&mut self, chunk: &[u8]) {
        self.splitter.feed(chunk, |piece| self.rewriter.hold(piece));
        self.rewriter.bound(self.splitter.held());
    }

    fn end(&mut self) {
        self.splitter.finish(|piece| self.rewriter.hold(piece));
        self.rewriter.end();
    }

    fn held(&self) -> usize {
        self.rewriter.held() + self.splitter.held()
    }
}

impl std::ops::Deref for SplitRewriter {
    type Target = AnswerRewriter;

    fn deref(&self) -> &AnswerRewriter {
        &self.rewriter
    }
}

impl std::ops::DerefMut for SplitRewriter {
    fn deref_mut(&mut self) -> &mut AnswerRewriter {
        &mut self.rewriter
    }
}

fn rewriter(format: Format, api: Api) -> SplitRewriter {
    SplitRewriter::new(format, api, ROOMY)
}

/// A whole answer that says `texts`: in two choices, blocks or items.
fn answer(api: Api, texts: &[String; 2]) -> Value {
    let [first, second] = texts;
    match api {
        Api::Chat => json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": first, "reasoning_content": second},
                "logprobs": null, "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "content": second, "tool_calls": [
                {"id": "t", "type": "function", "function": {"name": "f", "arguments": first}}]},
                "logprobs": null, "finish_reason": "tool_calls"}]}),
        Api::Completions => {
            json!({"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [
            {"index": 0, "text": first, "logprobs": null, "finish_reason": "stop"},
            {"index": 1, "text": second, "logprobs": null, "finish_reason": "length"}]})
        }
        Api::Messages => json!({"id": "m", "type": "message", "role": "assistant", "model": "x", "content": [
            {"type": "thinking", "thinking": first, "signature": "s"}, {"type": "text", "text": second}],
            "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 2}}),
        _ => {
            json!({"id": "r", "object": "response", "status": "completed", "error": null, "incomplete_details": null,
            "output": [
            {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": first}]},
            {"type": "message", "id": "i", "status": "completed", "role": "assistant", "content": [
                {"type": "output_text", "text": second, "annotations": [], "logprobs": []}]},
            {"type": "function_call", "id": "fc", "call_id": "k", "name": "f", "arguments": first}]})
        }
    }
}

fn streamed(api: Api, texts: &[String; 2]) -> Vec<u8> {
    let stream = stream_of(answer(api, texts).to_string().as_bytes(), api, true, 1).unwrap();
    [b": hello\n\n".as_slice(), &stream, b": bye\n\n"].concat()
}

fn assembled(api: Api, stream: &[u8]) -> Value {
    let mut assembler = Assembler::new(Format::EventStream, api, 1 << 24);
    let mut splitter = AnswerSplitter::new(Format::EventStream, usize::MAX);
    splitter.feed(stream, |piece| assembler.take(piece));
    splitter.finish(|piece| assembler.take(piece));
    let whole = assembler.finish().unwrap_or_else(|| panic!("broken: {}", String::from_utf8_lossy(stream)));
    serde_json::from_slice(&whole).unwrap()
}

/// Replaces every `secret`, and releases what can have no start of one in it.
fn mask(rewriter: &mut AnswerRewriter) {
    let waiting: Vec<_> =
        rewriter.pending().map(|text| (text.id, text.text.to_owned(), text.is_complete)).collect();
    for (id, text, is_complete) in waiting {
        let found: Vec<_> = text.match_indices("secret").map(|(at, word)| at..at + word.len()).collect();
        let safe = found.last().map_or(0, |range| range.end);
        let upto = if is_complete { text.len() } else { safe.max(text.len().saturating_sub("secre".len())) };
        let replacements: Vec<_> = found.into_iter().map(|range| (range, "[\"X\"]".to_owned())).collect();
        rewriter.release(id, upto, &replacements);
    }
}

fn release_all(rewriter: &mut AnswerRewriter) {
    let waiting: Vec<_> = rewriter.pending().map(|text| (text.id, text.text.len())).collect();
    for (id, upto) in waiting {
        rewriter.release(id, upto, &[]);
    }
}

fn through(
    mut rewriter: SplitRewriter,
    body: &[u8],
    size: usize,
    judge: impl Fn(&mut AnswerRewriter),
) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size.max(1)) {
        rewriter.feed(chunk);
        judge(&mut rewriter);
        out.extend_from_slice(&rewriter.take());
    }
    rewriter.end();
    judge(&mut rewriter);
    out.extend_from_slice(&rewriter.take());
    assert!(rewriter.is_over() && rewriter.pending().next().is_none() && !rewriter.overflow());
    assert_eq!(rewriter.cut(FinishReason::Stop, Some("late")), "");
    out
}

fn masked(texts: &[String; 2]) -> [String; 2] {
    [texts[0].replace("secret", "[\"X\"]"), texts[1].replace("secret", "[\"X\"]")]
}

/// A text with something to find, often across words and events.
fn text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "secret",
        "se",
        "cret ",
        "é",
        " \u{1f600}",
        "\"",
        "\n",
        "word ",
        "\\u0041",
    ]);
    prop::collection::vec(piece, 1..12).prop_map(|pieces| pieces.concat())
}

#[test]
fn text_waits_and_everything_before_it_goes() {
    let event = |content: &str| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{content}\"}}}}]}}\n\n")
    };
    let mut rewriter = rewriter(Format::EventStream, Api::Chat);
    rewriter.feed(format!(": ping\n\n{}{}{}", event(""), event("ab"), event("cd")).as_bytes());
    assert_eq!(rewriter.take(), format!(": ping\n\n{}", event("")));
    let id = TextId { choice: 0, channel: Channel::Content, part: 0 };
    let pending: Vec<_> = rewriter.pending().collect();
    assert_eq!(pending, [PendingText { id, text: "abcd", is_complete: false }]);
    rewriter.release(id, 3, &[]);
    assert_eq!(rewriter.take(), event("ab"));
    rewriter.release(id, 1, &[(0..1, "D!".to_owned())]);
    assert_eq!(rewriter.take(), event("cD!"));
    rewriter.feed(
        b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"e\"},\"finish_reason\":\"stop\"}]}\n\n",
    );
    assert!(rewriter.pending().all(|text| text.is_complete && text.text == "e"));
}

#[test]
fn a_replacement_that_spans_events_stands_in_the_first() {
    let event = |content: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{}}},\"x\": 1.50}}]}}\r\n\r\n",
            json!(content)
        )
    };
    let mut rewriter = rewriter(Format::EventStream, Api::Chat);
    rewriter.feed([event("my se"), event("cr"), event("et \u{e9}nd")].concat().as_bytes());
    let id = TextId { choice: 0, channel: Channel::Content, part: 0 };
    // Sorted; the second overlaps the first, the third splits a character, the last one inserts at the end.
    let wanted = [
        (3..9, "[1]".to_owned()),
        (8..10, "_".to_owned()),
        (11..12, "e".to_owned()),
        (14..14, "!".to_owned()),
    ];
    rewriter.release(id, 14, &wanted);
    assert_eq!(rewriter.take(), [event("my [1]"), event(""), event("_end!")].concat());
}

#[test]
fn what_tells_of_a_changed_text_goes_with_it() {
    let event = "data: {\"choices\":[{\"index\":0,\"logprobs\":{\"content\":[{\"token\":\"secret\"}]},\
        \"delta\":{\"content\":\"secret\"},\"token_ids\":[1]}]}\n\n";
    let out = through(rewriter(Format::EventStream, Api::Chat), event.as_bytes(), 7, mask);
    let expected = "data: {\"choices\":[{\"index\":0,\"logprobs\":null,\
        \"delta\":{\"content\":\"[\\\"X\\\"]\"},\"token_ids\":null}]}\n\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn what_is_no_json_object_is_a_text_too() {
    for data in
        ["secret", "[\"secret", "{\"choices\":[{\"delta\":{\"content\":\"secret", "{\"a\":\"secret\\x\"}"]
    {
        let stream = format!("data: {data}\n\ndata: [DONE]\n\n");
        let out = through(rewriter(Format::EventStream, Api::Chat), stream.as_bytes(), 3, mask);
        assert_eq!(String::from_utf8(out).unwrap(), stream.replace("secret", "[\"X\"]"));
        let out = through(rewriter(Format::Json, Api::Chat), data.as_bytes(), 3, mask);
        assert_eq!(String::from_utf8(out).unwrap(), data.replace("secret", "[\"X\"]"));
    }
    let mut broken = rewriter(Format::EventStream, Api::Chat);
    broken.feed(b"data: {\"choices\":[{\"delta\":{\"content\":\"secret \xff\"}}]}\n\n");
    assert!(broken.take().is_empty() && broken.pending().count() == 1);
}

#[test]
fn hidden_and_repeated_members_are_texts_too() {
    let stream = "data: {\"choices\":[{\"delta\":{\"cont\\u0065nt\":\"secret 1\",\"content\":\"\\u0073ecret 2\",\"odd\":\"secret\"}}]}\n\n";
    let out =
        String::from_utf8(through(rewriter(Format::EventStream, Api::Chat), stream.as_bytes(), 99, mask))
            .unwrap();
    assert!(!out.contains("ecret") && out.contains("[\\\"X\\\"] 2"));
}

#[test]
fn texts_in_parts_are_texts_too() {
    let stream = "data: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"text\":\"secret\"}]},\
        {\"text\":\"a\"}],\"reasoning_details\":[{\"summary\":\"secret\",\"type\":\"secret\"}]}}]}\n\n";
    let out = through(rewriter(Format::EventStream, Api::Chat), stream.as_bytes(), 99, mask);
    let out = String::from_utf8(out).unwrap();
    assert_eq!((out.matches("secret").count(), out.matches("[\\\"X\\\"]").count()), (1, 2), "{out}");
}

#[test]
fn what_only_claims_to_repeat_is_judged() {
    let stream = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n\
        data: {\"type\":\"response.output_text.done\",\"text\":\"a secret\"}\n\n\
        data: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"content\":[\
        {\"type\":\"output_text\",\"text\":\"another secret\"}]}]}}\n\n";
    let out = through(rewriter(Format::EventStream, Api::Responses), stream.as_bytes(), 9, mask);
    assert_eq!(String::from_utf8(out).unwrap(), stream.replace("secret", "[\\\"X\\\"]"));
    let out = through(rewriter(Format::EventStream, Api::Responses), stream.as_bytes(), 9, release_all);
    assert_eq!(String::from_utf8(out).unwrap(), stream);
}

#[test]
fn beyond_the_limit_nothing_more_is_held() {
    for (format, body) in [
        (Format::EventStream, streamed(Api::Chat, &["a ".repeat(400), "b ".repeat(400)])),
        (Format::Json, answer(Api::Chat, &["a ".repeat(400), "b ".repeat(400)]).to_string().into_bytes()),
    ] {
        let mut rewriter = SplitRewriter::new(format, Api::Chat, RewriteLimits { max_held: 900 });
        body.chunks(10).for_each(|chunk| rewriter.feed(chunk));
        rewriter.end();
        assert!(rewriter.overflow() && rewriter.held() < 4_000, "{}", rewriter.held());
        let cut = rewriter.cut(FinishReason::ContentFilter, None);
        let whole = if format == Format::Json {
            serde_json::from_slice(&cut).unwrap()
        } else {
            assembled(Api::Chat, &cut)
        };
        assert_eq!(whole["choices"][0]["finish_reason"], "content_filter");
        assert!(!String::from_utf8(cut.to_vec()).unwrap().contains("a "));
    }
}

#[test]
fn an_answer_released_as_it_comes_is_never_too_long() {
    let body = streamed(Api::Chat, &["word ".repeat(2_000), "b ".repeat(2_000)]);
    let limits = RewriteLimits { max_held: 4_000 };
    let out = through(SplitRewriter::new(Format::EventStream, Api::Chat, limits), &body, 100, release_all);
    assert_eq!(out, body);
}

/// What the chat answer says in choice 0, or the like of it in other APIs.
fn said(api: Api, whole: &Value) -> String {
    let texts: Vec<&Value> = match api {
        Api::Chat => vec![
            &whole["choices"][0]["message"]["reasoning_content"],
            &whole["choices"][0]["message"]["content"],
        ],
        Api::Completions => vec![&whole["choices"][0]["text"]],
        Api::Messages => whole["content"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|block| [&block["thinking"], &block["text"]])
            .collect(),
        _ => whole["output"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|item| [&item["summary"][0]["text"], &item["content"][0]["text"]])
            .collect(),
    };
    texts.into_iter().filter_map(Value::as_str).collect()
}

#[test]
fn a_cut_before_anything_came_is_an_answer() {
    for api in APIS {
        for format in [Format::EventStream, Format::Json] {
            let cut = rewriter(format, api).cut(FinishReason::ContentFilter, Some("Stopped."));
            let whole = if format == Format::Json {
                serde_json::from_slice(&cut).unwrap()
            } else {
                assembled(api, &cut)
            };
            assert_eq!(said(api, &whole), "Stopped.", "{api:?}");
        }
    }
}

#[test]
fn a_cut_document_says_what_was_released_and_how_it_ended() {
    let texts = ["one two".to_owned(), "three four".to_owned()];
    for api in APIS {
        let mut rewriter = rewriter(Format::Json, api);
        rewriter.feed(answer(api, &texts).to_string().as_bytes());
        rewriter.end();
        assert!(rewriter.take().is_empty());
        let ids: Vec<_> = rewriter.pending().map(|text| text.id).collect();
        for id in ids {
            rewriter.release(id, 4, &[(0..1, "O".to_owned())]);
        }
        let whole: Value =
            serde_json::from_slice(&rewriter.cut(FinishReason::ContentFilter, Some("..."))).unwrap();
        let text = whole.to_string();
        assert!(
            !text.contains("two") && !text.contains("four") && text.contains("...") && text.contains("Ohre"),
            "{text}"
        );
        let end = match api {
            Api::Messages => &whole["stop_reason"],
            Api::Responses => &whole["incomplete_details"]["reason"],
            _ => &whole["choices"][1]["finish_reason"],
        };
        assert!(end == "content_filter" || end == "refusal", "{text}");
    }
}

#[test]
fn a_cut_response_ends_every_open_part() {
    let stream =
        String::from_utf8(streamed(Api::Responses, &["think".to_owned(), "one two three".to_owned()]))
            .unwrap();
    let mut rewriter = rewriter(Format::EventStream, Api::Responses);
    let upto = stream.find("three").unwrap() + 10;
    rewriter.feed(&stream.as_bytes()[..upto]);
    release_all(&mut rewriter);
    let out = [rewriter.take(), rewriter.cut(FinishReason::ContentFilter, Some("!"))].concat();
    let out = String::from_utf8(out).unwrap();
    let names: Vec<_> = out.lines().filter_map(|line| line.strip_prefix("event: response.")).collect();
    assert_eq!(
        names[names.len() - 5..],
        ["output_text.delta", "output_text.done", "content_part.done", "output_item.done", "incomplete"]
    );
    let numbers: Vec<u64> = out
        .lines()
        .filter_map(|line| {
            serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok()?["sequence_number"].as_u64()
        })
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    let whole = assembled(Api::Responses, out.as_bytes());
    assert_eq!(whole["output"][1]["content"][0]["text"], "one two !");
    assert_eq!(whole["status"], "incomplete");
}
