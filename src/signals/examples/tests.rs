//! How well the examples judge phrases that they were not chosen by.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::*;
use crate::classify::{Classifier, ClassifyHead, Spec};
use crate::policy::{BasisPoints, ContextSignal, FeedbackSignal, SignalKind};

async fn meanings(classifier: &Classifier, texts: Vec<String>) -> HashMap<String, Vector> {
    let deadline = Instant::now() + Duration::from_secs(120);
    let question = std::iter::once(ClassifyHead::Embedding).collect();
    let found = classifier.classify_all(&texts, question, deadline).await;
    let vector = |found: crate::classify::Findings| found.embedding.unwrap().unwrap();
    texts.into_iter().zip(found.into_iter().map(vector)).collect()
}

/// The shares that each phrase of each class gets.
async fn judged(judgement: Judgement, held_out: &[&[&str]]) -> Vec<(usize, Vec<f32>)> {
    let classifier = Classifier::load(&Spec::default()).unwrap();
    let known = meanings(&classifier, judgement.examples().map(Cow::into_owned).collect()).await;
    let bank = ExampleBank::new(judgement, |example| Vector::clone(&known[example]));
    let phrases = held_out.iter().flat_map(|phrases| phrases.iter());
    let held = meanings(&classifier, phrases.map(|phrase| (*phrase).to_owned()).collect()).await;
    let of = |class: usize| held_out[class].iter().map(move |phrase| (class, *phrase));
    let each = (0..held_out.len()).flat_map(of);
    each.map(|(class, phrase)| (class, bank.shares(&held[phrase]))).collect()
}

fn best(shares: &[f32]) -> usize {
    (0..shares.len()).max_by(|a, b| shares[*a].total_cmp(&shares[*b])).unwrap()
}

fn accuracy(judged: &[(usize, Vec<f32>)]) -> f64 {
    let right = judged.iter().filter(|(class, shares)| best(shares) == *class).count();
    right as f64 / judged.len() as f64
}

/// Of 32 phrases 30 were judged right when the examples were chosen.
#[tokio::test]
async fn what_needs_checking_is_told_from_what_does_not() {
    let judged = judged(Judgement::Facts, &[held_out::NEEDED, held_out::NOT_NEEDED]).await;
    assert!(accuracy(&judged) >= 0.87, "{}", accuracy(&judged));
}

/// Of 50 phrases 48 were judged right.
#[tokio::test]
async fn what_users_say_of_an_answer_is_told_apart() {
    let held_out = [
        held_out::SATISFIED,
        held_out::NEED_CLARIFICATION,
        held_out::WRONG_ANSWER,
        held_out::WANT_DIFFERENT,
        held_out::NONE,
    ];
    let judged = judged(Judgement::Feedback, &held_out).await;
    assert!(accuracy(&judged) >= 0.88, "{}", accuracy(&judged));
}

/// Of 34 phrases 25 were judged right, and of 30 it was judged right whether they want any picture.
#[tokio::test]
async fn words_are_told_from_pictures_and_less_surely_from_both() {
    let judged = judged(Judgement::Modality, &[held_out::TEXT, held_out::IMAGE, held_out::BOTH]).await;
    assert!(accuracy(&judged) >= 0.64, "{}", accuracy(&judged));
    let any_picture = judged.iter().filter(|(class, shares)| (best(shares) == 0) == (*class == 0)).count();
    assert!(any_picture as f64 >= 0.82 * judged.len() as f64, "{any_picture}");
}

#[test]
fn a_score_is_the_share_of_all_the_classes_that_match() {
    // Each class has one direction of its own.
    let axis = |at: usize| Vector::from((0..5).map(|place| f32::from(place == at)).collect::<Vec<_>>());
    let classes = (0..5).map(|class| vec![axis(class); 3]).collect();
    let bank = ExampleBank { judgement: Judgement::Feedback, classes };
    let read = |any: Vec<Feedback>, prompt: usize| {
        let kind = SignalKind::Feedback(FeedbackSignal { any, min_score: BasisPoints(5000) });
        bank.read(&axis(prompt), &kind).unwrap()
    };
    let wrong = read(vec![Feedback::WrongAnswer], 2);
    assert!(wrong.matches && wrong.score > 0.99);
    assert!(wrong.reason.to_string().starts_with("wrong_answer 1.0"), "{}", wrong.reason);
    assert!(!read(vec![Feedback::WrongAnswer], 4).matches);
    assert!(read(vec![Feedback::Satisfied, Feedback::WrongAnswer], 0).matches);
    assert!(bank.read(&axis(0), &SignalKind::Context(ContextSignal { min: 0, max: 1 })).is_none());
}

#[test]
fn every_class_has_examples_enough_and_no_example_stands_for_two() {
    for judgement in [Judgement::Facts, Judgement::Feedback, Judgement::Modality] {
        let mut seen = HashMap::new();
        for class in judgement.classes() {
            assert!(class.examples().count() >= 20, "{}", class.name);
            for example in class.examples() {
                assert!(!example.contains("{}"), "{example}");
                assert_eq!(seen.insert(example.clone(), class.name), None, "{example}");
            }
        }
    }
}
