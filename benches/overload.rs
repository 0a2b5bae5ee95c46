//! What the built-in classifier still answers in time above its capacity: goodput at half, one, two and ten times of it, for
//! routing and for guards.

#![allow(clippy::print_stdout, reason = "a benchmark says what it measured")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use signalbox::classify::{Classifier, ClassifyHeads, ClassifyLimits, Priority};
use signalbox::policy::ClassifierSpec;
use tokio::task::JoinSet;

/// How long each load lasts.
const DURATION: Duration = Duration::from_secs(5);

/// What is asked of a text of sixty words.
const HEADS: ClassifyHeads = ClassifyHeads { jailbreak: true, ..ClassifyHeads::NONE };

#[tokio::main]
async fn main() {
    // Without a cache, so that every text is computed.
    let spec = ClassifierSpec { threads: 1, cache: 0, ..ClassifierSpec::default() };
    let classifier = Arc::new(Classifier::load(&spec).expect("the built-in model loads"));
    let one = alone(&classifier).await;
    let capacity = 1.0 / one.as_secs_f64();
    println!("capacity: {capacity:.1} texts a second");
    for (name, priority, patience) in [
        ("routing", Priority::BestEffort, Duration::from_millis(500)),
        ("guards", Priority::Required, Duration::from_secs(5)),
    ] {
        for factor in [0.5, 1.0, 2.0, 10.0] {
            let (asked, answered) = load(&classifier, one.div_f64(factor), priority, patience).await;
            let goodput = answered as f64 / DURATION.as_secs_f64();
            let share = goodput / capacity;
            println!(
                "{name} at {factor} ×: {answered} of {asked} in time, {goodput:.1} a second ({share:.2} of capacity)"
            );
        }
    }
}

/// How long one text takes where nothing else does.
async fn alone(classifier: &Arc<Classifier>) -> Duration {
    const TEXTS: u32 = 50;
    let ask = async |at: u32| {
        let limits = ClassifyLimits::from(Instant::now() + Duration::from_secs(60));
        classifier.classify(&text(at as usize), HEADS, limits).await
    };
    ask(0).await;
    let began = Instant::now();
    for at in 0..TEXTS {
        assert_eq!(ask(at).await.outcome(), "ok");
    }
    began.elapsed() / TEXTS
}

/// Asks for one text each `interval`; returns how many were asked for, and how many answered before the load ended.
async fn load(
    classifier: &Arc<Classifier>,
    interval: Duration,
    priority: Priority,
    patience: Duration,
) -> (usize, usize) {
    let began = Instant::now();
    let mut asked = JoinSet::new();
    while began.elapsed() < DURATION {
        while began.elapsed() >= interval * asked.len() as u32 {
            let (classifier, text) = (Arc::clone(classifier), text(asked.len()));
            asked.spawn(async move {
                let limits = ClassifyLimits { deadline: Instant::now() + patience, priority };
                let is_answered = classifier.classify(&text, HEADS, limits).await.outcome() == "ok";
                is_answered && began.elapsed() < DURATION
            });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let answers = asked.join_all().await;
    (answers.len(), answers.into_iter().filter(|is_answered| *is_answered).count())
}

/// Sixty plain words, no two texts alike.
fn text(at: usize) -> String {
    let words = ["the", "river", "runs", "through", "every", "old", "city", "and"];
    format!("{at} {}", words.iter().copied().cycle().take(59).collect::<Vec<_>>().join(" "))
}
