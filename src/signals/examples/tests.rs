//! How well the examples judge phrases that they were not chosen by.

use std::collections::HashMap;

use super::*;
use crate::classify::Classifier;
use crate::policy::ClassifierSpec;
use crate::signals::embeddings::Example;
use crate::signals::kinds::fact_check::FACT_CHECK;
use crate::signals::kinds::feedback::FEEDBACK;
use crate::signals::kinds::modality::MODALITY;

/// The shares that each phrase of each class gets.
fn judged(
    task: &'static ExampleTask,
    held_out: &'static [&'static [&'static str]],
) -> Vec<(usize, Vec<f32>)> {
    let classifier = Classifier::load(&ClassifierSpec::default()).unwrap();
    let example = |text| Example { text, user: "test" };
    let examples = task.examples().map(example).collect();
    let bank = ExampleBank::new(task, &ExampleEmbeddings::embed(examples, &classifier).unwrap());
    let phrases = held_out.iter().copied().flatten().map(|phrase| example(Cow::Borrowed(*phrase))).collect();
    let held = ExampleEmbeddings::embed(phrases, &classifier).unwrap();
    let of = |class: usize| held_out[class].iter().map(move |phrase| (class, *phrase));
    let each = (0..held_out.len()).flat_map(of);
    each.map(|(class, phrase)| (class, bank.shares(&held.get(phrase)))).collect()
}

fn best(shares: &[f32]) -> usize {
    (0..shares.len()).max_by(|a, b| shares[*a].total_cmp(&shares[*b])).unwrap()
}

fn accuracy(judged: &[(usize, Vec<f32>)]) -> f64 {
    let right = judged.iter().filter(|(class, shares)| best(shares) == *class).count();
    right as f64 / judged.len() as f64
}

/// Of 32 phrases 30 were judged right when the examples were chosen.
#[test]
fn what_needs_checking_and_what_does_not_are_distinguished() {
    let judged = judged(&FACT_CHECK, &[held_out::NEEDED, held_out::NOT_NEEDED]);
    assert!(accuracy(&judged) >= 0.87, "{}", accuracy(&judged));
}

/// Of 50 phrases 48 were judged right.
#[test]
fn what_users_say_of_an_answer_is_distinguished() {
    const HELD_OUT: &[&[&str]] = &[
        held_out::SATISFIED,
        held_out::NEED_CLARIFICATION,
        held_out::WRONG_ANSWER,
        held_out::WANT_DIFFERENT,
        held_out::NONE,
    ];
    let judged = judged(&FEEDBACK, HELD_OUT);
    assert!(accuracy(&judged) >= 0.88, "{}", accuracy(&judged));
}

/// Of 34 phrases 25 were judged right, and of 30 it was judged right whether they want any picture.
#[test]
fn words_and_pictures_are_distinguished_and_less_surely_both() {
    let judged = judged(&MODALITY, &[held_out::TEXT, held_out::IMAGE, held_out::BOTH]);
    assert!(accuracy(&judged) >= 0.64, "{}", accuracy(&judged));
    let any_picture = judged.iter().filter(|(class, shares)| (best(shares) == 0) == (*class == 0)).count();
    assert!(any_picture as f64 >= 0.82 * judged.len() as f64, "{any_picture}");
}

#[test]
fn a_score_is_the_share_of_all_the_classes_that_match() {
    // Each class has one direction of its own.
    let axis = |at: usize| UnitVector::from((0..5).map(|place| f32::from(place == at)).collect::<Vec<_>>());
    let classes = (0..5).map(|class| vec![axis(class); 3]).collect();
    let bank = ExampleBank { task: &FEEDBACK, classes };
    let (satisfied, wrong_answer) = (0, 2);
    let value = |matching: &[usize], prompt: usize| bank.value(&axis(prompt), matching, 0.5);
    let wrong = value(&[wrong_answer], 2);
    assert!(wrong.matches && wrong.score > 0.99);
    assert!(wrong.reason.to_string().starts_with("wrong_answer 1.0"), "{}", wrong.reason);
    assert!(!value(&[wrong_answer], 4).matches);
    assert!(value(&[satisfied, wrong_answer], 0).matches);
}

#[test]
fn every_class_has_examples_enough_and_no_example_stands_for_two() {
    for task in [&FACT_CHECK, &FEEDBACK, &MODALITY] {
        let mut seen = HashMap::new();
        for class in task.classes {
            assert!(class.examples().count() >= 20, "{}", class.name);
            for example in class.examples() {
                assert!(!example.contains("{}"), "{example}");
                assert_eq!(seen.insert(example.clone(), class.name), None, "{example}");
            }
        }
    }
}
