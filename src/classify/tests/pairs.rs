//! Answers judged by their context.

use super::*;

fn detector(spec: &ClassifierSpec) -> (Arc<Words>, Arc<Classifier>) {
    let model = Words::new(ClassifyHeads::HALLUCINATION);
    let classifier = start(spec, &[&model]);
    (model, classifier)
}

fn unsupported<'a>(found: &Findings, answer: &'a str) -> Result<Vec<&'a str>, Unknown> {
    let spans = found.hallucination.as_ref().unwrap().as_ref().map_err(|reason| *reason)?;
    Ok(spans.iter().map(|span| &answer[span.bytes.clone()]).collect())
}

#[tokio::test]
async fn what_no_part_of_a_long_context_supports_is_found() {
    let (model, classifier) = detector(&spec());
    let context = format!("start {} end", words(0, 200));
    let answer = " start made up word70 end zürich ";
    let input = GroundednessInput { context: &context, question: "word1 where", answer };
    let found = classifier.verify(input, soon()).await;
    assert_eq!(unsupported(&found, answer), Ok(vec!["made up", "zürich"]));
    assert!(model.batches().iter().flatten().count() > 3, "it was read in parts");
    let again = classifier.verify(input, soon()).await;
    assert_eq!(
        (unsupported(&again, answer), again.cost.cached),
        (Ok(vec!["made up", "zürich"]), again.cost.windows)
    );
}

#[tokio::test]
async fn an_answer_that_cannot_be_judged_says_why() {
    let spec =
        ClassifierSpec { windows: WindowSpec { max_tokens: 50, ..spec().windows }, queue: 1, ..spec() };
    let (model, classifier) = detector(&spec);
    let verify = |context: String, answer: &'static str| {
        let classifier = Arc::clone(&classifier);
        async move {
            let input = GroundednessInput { context: &context, question: "", answer };
            unsupported(&classifier.verify(input, soon()).await, answer)
        }
    };
    assert_eq!(verify(words(0, 60), "word1").await, Err(Unknown::TooLong));
    assert_eq!(verify("x".repeat(5000), "word1").await, Err(Unknown::TooLong));
    assert_eq!(verify(" ".to_owned(), "word1").await, Err(Unknown::Empty));
    assert_eq!(verify("word1".to_owned(), " ").await, Err(Unknown::Empty));
    let elsewhere = one(&spec).1;
    let input = GroundednessInput { context: "a", question: "", answer: "a" };
    let found = elsewhere.verify(input, soon()).await;
    assert_eq!(unsupported(&found, "a"), Err(Unknown::Unsupported));
    assert_eq!(elsewhere.classify("a", ClassifyHeads::HALLUCINATION, soon()).await.outcome(), "unsupported");
    assert_eq!(classifier.classify("a", ClassifyHeads::HALLUCINATION, soon()).await.outcome(), "unsupported");
    model.shut();
    let late = classifier.verify(input, in_a_moment()).await;
    assert_eq!(unsupported(&late, "a"), Err(Unknown::Late));
    model.open();
}

#[tokio::test]
async fn an_answer_no_caller_waits_for_is_never_judged() {
    let (model, classifier) = detector(&spec());
    model.shut();
    let verify = |answer: &'static str| {
        let classifier = Arc::clone(&classifier);
        tokio::spawn(async move {
            let input = GroundednessInput { context: "a b", question: "", answer };
            unsupported(&classifier.verify(input, soon()).await, answer)
        })
    };
    let first = verify("a");
    model.entered(1).await;
    let left = verify("b c d");
    until(|| classifier.queued() == 1).await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    assert_eq!(classifier.queued(), 0);
    model.open();
    assert_eq!(first.await.unwrap(), Ok(Vec::new()));
    assert_eq!(model.batches(), [[1]]);
}
