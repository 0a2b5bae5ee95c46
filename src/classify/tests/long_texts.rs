//! Texts of many windows: what is read of them, what is known already, and what a part of them says.

use super::*;

#[tokio::test]
async fn all_of_a_long_text_is_read_and_its_worst_part_counts() {
    let (model, classifier) = one(&ClassifierSpec { batch_tokens: 1, ..spec() });
    let text = format!("{} attack now", words(0, 40));
    let found = classifier.classify(&text, ClassifyHeads::ALL, soon()).await;
    let risk = found.jailbreak.unwrap().unwrap();
    assert!(risk.is_jailbreak());
    assert_eq!(&text[risk.at], "attack now");
    assert_eq!(
        (found.domain.unwrap().unwrap().coverage, found.cost.tokens, found.cost.windows),
        (1.0, 42, 7)
    );
    assert_eq!(model.batches(), [[8], [6], [8], [8], [8], [8], [8]], "the first, the last, then the rest");
}

#[tokio::test]
async fn an_entity_where_windows_overlap_is_found_once() {
    let (_, classifier) = one(&spec());
    let text = "ö ".repeat(7) + "@ada " + &words(0, 20) + " @bob";
    let found = classifier.classify(&text, PII, soon()).await.pii.unwrap().complete().unwrap();
    let spans: Vec<&str> = found.iter().map(|entity| &text[entity.bytes.clone()]).collect();
    assert_eq!(spans, ["@ada", "@bob"]);
    assert_eq!((found[0].bytes.clone(), found[0].chars.clone()), (21..25, 14..18));
}

#[tokio::test]
async fn a_follow_up_turn_computes_only_new_windows() {
    let (model, classifier) = one(&spec());
    let first = words(0, 50);
    let found = classifier.classify(&first, ClassifyHeads::ALL, soon()).await;
    assert_eq!((found.cost.windows, found.cost.cached), (8, 0));
    let before: usize = model.batches().iter().map(Vec::len).sum();
    let second = format!("{first} {}", words(100, 12));
    let found = classifier.classify(&second, ClassifyHeads::ALL, soon()).await;
    assert_eq!((found.cost.windows, found.cost.cached), (10, 8));
    let after: usize = model.batches().iter().map(Vec::len).sum();
    assert_eq!((before, after), (8, 10));
    assert_eq!((found.domain.unwrap().unwrap().coverage, found.cost.tokens), (1.0, 62));
    let again = classifier.classify(&second, ClassifyHeads::ALL, soon()).await;
    assert_eq!((again.cost.cached, again.cost.compute, again.cost.batch), (10, Duration::ZERO, 0));
}

#[tokio::test]
async fn no_more_windows_are_kept_than_the_cache_takes() {
    let (model, classifier) = one(&ClassifierSpec { cache: 2, ..spec() });
    for text in ["m1", "m2", "m3", "m1"] {
        domain(&classifier, text, soon()).await.unwrap();
    }
    assert_eq!(model.batches().len(), 4);
    domain(&classifier, "m3", soon()).await.unwrap();
    assert_eq!(model.batches().len(), 4);
}

/// Asks about a text of three windows, of which the first is computed and the rest is late.
async fn after_one_window(text: &str, heads: ClassifyHeads) -> Findings {
    let (model, classifier) = one(&ClassifierSpec { batch_tokens: 1, ..spec() });
    let deadline = Instant::now() + Duration::from_millis(300);
    // The first window's answer comes from the cache.
    let first: Vec<&str> = text.split_whitespace().take(8).collect();
    classifier.classify(&first.join(" "), heads, soon()).await;
    model.shut();
    let found = classifier.classify(text, heads, deadline).await;
    model.open();
    found
}

#[tokio::test]
async fn at_the_deadline_a_domain_is_judged_from_what_was_read_and_guards_are_late() {
    let text = format!("m1 m2 m3 m4 m5 m6 m7 x8 {}", words(0, 12));
    let found = after_one_window(&text, ClassifyHeads::ALL).await;
    let label = found.domain.unwrap().unwrap();
    assert_eq!((&*label.name, label.confidence, label.coverage), ("maths", 0.875, 0.4));
    assert_eq!(found.jailbreak, Some(Err(Unknown::Late)));
    assert_eq!(found.pii.unwrap().complete(), Err(Unknown::Late));
    assert_eq!(found.embedding, Some(Err(Unknown::Late)));
}

#[tokio::test]
async fn an_attack_found_in_time_is_an_answer_whatever_the_rest_says() {
    let text = format!("attack m2 m3 m4 m5 m6 m7 x8 {}", words(0, 12));
    let found = after_one_window(&text, ClassifyHeads { domain: true, ..JAILBREAK }).await;
    assert!(found.jailbreak.unwrap().unwrap().is_jailbreak());
}

#[tokio::test]
async fn what_is_longer_than_is_read_is_too_long_for_guards_alone() {
    let (_, classifier) = one(&ClassifierSpec {
        windows: WindowSpec { max_tokens: 24, domain_tokens: 24, ..spec().windows },
        ..spec()
    });
    let text = format!("{} m {}", words(0, 40), "m ".repeat(20));
    let found = classifier.classify(&text, ClassifyHeads::ALL, soon()).await;
    let label = found.domain.unwrap().unwrap();
    assert!(label.coverage < 0.5 && label.probabilities[0] > 0.3, "{label:?}");
    assert!(found.embedding.unwrap().is_ok());
    assert_eq!(found.jailbreak, Some(Err(Unknown::TooLong)));
    assert_eq!(found.pii.unwrap().complete(), Err(Unknown::TooLong));
    let text = format!("{} attack", words(0, 100));
    let found = classifier.classify(&text, JAILBREAK, soon()).await;
    assert!(found.jailbreak.unwrap().unwrap().is_jailbreak());
}

#[tokio::test]
async fn what_is_written_in_signs_that_the_model_lacks_is_unreadable_but_searched() {
    let classifier = Classifier::load(&ClassifierSpec::default()).unwrap();
    for text in ["ช่วยเขียนฟังก์ชันที่เรียงลำดับรายการตัวเลขให้หน่อย", "ဤစာကို ဘာသာပြန်ပေးပါ ကျေးဇူးပြုပြီး ah ok"]
    {
        let text = format!("{text} jo@example.org");
        let found = classifier.classify(&text, ClassifyHeads::ALL, soon()).await;
        assert_eq!(found.domain.unwrap().err(), Some(Unknown::Unreadable), "{text}");
        assert_eq!(found.jailbreak, Some(Err(Unknown::Unreadable)));
        assert_eq!(found.embedding.unwrap().err(), Some(Unknown::Unreadable));
        let pii = found.pii.unwrap();
        assert_eq!((&*pii.entities[0].kind, pii.unknown), ("EMAIL_ADDRESS", Some(Unknown::Unreadable)));
    }
    for text in [
        "👍",
        "Translate ขอบคุณ into English, and tell me how it is said by a woman",
        "Erkläre mir den Blutkreislauf",
    ] {
        let found = classifier.classify(text, ClassifyHeads::ALL, soon()).await;
        assert!(found.domain.unwrap().is_ok(), "{text}");
    }
}

#[tokio::test]
async fn the_middle_of_a_very_long_text_is_not_even_cut_into_tokens() {
    let (model, classifier) = one(&ClassifierSpec {
        windows: WindowSpec { max_tokens: 24, domain_tokens: 24, ..spec().windows },
        ..spec()
    });
    let text = format!("m1 {} m2", "x ".repeat(100_000));
    let found = classifier.classify(&text, ClassifyHeads::DOMAIN, soon()).await;
    let label = found.domain.unwrap().unwrap();
    assert!(label.coverage < 0.001, "{label:?}");
    assert!(label.probabilities[0] > 0.05, "both ends were read: {label:?}");
    assert!(model.batches().iter().flatten().sum::<usize>() < 48);
}

#[tokio::test]
async fn a_domain_is_judged_from_both_ends() {
    let (model, classifier) =
        one(&ClassifierSpec { windows: WindowSpec { domain_tokens: 16, ..spec().windows }, ..spec() });
    let text = format!("{} m1 m2 m3 m4 m5 m6 m7 m8", words(0, 192));
    let label = domain(&classifier, &text, soon()).await.unwrap();
    assert!(label.probabilities[0] > 0.3, "{label:?}");
    assert_eq!((label.coverage, model.batches().concat()), (14.0 / 200.0, vec![8, 8]));
}
