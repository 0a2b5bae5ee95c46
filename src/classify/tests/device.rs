//! Models on a GPU: what fits into its memory, and how much it computes at once.

use super::*;

/// Asks for 16 texts of 2 tokens while a first one holds up a model.
async fn sixteen_together(model: Words) -> (Arc<Words>, Arc<Classifier>, Vec<Result<String, Unknown>>) {
    let model = Arc::new(model);
    let classifier = start(&ClassifierSpec { queue: 64, ..spec() }, &[&model]);
    model.shut();
    let first = ask(&classifier, "m0", ClassifyHeads::DOMAIN, soon());
    model.entered(1).await;
    let ask = |at| ask(&classifier, &format!("m{at} m"), ClassifyHeads::DOMAIN, soon());
    let asked: Vec<_> = (1..=16).map(ask).collect();
    until(|| classifier.queued() == 16).await;
    model.open();
    let mut found = Vec::new();
    for asked in std::iter::once(first).chain(asked) {
        found.push(name(&asked.await.unwrap()).map(str::to_owned));
    }
    (model, classifier, found)
}

#[tokio::test]
async fn a_model_on_a_gpu_computes_no_more_tokens_together_than_fit() {
    let words = Arc::into_inner(Words::new(ClassifyHeads::ALL)).unwrap();
    let (model, _, found) = sixteen_together(Words { at_once: 2, max_batch_tokens: 8, ..words }).await;
    assert!(found.iter().all(|name| name.as_deref() == Ok("maths")), "{found:?}");
    assert_eq!(model.batches(), [vec![1], vec![2; 4], vec![2; 4], vec![2; 4], vec![2; 4]]);
}

#[tokio::test]
async fn what_does_not_fit_into_memory_together_is_computed_alone_or_failed_and_what_follows_is_not_harmed() {
    let words = || Arc::into_inner(Words::new(ClassifyHeads::ALL)).unwrap();
    let (model, _, found) = sixteen_together(Words { at_once: 2, memory: 2, ..words() }).await;
    assert!(found.iter().all(|name| name.as_deref() == Ok("maths")), "{found:?}");
    assert_eq!(model.batches()[1..3], [vec![2; 16], vec![2]]);
    let (_, classifier, found) = sixteen_together(Words { at_once: 2, memory: 1, ..words() }).await;
    assert_eq!(found[0].as_deref(), Ok("maths"));
    assert_eq!(found[1..], vec![Err(Unknown::Failed); 16]);
    assert_eq!(name(&classifier.classify("m17", ClassifyHeads::DOMAIN, soon()).await), Ok("maths"));
}

#[tokio::test]
async fn a_model_on_a_gpu_computes_no_more_forwards_at_once_than_it_likes() {
    let model = Arc::new(Words { at_once: 2, ..Arc::into_inner(Words::new(ClassifyHeads::ALL)).unwrap() });
    let classifier = start(&ClassifierSpec { threads: 16, queue: 64, ..spec() }, &[&model]);
    model.shut();
    let mut asked = Vec::new();
    for at in 0..2 {
        asked.push(ask(&classifier, &format!("m{at}"), ClassifyHeads::DOMAIN, soon()));
        model.entered(at + 1).await;
    }
    asked.extend((2..20).map(|at| ask(&classifier, &format!("m{at}"), ClassifyHeads::DOMAIN, soon())));
    until(|| classifier.queued() >= 6).await;
    model.open();
    for asked in asked {
        assert_eq!(name(&asked.await.unwrap()), Ok("maths"));
    }
    assert_eq!(model.busiest.load(Ordering::SeqCst), 2);
}
