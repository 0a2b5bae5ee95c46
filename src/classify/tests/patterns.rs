//! What patterns find with a model, without its answer, and without asking it.

use super::*;

#[tokio::test]
async fn what_patterns_recognise_is_found_whatever_the_model_answers() {
    let text = "m1 ada@example.org 4111 1111 1111 1111";
    let kinds = |found: &Findings| -> Vec<String> {
        let pii = found.pii.as_ref().unwrap();
        pii.entities.iter().map(|entity| entity.kind.to_string()).collect()
    };
    let wanted = ["EMAIL_ADDRESS", "CREDIT_CARD"];
    let (model, classifier) = one(&ClassifierSpec { queue: 1, ..spec() });
    for (prefix, reason) in
        [("", None), ("fail ", Some(Unknown::Failed)), ("unreadable ", Some(Unknown::Failed))]
    {
        let found = classifier.classify(&format!("{prefix}{text}"), PII, soon()).await;
        assert_eq!((kinds(&found), found.pii.unwrap().unknown), (wanted.map(str::to_owned).to_vec(), reason));
    }
    let long = format!("{}{text}", words(0, 10_000));
    let found = classifier.classify(&long, PII, soon()).await;
    assert_eq!((kinds(&found).len(), found.pii.unwrap().unknown), (2, Some(Unknown::TooLong)));
    model.shut();
    let entered = model.entered.load(Ordering::SeqCst);
    let first = ask(&classifier, "m1", PII, soon());
    model.entered(entered + 1).await;
    let second = ask(&classifier, "m2", PII, soon());
    until(|| classifier.queued() == 1).await;
    let found = classifier.classify(&format!("{text} "), PII, soon()).await;
    assert_eq!((kinds(&found).len(), found.pii.unwrap().unknown), (2, Some(Unknown::Busy)));
    model.open();
    for asked in [first, second] {
        asked.await.unwrap();
    }
    let without = start(&spec(), &[&Words::new(ClassifyHeads::DOMAIN)]);
    let found = without.classify(text, PII, soon()).await;
    let pii = found.pii.as_ref().unwrap();
    assert_eq!((kinds(&found).len(), pii.unknown), (2, Some(Unknown::Unsupported)));
    assert_eq!(pii.unknown_among(|kind| kind == "CREDIT_CARD"), None);
    assert_eq!(pii.unknown_among(|kind| kind == "PERSON"), Some(Unknown::Unsupported));
}

#[tokio::test]
async fn what_patterns_alone_find_waits_for_no_model() {
    let (model, classifier) = one(&ClassifierSpec { queue: 1, ..spec() });
    model.shut();
    let first = ask(&classifier, "m1", PII, soon());
    model.entered(1).await;
    let second = ask(&classifier, "m2", PII, soon());
    until(|| classifier.queued() == 1).await;
    let text = "my card is 4111 1111 1111 1111";
    let long = format!("{}{text}", words(0, 10_000));
    let both = ClassifyHeads { domain: true, ..ClassifyHeads::PATTERNS };
    let asked = [
        (text, ClassifyHeads::PATTERNS),
        (&long, ClassifyHeads::PATTERNS),
        (" ", ClassifyHeads::PATTERNS),
        (text, both),
    ];
    // The deadline has passed: that is nothing to a search.
    let found = classifier.classify_each(&asked, Instant::now()).await;
    let pii: Vec<&PiiFindings> = found.iter().map(|found| found.pii.as_ref().unwrap()).collect();
    let kinds: Vec<usize> = pii.iter().map(|pii| pii.entities.len()).collect();
    assert_eq!((kinds, classifier.queued()), (vec![1, 1, 0, 1], 1));
    assert_eq!(
        pii.iter().map(|pii| pii.unknown).collect::<Vec<_>>(),
        [None, None, Some(Unknown::Empty), None]
    );
    assert!(found[0].domain.is_none() && found[3].domain.as_ref().unwrap().is_err());
    assert_eq!(pii[0].unknown_among(|kind| kind == "CREDIT_CARD"), None);
    // Whoever counts what only the model finds is told that nobody looked.
    assert_eq!(pii[0].unknown_among(|kind| kind == "PERSON"), Some(Unknown::Unsupported));
    model.open();
    for asked in [first, second] {
        asked.await.unwrap();
    }
    assert_eq!(model.entered.load(Ordering::SeqCst), 2);
}
