//! Questions that are compared with each other, against what training computed, and what can't be compared.

use std::path::Path;

use serde::Deserialize;

use super::*;
use signalbox_policy::{ModelSource, Precision};

#[derive(Deserialize)]
struct GoldenPair {
    text: String,
    other: String,
    score: f32,
}

fn builtin() -> Classifier {
    Classifier::load(&ClassifierSpec::default()).unwrap()
}

#[tokio::test]
async fn scores_are_those_of_training_whichever_question_comes_first() {
    let golden: Vec<GoldenPair> =
        serde_json::from_str(include_str!("../../../tests/golden/paraphrase.json")).unwrap();
    let exact = ClassifierSpec { precision: Precision::F32, ..ClassifierSpec::default() };
    let classifier = Classifier::load(&exact).unwrap();
    for pair in golden {
        for (text, other) in [(&pair.text, &pair.other), (&pair.other, &pair.text)] {
            let score = classifier.compare(text, &[other], soon()).await.remove(0);
            // Training reads what the gateway refuses: long questions, and signs and languages that the model lacks.
            let is_read = |text: &str| text.len() < 100 && text.is_ascii();
            match score {
                Ok(found) => assert!((found.score - pair.score).abs() < 2e-3, "{found:?} {text} {other}"),
                Err(reason) => assert!(!(is_read(text) && is_read(other)), "{reason:?} {text} {other}"),
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_compared_says_why() {
    let classifier = builtin();
    assert!(classifier.compares_questions());
    let long = "why is the sky blue ".repeat(20);
    let spanish = "¿Por qué el agua del mar es salada y la de los ríos no lo es?";
    let longer = long.repeat(2);
    let others = ["", &long, spanish, &longer, "Why is 😀 the sky blue?", "capital de australia"];
    let found = classifier.compare("Why is the sky blue?", &others, soon()).await;
    let reasons: Vec<Unknown> = found.into_iter().map(|found| found.unwrap_err()).collect();
    let unread = Unknown::UnsupportedLanguage;
    let expected = [Unknown::Empty, Unknown::TooLong, unread, Unknown::TooLong, Unknown::Unreadable, unread];
    assert_eq!(reasons, expected);
    let found = classifier.compare(&longer, &["Why is the sky blue?"], soon()).await;
    assert_eq!(found, [Err(Unknown::TooLong)]);
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models");
    let model = ModelSource::Folder(models.join("distilbert-guard"));
    let other = Classifier::load(&ClassifierSpec { model, ..ClassifierSpec::default() }).unwrap();
    assert!(!other.compares_questions());
    assert_eq!(other.compare("a", &["a"], soon()).await, [Err(Unknown::Unsupported)]);
}
