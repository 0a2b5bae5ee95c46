//! Signals read from whole requests, with the built-in classifier.

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::classify::{Classifier, Unknown};
use crate::openai::ChatRequest;
use crate::policy::{ClassifierSpec, Fixed, Policy, Principal, Scope, SignalId, TextSources, load};

static CLASSIFIER: LazyLock<Classifier> =
    LazyLock::new(|| Classifier::load(&ClassifierSpec::default()).expect("the built-in model loads"));

fn policy(rest: &str) -> Policy {
    let text = format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: m\nmodels: {{m: {{pools: [p]}}}}\n\
         pools: {{p: {{endpoints: [\"127.0.0.1:1\"]}}}}\n{rest}"
    );
    load(&text, Path::new("."), &Fixed::default(), None).unwrap()
}

/// A conversation of a user and a model in turns; the last message is the user's.
fn chat(texts: &[&str]) -> ChatRequest {
    let role = |at: usize| if (texts.len() - at) % 2 == 1 { "user" } else { "assistant" };
    let messages = texts.iter().enumerate().map(|(at, text)| json!({"role": role(at), "content": text}));
    let messages: Vec<_> = messages.collect();
    body(&json!({"model": "auto", "messages": messages, "metadata": {"plan": "gold"}}))
}

fn body(value: &serde_json::Value) -> ChatRequest {
    ChatRequest::parse(Bytes::from(value.to_string())).unwrap()
}

/// Takes only what may go on on another thread than it began on.
fn on_any_thread<F: Future + Send>(future: F) -> F {
    future
}

struct Reader {
    policy: Policy,
    detectors: Detectors,
}

impl Reader {
    fn new(signals: &str) -> Self {
        let policy = policy(&format!("signals:\n{signals}"));
        let detectors = Detectors::build(&policy, &CLASSIFIER).unwrap();
        Self { policy, detectors }
    }

    async fn known(&self, request: &ChatRequest, requirements: &Requirements) -> SignalEvaluation {
        let limits = (Instant::now() + Duration::from_secs(60)).into();
        let alice = Principal { user: "alice".into(), ..Principal::default() };
        let query = SignalQuery { request, principal: Some(&alice), requirements, limits };
        on_any_thread(self.detectors.evaluate(query, &CLASSIFIER)).await
    }

    async fn all(&self, request: &ChatRequest) -> SignalEvaluation {
        self.known(request, &Requirements::all(&self.policy)).await
    }

    fn id(&self, name: &str) -> SignalId {
        SignalId(self.policy.signals.iter().position(|signal| signal.name == name).unwrap())
    }

    fn reading(&self, known: &SignalEvaluation, name: &str) -> SignalValue {
        known.signals.get(self.id(name)).unwrap().value.clone().unwrap()
    }

    async fn matches(&self, request: &ChatRequest, name: &str) -> bool {
        let requirements = Requirements::none().and_signal(&self.policy, self.id(name));
        self.reading(&self.known(request, &requirements).await, name).matches
    }
}

#[tokio::test]
async fn signals_that_need_no_classifier_do_not_call_it() {
    let reader = Reader::new(
        "  words: {keyword: {any: [refund, billing]}}\n  ever: {keyword: {all: [hello], scope: conversation}}\n\
         \x20 french: {language: {any: [fr]}}\n  long: {context: {min_tokens: 12}}\n\
         \x20 asks: {structure: {count: '\\?', min: 2}}\n  turns: {conversation: {feature: turns, min: 2}}\n\
         \x20 gold: {metadata: {key: plan, in: [gold]}}\n  alice: {identity: {users: [alice]}}\n",
    );
    let request = chat(&["Hello there.", "Hi!", "SignalReason? Where is my refund?"]);
    let known = reader.all(&request).await;
    assert_eq!((&known.prompt, known.others.len(), known.cost.windows), (&None, 0, 0));
    let expected = [
        ("words", 0.75),
        ("ever", 1.0),
        ("french", 0.0),
        ("long", 1.0),
        ("asks", 1.0),
        ("turns", 1.0),
        ("gold", 1.0),
        ("alice", 1.0),
    ];
    for (name, score) in expected {
        let reading = reader.reading(&known, name);
        assert_eq!((reading.score, reading.matches), (score, score > 0.0), "{name}: {}", reading.reason);
    }
    assert_eq!(known.signals.iter().count(), expected.len());
}

#[tokio::test]
async fn only_what_is_wanted_is_read() {
    let reader = Reader::new("  a: {keyword: {any: [x]}}\n  b: {keyword: {any: [x]}}\n  c: {reask: {}}\n");
    let requirements = Requirements::none().and_signal(&reader.policy, SignalId(1));
    let known = reader.known(&chat(&["x"]), &requirements).await;
    assert_eq!(known.signals.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [1]);
    let nothing = reader.known(&chat(&["x"]), &Requirements::none()).await;
    assert_eq!((nothing.signals.iter().count(), nothing.prompt), (0, None));
}

#[tokio::test]
async fn one_reading_of_the_prompt_answers_all_its_questions() {
    let reader = Reader::new(
        "  stem: {domain: {any: [math]}}\n  attack: {jailbreak: {}}\n  private: {pii: {only: [EMAIL_ADDRESS]}}\n\
         \x20 sums: {similarity: {to: [\"Add two numbers together.\"], min_score: 0.2}}\n",
    );
    let request = chat(&["old", "older", "What is 2+2? Write to ada@example.org when you know."]);
    let known = reader.all(&request).await;
    let found = known.prompt.as_ref().unwrap();
    assert_eq!(found.outcome(), "ok");
    assert_eq!((found.cost.windows, known.cost.windows, known.others.len()), (1, 1, 0));
    assert!(reader.reading(&known, "private").matches && !reader.reading(&known, "attack").matches);
    assert!(reader.reading(&known, "sums").score > 0.1);
    let shown = serde_json::to_string(&known.signals.named(&reader.policy)).unwrap();
    assert!(!shown.contains("ada") && !shown.contains("2+2"), "{shown}");
}

#[tokio::test]
async fn the_whole_conversation_is_read_where_the_scope_says_so() {
    let reader = Reader::new(
        "  here: {pii: {only: [EMAIL_ADDRESS]}}\n  ever: {pii: {only: [EMAIL_ADDRESS], scope: conversation}}\n",
    );
    let request = chat(&["I am ada@example.org.", "Nice to meet you.", "What is the capital of France?"]);
    let known = reader.all(&request).await;
    assert!(!reader.reading(&known, "here").matches && reader.reading(&known, "ever").matches);
    assert_eq!(known.others.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 0]);
    let entities = known.others[1].1.pii.as_ref().unwrap().entities.clone();
    assert_eq!(&*entities[0].kind, "EMAIL_ADDRESS");
    let pii = judged::ScopedSources::new(Scope::Conversation, TextSources::ALL);
    let mut both = Requirements::all(&reader.policy);
    both.inputs.judged = judged::GuardInputs { pii, ..judged::GuardInputs::NONE };
    let known = reader.known(&request, &both).await;
    let judged = |scope| known.judged(&request, scope, TextSources::ALL).count();
    // The prompt and `metadata`, then the earlier messages too.
    assert_eq!((judged(Scope::Prompt), judged(Scope::Conversation)), (2, 4));
    assert_eq!(known.findings().count(), 4, "equal texts are asked about once");
}

#[tokio::test]
async fn likeness_tells_examples_levels_and_questions_asked_again() {
    let reader = Reader::new(
        "  billing: {similarity: {to: [\"I want my money back.\", \"Refund my order.\"], min_score: 0.5}}\n\
         \x20 hard: {complexity: {hard: [\"Prove that the algorithm terminates.\", \"Derive the complexity bound of the proof.\"], easy: [\"Hello.\", \"What time is it?\"], margin: 0.05, level: hard}}\n\
         \x20 again: {reask: {min_score: 0.8}}\n",
    );
    let refund = chat(&["Please refund my last order, I want the money back."]);
    let proof = chat(&["Prove that this sorting algorithm always terminates and give a bound."]);
    let again = chat(&["How do I reset my password?", "Click on it.", "How can I reset my password?"]);
    let other = chat(&["How do I reset my password?", "Click on it.", "Who painted Guernica?"]);
    assert!(reader.matches(&refund, "billing").await && !reader.matches(&proof, "billing").await);
    assert!(reader.matches(&proof, "hard").await && !reader.matches(&chat(&["Hello!"]), "hard").await);
    assert!(reader.matches(&again, "again").await && !reader.matches(&other, "again").await);
    assert!(!reader.matches(&refund, "again").await);
}

#[tokio::test]
async fn what_is_judged_by_examples_is_judged_in_requests() {
    let reader = Reader::new(
        "  factual: {fact_check: {needed: true}}\n  unhappy: {feedback: {any: [wrong_answer]}}\n\
         \x20 picture: {modality: {any: [image, both]}}\n",
    );
    let wrong = "That's wrong, please check it again.";
    assert!(reader.matches(&chat(&["Who discovered radium?"]), "factual").await);
    assert!(!reader.matches(&chat(&["Write a poem about my cat."]), "factual").await);
    assert!(reader.matches(&chat(&["Add 2 and 3.", "6", wrong]), "unhappy").await);
    assert!(!reader.matches(&chat(&[wrong]), "unhappy").await, "there is no answer before");
    assert!(reader.matches(&chat(&["Draw a horse in a meadow."]), "picture").await);
    assert!(!reader.matches(&chat(&["What is the capital of Peru?"]), "picture").await);
}

#[tokio::test]
async fn what_the_classifier_cannot_say_is_unknown_and_the_rest_is_not() {
    let reader = Reader::new(
        "  stem: {domain: {any: [math]}}\n  like: {similarity: {to: [x], min_score: 0.5}}\n  words: {keyword: {any: [x]}}\n\
         \x20 attack: {jailbreak: {}}\n",
    );
    let requirements = Requirements::all(&reader.policy);
    let request = chat(&["x marks the spot, and this is new to the cache"]);
    let query = SignalQuery {
        request: &request,
        principal: None,
        requirements: &requirements,
        limits: Instant::now().into(),
    };
    let known = reader.detectors.evaluate(query, &CLASSIFIER).await;
    for name in ["stem", "like", "attack"] {
        let result = known.signals.get(reader.id(name)).unwrap();
        assert_eq!(result.value, Err(Unknown::Late), "{name}");
    }
    assert!(reader.reading(&known, "words").matches);
    let empty = reader.all(&chat(&["  "])).await;
    assert_eq!(empty.signals.get(reader.id("stem")).unwrap().value, Err(Unknown::Empty));
    assert!(!reader.reading(&empty, "attack").matches, "no words are no attack");
}

#[test]
fn detectors_fit_a_policy_as_long_as_its_signals_and_tools_are_the_same() {
    let tool = |name: &str| json!({"tool": {"type": "function", "function": {"name": name}}, "description": format!("Tells the {name}.")});
    let one = json!([tool("weather")]).to_string().into_bytes();
    let two = json!([tool("weather"), tool("time")]).to_string().into_bytes();
    let files = [(Path::new(".").join("one.json"), one), (Path::new(".").join("two.json"), two)];
    let environment = Fixed { files: files.into_iter().collect(), ..Fixed::default() };
    let with = |word: &str, file: &str| {
        let text = format!(
            "version: 1\nvirtual_models: [auto]\ndefault_model: m\nmodels: {{m: {{pools: [p]}}}}\n\
             pools: {{p: {{endpoints: [\"127.0.0.1:1\"]}}}}\nsignals: {{a: {{keyword: {{any: [{word}]}}}}}}\n\
             decisions: [{{name: a, when: a, model: m, plugins: {{tools: {{mode: select, file: {file}}}}}}}]\n"
        );
        load(&text, Path::new("."), &environment, None).unwrap()
    };
    let policy = with("x", "one.json");
    let detectors = Detectors::build(&policy, &CLASSIFIER).unwrap();
    assert!(detectors.fit(&policy) && detectors.fit(&with("x", "one.json")));
    assert!(!detectors.fit(&with("y", "one.json")) && !detectors.fit(&with("x", "two.json")));
    let Some(crate::policy::Tools::Select(_, tools)) = &policy.recipes[0].decisions[0].plugins.tools else {
        panic!("the tools are picked");
    };
    let embedding = detectors.tool_embedding(&tools[0]).unwrap();
    let length: f32 = embedding.iter().map(|part| part * part).sum();
    assert!((length - 1.0).abs() < 1e-3);
}

#[test]
fn an_example_without_words_is_an_error_that_names_its_signal() {
    let policy = policy("signals: {odd: {similarity: {to: [\"  \"], min_score: 0.5}}}\n");
    let error = Detectors::build(&policy, &CLASSIFIER).unwrap_err().to_string();
    assert_eq!(error, "odd: an example has no embedding (empty): \"  \"");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_request_breaks_the_readers(texts in prop::collection::vec("\\PC{0,60}", 1..4), key in "\\PC{0,8}") {
        static READER: LazyLock<Reader> = LazyLock::new(|| Reader::new(
            "  a: {keyword: {any: [refund, a b, é], max_edits: 2, scope: conversation}}\n  b: {language: {any: [fr]}}\n\
             \x20 c: {context: {min_tokens: 3}}\n  d: {structure: {density: '\\w+', min: 2}}\n  e: {conversation: {feature: images}}\n\
             \x20 f: {metadata: {key: plan, exists: true}}\n  g: {identity: {groups: [a]}}\n",
        ));
        let messages: Vec<_> = texts.iter().map(|text| json!({"role": "user", "content": text})).collect();
        let request = body(&json!({"model": "auto", "messages": messages, "metadata": {key: 1}}));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let known = runtime.block_on(READER.all(&request));
        prop_assert_eq!(known.signals.iter().count(), 7);
        for (_, result) in known.signals.iter() {
            let reading = result.value.as_ref().unwrap();
            prop_assert!((0.0..=1.0).contains(&reading.score));
        }
    }
}
