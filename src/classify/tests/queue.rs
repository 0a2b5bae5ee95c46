//! What waits, what is computed together, and what becomes of it when nobody waits any more.

use super::*;

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let (model, classifier) = one(&ClassifierSpec { queue: 1, ..spec() });
    model.shut();
    let first = ask(&classifier, "m1", ClassifyHeads::DOMAIN, soon());
    model.entered(1).await;
    let second = ask(&classifier, "o2", ClassifyHeads::DOMAIN, soon());
    until(|| classifier.queued() == 1).await;
    let refused = classifier.classify("o3", ClassifyHeads::ALL, soon()).await;
    assert_eq!(refused.unknowns().map(|(_, reason)| reason).collect::<Vec<_>>(), [Unknown::Busy; 4]);
    model.open();
    assert_eq!(name(&first.await.unwrap()), Ok("maths"));
    assert_eq!(name(&second.await.unwrap()), Ok("other"));
}

#[tokio::test]
async fn a_text_no_caller_waits_for_is_never_computed() {
    let (model, classifier) = one(&spec());
    model.shut();
    let first = ask(&classifier, "m1", ClassifyHeads::DOMAIN, soon());
    model.entered(1).await;
    let left = ask(&classifier, &words(0, 60), ClassifyHeads::ALL, soon());
    let last = ask(&classifier, "o3", ClassifyHeads::DOMAIN, soon());
    until(|| classifier.queued() == 2).await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    assert_eq!(classifier.queued(), 1, "it left the queue as it left");
    model.open();
    assert_eq!(name(&first.await.unwrap()), Ok("maths"));
    assert_eq!(name(&last.await.unwrap()), Ok("other"));
    assert_eq!(model.batches(), [[1], [1]]);
}

#[tokio::test]
async fn a_passed_deadline_is_late_whether_queued_or_computing() {
    let (model, classifier) = one(&spec());
    model.shut();
    let deadline = in_a_moment();
    let computing = ask(&classifier, "m1", ClassifyHeads::DOMAIN, deadline);
    model.entered(1).await;
    assert_eq!(domain(&classifier, "m2", deadline).await.err(), Some(Unknown::Late));
    assert_eq!(name(&computing.await.unwrap()), Err(Unknown::Late));
    assert_eq!(classifier.queued(), 0);
    model.open();
    assert!(domain(&classifier, "m3", soon()).await.is_ok());
    assert_eq!(model.batches(), [[1], [1]], "what was late was not computed");
}

#[tokio::test]
async fn texts_that_come_while_all_threads_are_busy_share_a_forward() {
    let (model, classifier) = one(&ClassifierSpec { queue: 64, ..spec() });
    model.shut();
    // It fails, so that nothing is learnt from how long it waits here: a forward takes no more than is computed quickly.
    let first = ask(&classifier, "fail", ClassifyHeads::DOMAIN, soon());
    model.entered(1).await;
    let others: Vec<_> = (0..32)
        .map(|at| {
            let heads = if at % 2 == 0 { ClassifyHeads::DOMAIN } else { JAILBREAK };
            ask(&classifier, &format!("m{at} x{at}"), heads, soon())
        })
        .collect();
    until(|| classifier.queued() == 32).await;
    model.open();
    assert_eq!(name(&first.await.unwrap()), Err(Unknown::Failed));
    for other in others {
        assert_eq!(other.await.unwrap().cost.batch, 32);
    }
    let forwards = model.forwards.lock().unwrap().clone();
    assert_eq!(forwards.len(), 2);
    assert_eq!(forwards[1], (vec![2; 32], ClassifyHeads { domain: true, ..JAILBREAK }));
    let sum = classifier.forwards();
    assert_eq!((sum.count, sum.windows, sum.tokens, sum.failed), (2, 33, 65, 1));
}

#[tokio::test]
async fn several_texts_at_once_are_answered_in_their_order() {
    let (model, classifier) = one(&spec());
    let texts: Vec<String> = ["m1", "", "o2", "m3", "fail", "o5"].map(str::to_owned).to_vec();
    let found = classifier.classify_all(&texts, ClassifyHeads::DOMAIN, soon()).await;
    let names: Vec<_> = found.iter().map(name).collect();
    let failed = Err(Unknown::Failed);
    assert_eq!(names, [Ok("maths"), Err(Unknown::Empty), Ok("other"), Ok("maths"), failed, Ok("other")]);
    assert!(model.batches().iter().any(|batch| batch.len() > 1));
}

#[tokio::test]
async fn more_texts_than_the_queue_takes_are_answered_all_the_same() {
    let (_, classifier) = one(&ClassifierSpec { queue: 4, ..spec() });
    let texts: Vec<String> = (0..33).map(|at| format!("m{at}")).collect();
    let found = classifier.classify_all(&texts, ClassifyHeads::DOMAIN, soon()).await;
    assert_eq!(found.len(), 33);
    assert!(found.iter().all(|found| name(found) == Ok("maths")));
}

#[tokio::test]
async fn dropping_the_classifier_ends_its_threads() {
    let (model, classifier) = one(&ClassifierSpec { threads: 3, ..spec() });
    drop(classifier);
    until(|| Arc::strong_count(&model) == 1).await;
}

#[tokio::test]
async fn threads_with_nothing_to_do_take_their_share() {
    let (model, classifier) = one(&ClassifierSpec { threads: 8, ..spec() });
    // The second thread may still be starting, or be busy with the text before.
    let limit = soon();
    for at in 0.. {
        let found = classifier.classify(&words(at * 100, 50), ClassifyHeads::DOMAIN, soon()).await;
        assert_eq!(found.cost.windows, 8);
        if model.batches().iter().any(|batch| batch.len() == 4) {
            break;
        }
        assert!(Instant::now() < limit, "{:?}", model.batches());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_left_behind_by_clients_that_come_go_and_are_late() {
    let (model, classifier) =
        one(&ClassifierSpec { threads: 6, queue: 16, batch_tokens: 24, cache: 8, ..spec() });
    let client = |at: u64| {
        let last = ["fail", "m", "panic", "attack"][at as usize % 4];
        let text = format!("m{at} {} {last}", words(0, (at * 7 % 50) as usize));
        let deadline = Instant::now() + Duration::from_millis(at % 23);
        let asked = ask(&classifier, &text, ClassifyHeads::ALL, deadline);
        tokio::spawn(async move {
            if at.is_multiple_of(5) {
                tokio::time::sleep(Duration::from_millis(at % 7)).await;
                asked.abort();
            }
            asked.await.ok()
        })
    };
    let clients: Vec<_> = (0..400).map(client).collect();
    for client in clients {
        if let Some(found) = client.await.unwrap() {
            let reasons = [Unknown::Busy, Unknown::Late, Unknown::Failed];
            assert!(found.unknowns().all(|(_, reason)| reasons.contains(&reason)), "{found:?}");
        }
    }
    assert_eq!(classifier.queued(), 0);
    let found = classifier.classify("m1 m2", ClassifyHeads::ALL, soon()).await;
    assert_eq!(found.unknowns().count(), 0);
    drop(classifier);
    until(|| Arc::strong_count(&model) == 1).await;
}
