//! How long it takes to read and rewrite a request, and to read usage out of an answer as it passes.
//!
//! `cargo bench --bench openai`

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::StatusCode;
use signalbox::openai::{
    AnswerTranslator, Api, Change, ChatRequest, Format, ModelRenamer, Replacement, SystemMode,
    TranslatedAnswer, Translation, UsageReader,
};

/// What the user says.
#[derive(Clone, Copy)]
enum Text {
    English,
    /// Source code, with an escape every few words.
    Code,
    Chinese,
}

impl Text {
    fn sentence(self) -> &'static str {
        match self {
            Self::English => {
                "Linux is said to be an open source kernel because everybody may read its source. "
            }
            Self::Code => "    if (x[i] == \\\"a\\\") {\\n\\treturn \\\"b\\\";\\n    }\\n",
            Self::Chinese => "据说是一个开源内核，因为每个人都可以阅读它的源代码。",
        }
    }
}

/// A chat request of about `length` bytes with four turns.
fn chat(length: usize, text: Text) -> Bytes {
    let turn = text.sentence().repeat(length / 4 / text.sentence().len());
    Bytes::from(format!(
        "{{\"model\": \"auto\", \"messages\": [{{\"role\": \"system\", \"content\": \"{turn}\"}}, \
         {{\"role\": \"user\", \"content\": \"{turn}\"}}, {{\"role\": \"assistant\", \"content\": \"{turn}\"}}, \
         {{\"role\": \"user\", \"content\": \"{turn}\"}}], \"temperature\": 0.70, \"max_tokens\": 512, \
         \"top_k\": 40, \"stream\": true, \"stream_options\": {{\"include_usage\": true}}, \"user\": \"jo\"}}"
    ))
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request");
    for (name, text, length) in [
        ("1KB", Text::English, 1000),
        ("32KB", Text::English, 32 << 10),
        ("220KB", Text::English, 220_000),
        ("220KB code", Text::Code, 220_000),
        ("220KB chinese", Text::Chinese, 220_000),
    ] {
        let body = chat(length, text);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(BenchmarkId::new("parse", name), |b| {
            b.iter(|| ChatRequest::parse(black_box(&body).clone()).expect("a valid request"));
        });
        group.bench_function(BenchmarkId::new("parse and splice", name), |b| {
            b.iter(|| {
                let request = ChatRequest::parse(black_box(&body).clone()).expect("a valid request");
                request.with_model("llama3-8b")
            });
        });
        // A request reads its texts once, so that each iteration takes a fresh one.
        let parsed = || ChatRequest::parse(black_box(&body).clone()).expect("a valid request");
        group.bench_function(BenchmarkId::new("parse and prompt text", name), |b| {
            b.iter(|| parsed().prompt_text().len());
        });
        group.bench_function(BenchmarkId::new("parse and message texts", name), |b| {
            b.iter(|| parsed().message_texts().len());
        });
        group.bench_function(BenchmarkId::new("parse and segments", name), |b| {
            b.iter(|| parsed().segments().count());
        });
        group.bench_function(BenchmarkId::new("parse and decode segments", name), |b| {
            b.iter(|| parsed().segments().map(|segment| segment.text().len()).sum::<usize>());
        });
        let request = parsed();
        group.bench_function(BenchmarkId::new("message counts", name), |b| {
            b.iter(|| black_box(&request).message_counts());
        });
        group.bench_function(BenchmarkId::new("redact", name), |b| {
            b.iter(|| {
                black_box(&request).redacted(&[Replacement { segment: 3, range: 40..60, with: "[PERSON]" }])
            });
        });
        group.bench_function(BenchmarkId::new("change", name), |b| {
            let words = "Answer as a kind expert would.".to_owned();
            let change = Change::SystemPrompt { text: words, mode: SystemMode::Insert };
            b.iter(|| black_box(&request).changed(Api::Chat, &change));
        });
        group.bench_function(BenchmarkId::new("fingerprint", name), |b| {
            b.iter(|| black_box(&request).fingerprint(Api::Chat));
        });
    }
    group.finish();
}

/// A chat request of about 1 MB with 10,000 mail addresses, in so many messages.
fn addresses(messages: usize) -> Bytes {
    let each = 10_000 / messages;
    let message = |at: usize| {
        let texts = (0..each).map(|more| {
            format!("Please forward what was said about invoice number four to a{}@example.org, and then come back to me. ", at * each + more)
        });
        serde_json::json!({"role": "user", "content": texts.collect::<Vec<_>>().concat()})
    };
    let messages: Vec<_> = (0..messages).map(message).collect();
    Bytes::from(serde_json::json!({"model": "m", "messages": messages}).to_string())
}

/// All of masking but the finding of the addresses and the digests of them.
fn masking(c: &mut Criterion) {
    let mut group = c.benchmark_group("mask 10,000 addresses");
    group.sample_size(20);
    for messages in [1, 100, 10_000] {
        let body = addresses(messages);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(BenchmarkId::new("messages", messages), |b| {
            b.iter(|| {
                let request = ChatRequest::parse(black_box(&body).clone()).expect("a valid request");
                let blocks = request.text_blocks(|_, _| Some(()));
                let places = blocks.iter().flat_map(|((), block)| {
                    let found = block.text.match_indices("@example.org").map(|(at, _)| at - 1..at + 12);
                    request.segment_places(&block.pieces, found)
                });
                let places: Vec<_> = places.flatten().collect();
                assert_eq!(places.len(), 10_000);
                let replaced = places.iter().map(|place| Replacement {
                    segment: place.segment,
                    range: place.range.clone(),
                    with: "[EMAIL_ADDRESS_k3f9q2xa]",
                });
                request.redacted(&replaced.collect::<Vec<_>>()).expect("a valid request")
            });
        });
    }
    group.finish();
}

fn answers(c: &mut Criterion) {
    let token = "data: {\"id\":\"chatcmpl-6fa1f5f9a3c24a6b9f0c5d1e2b7a8c90\",\"object\":\"chat.completion.chunk\",\
        \"created\":1760000000,\"model\":\"llama3-8b\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" kernel\"},\
        \"logprobs\":null,\"finish_reason\":null,\"token_ids\":null}]}\n\n";
    let usage = token.replace(
        "]}\n",
        "],\"usage\":{\"prompt_tokens\":12,\"total_tokens\":99,\"completion_tokens\":87}}\n",
    );
    let mut group = c.benchmark_group("answer");
    let null = token.replace("]}\n", "],\"usage\":null}\n");
    for (name, event) in [("event", token), ("event with null", &null), ("event with usage", &usage)] {
        let mut reader = UsageReader::new(Format::EventStream);
        group.bench_function(name, |b| b.iter(|| reader.feed(black_box(event.as_bytes()))));
    }
    let mut reader = UsageReader::new(Format::EventStream);
    group.bench_function("event in two chunks", |b| {
        b.iter(|| {
            reader.feed(black_box(&token.as_bytes()[..100]));
            reader.feed(black_box(&token.as_bytes()[100..]));
        });
    });
    let numbers = "-0.0123456,".repeat(4096);
    let embedding =
        format!("{{\"data\":[{{\"embedding\":[{numbers}0]}}],\"usage\":{{\"prompt_tokens\":9}}}}");
    let chat = format!(
        "{{\"choices\":[{{\"message\":{{\"content\":\"{}\"}}}}],\"usage\":{{\"prompt_tokens\":9}}}}",
        Text::Code.sentence().repeat(40)
    );
    for (name, body) in [("chat json", chat), ("embedding json", embedding)] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut reader = UsageReader::new(Format::Json);
                reader.feed(black_box(body.as_bytes()));
                reader.finish()
            });
        });
    }
    group.finish();
}

/// Starts to translate an answer for a client of one API before an upstream that speaks another.
fn translator(client: Api, upstream: Api, format: Format) -> AnswerTranslator {
    let body = match client {
        Api::Responses => r#"{"model":"m","stream":true,"input":"hi"}"#,
        _ => r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}],"max_tokens":9}"#,
    };
    let request = ChatRequest::of(client, Bytes::from_static(body.as_bytes())).expect("a request");
    let way = Translation::between(client, |api| api == upstream).expect("there is a way");
    let answer = TranslatedAnswer { model: "m", request_id: "r", kept_as: None, now: 0 };
    way.answer(&request, StatusCode::OK, format, answer).expect("it can be translated")
}

/// An answer of about a kibibyte, and an event of a token, each in another dialect.
fn translating(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("translate");
    let text = Text::Code.sentence().repeat(40);
    let text = &text[..text.floor_char_boundary(800)].replace(['"', '\\', '\n'], " ");
    let chat = format!(
        r#"{{"id":"chatcmpl-1","created":5,"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":200}}}}"#
    );
    let message = format!(
        r#"{{"id":"msg_1","type":"message","role":"assistant","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","usage":{{"input_tokens":9,"output_tokens":200}}}}"#
    );
    for (client, upstream, body) in [
        (Api::Messages, Api::Chat, &chat),
        (Api::Responses, Api::Chat, &chat),
        (Api::Chat, Api::Messages, &message),
        (Api::Responses, Api::Messages, &message),
    ] {
        let id = BenchmarkId::new("answer", format!("{} of {}", client.name(), upstream.name()));
        group.bench_function(id, |b| {
            b.iter_batched_ref(
                || translator(client, upstream, Format::Json),
                |translator| translator.pass(black_box(body.as_bytes()), true).expect("an answer"),
                criterion::BatchSize::SmallInput,
            );
        });
    }
    let token = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}"#;
    let token = format!("{token}\n\n");
    for client in [Api::Messages, Api::Responses] {
        // As many as an answer has; a translator of responses holds what they say.
        const EVENTS: u64 = 200;
        group.throughput(Throughput::Elements(EVENTS));
        let id = BenchmarkId::new("200 events", format!("{} of chat", client.name()));
        group.bench_function(id, |b| {
            b.iter_batched_ref(
                || translator(client, Api::Chat, Format::EventStream),
                |translator| {
                    for _ in 0..EVENTS {
                        black_box(translator.pass(black_box(token.as_bytes()), false).expect("an event"));
                    }
                },
                criterion::BatchSize::SmallInput,
            );
        });
        group.throughput(Throughput::Elements(EVENTS));
    }
    let mut renamer = ModelRenamer::new(Format::EventStream, "public");
    let event = Bytes::from(token.clone());
    group.throughput(Throughput::Elements(1));
    group.bench_function("event with another model's name", |b| {
        b.iter(|| renamer.pass(black_box(event.clone())));
    });
    group.finish();
}

criterion_group!(benches, requests, masking, answers, translating);
criterion_main!(benches);
