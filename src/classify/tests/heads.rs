//! Which heads are computed for a text, and what an answer says where there is none.

use super::*;

#[tokio::test]
async fn one_forward_computes_every_head() {
    let (model, classifier) = one(&spec());
    let found = classifier.classify(" m1 m2 über @ada m4", ClassifyHeads::ALL, soon()).await;
    let label = found.domain.as_ref().unwrap().as_ref().unwrap();
    assert_eq!((&*label.name, label.confidence, label.coverage), ("maths", 0.6, 1.0));
    assert_eq!(*label.probabilities, [0.6, 1.0 - 0.6]);
    let risk = found.jailbreak.as_ref().unwrap().as_ref().unwrap();
    assert_eq!((risk.score, risk.is_jailbreak(), risk.at.clone()), (0.05, false, 1..20));
    let entities = &found.pii.as_ref().unwrap().entities;
    assert_eq!((&*entities[0].kind, entities[0].bytes.clone()), ("PERSON", 13..17));
    assert_eq!((entities.len(), entities[0].chars.clone()), (1, 12..16));
    let embedding = found.embedding.as_ref().unwrap().as_ref().unwrap();
    assert!((embedding[0] - 0.6).abs() < 1e-6 && (embedding[1] - 0.8).abs() < 1e-6, "{embedding:?}");
    assert_eq!((found.cost.tokens, found.cost.windows, found.cost.cached, found.cost.batch), (5, 1, 0, 1));
    assert_eq!(*model.forwards.lock().unwrap(), [(vec![5], ClassifyHeads::ALL)]);
}

#[tokio::test]
async fn what_is_not_wanted_is_not_computed() {
    let (model, classifier) = one(&spec());
    let found = classifier.classify("m1", PII, soon()).await;
    assert_eq!((found.domain, found.jailbreak, found.embedding), (None, None, None));
    assert_eq!(model.forwards.lock().unwrap()[0].1, PII);
}

#[tokio::test]
async fn a_fault_stays_with_the_text_that_has_it() {
    for fault in ["panic", "fail", "nan", "unreadable"] {
        let (model, classifier) = one(&spec());
        model.shut();
        let first = ask(&classifier, "m0", ClassifyHeads::DOMAIN, soon());
        model.entered(1).await;
        let bad = ask(&classifier, fault, ClassifyHeads::DOMAIN, soon());
        let good = ask(&classifier, "m1", ClassifyHeads::DOMAIN, soon());
        until(|| classifier.queued() == 2).await;
        model.open();
        assert_eq!(name(&first.await.unwrap()), Ok("maths"), "{fault}");
        assert_eq!(name(&bad.await.unwrap()), Err(Unknown::Failed), "{fault}");
        assert_eq!(name(&good.await.unwrap()), Ok("maths"), "{fault}");
    }
}

#[tokio::test]
async fn white_space_is_empty_and_a_head_without_a_model_is_unsupported() {
    let model = Words::new(ClassifyHeads::DOMAIN);
    let classifier = start(&spec(), &[&model]);
    assert_eq!(domain(&classifier, " \n\t", soon()).await.err(), Some(Unknown::Empty));
    let found = classifier.classify("m1", ClassifyHeads::ALL, soon()).await;
    assert_eq!(name(&found), Ok("maths"));
    let unknowns: Vec<_> = found.unknowns().collect();
    assert_eq!(
        unknowns,
        [ClassifyHead::Jailbreak, ClassifyHead::Pii, ClassifyHead::Embedding]
            .map(|q| (q, Unknown::Unsupported))
    );
    let found = classifier.classify("m1", PII, soon()).await;
    assert_eq!(found.pii.unwrap().unknown, Some(Unknown::Unsupported));
}

#[tokio::test]
async fn heads_of_several_models_are_computed_side_by_side() {
    let about = Words::new(ClassifyHeads { domain: true, embedding: true, ..ClassifyHeads::NONE });
    let guard = Words::new(ClassifyHeads { jailbreak: true, pii: true, ..ClassifyHeads::NONE });
    let classifier = start(&ClassifierSpec { threads: 2, ..spec() }, &[&about, &guard]);
    about.shut();
    guard.shut();
    let asked = ask(&classifier, "m1 attack", ClassifyHeads::ALL, soon());
    about.entered(1).await;
    guard.entered(1).await;
    about.open();
    guard.open();
    let found = asked.await.unwrap();
    assert_eq!(found.unknowns().count(), 0);
    assert!(found.jailbreak.unwrap().unwrap().is_jailbreak());
    assert_eq!(found.cost.windows, 2);
}

#[tokio::test]
async fn another_question_about_a_known_text_computes_only_that() {
    let (model, classifier) = one(&spec());
    classifier.classify("m1 m2", ClassifyHeads::DOMAIN, soon()).await;
    let found = classifier.classify("m1 m2", ClassifyHeads { domain: true, ..JAILBREAK }, soon()).await;
    assert_eq!(name(&found), Ok("maths"));
    assert!(found.jailbreak.unwrap().is_ok());
    let wanted: Vec<ClassifyHeads> =
        model.forwards.lock().unwrap().iter().map(|(_, wanted)| *wanted).collect();
    assert_eq!(wanted, [ClassifyHeads::DOMAIN, JAILBREAK]);
    assert_eq!(found.cost.cached, 0);
}
