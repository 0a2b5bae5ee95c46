//! More texts than can be computed: who is answered, and who is refused at once.

use super::*;

/// A model on which a text of eight tokens takes two milliseconds, so that 500 of them are computed in a second.
fn slow() -> (Arc<Words>, Arc<Classifier>) {
    let words = Arc::into_inner(Words::new(ClassifyHeads::ALL)).unwrap();
    let model = Arc::new(Words { token_time: Duration::from_micros(250), ..words });
    let classifier = start(&ClassifierSpec { queue: 256, cache: 0, ..spec() }, &[&model]);
    (model, classifier)
}

/// How long a text of a flood is waited for.
const PATIENCE: Duration = Duration::from_millis(80);

/// Asks for one text of so many tokens each `interval` for a while; returns how many were asked for and how many answered.
async fn flood(
    classifier: &Arc<Classifier>,
    tokens: usize,
    priority: Priority,
    interval: Duration,
    patience: Duration,
) -> (usize, usize) {
    let began = Instant::now();
    let mut asked = tokio::task::JoinSet::new();
    while began.elapsed() < Duration::from_millis(800) {
        while began.elapsed() >= interval * asked.len() as u32 {
            let classifier = Arc::clone(classifier);
            let text = words(asked.len() % 50, tokens);
            asked.spawn(async move {
                let limits = ClassifyLimits { deadline: Instant::now() + patience, priority };
                classifier.classify(&text, JAILBREAK, limits).await.outcome() == "ok"
            });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let answers = asked.join_all().await;
    (answers.len(), answers.into_iter().filter(|is_answered| *is_answered).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn above_its_capacity_a_classifier_answers_as_many_texts_as_it_can_compute() {
    for priority in [Priority::BestEffort, Priority::Required] {
        for factor in [2, 10] {
            let (_, classifier) = slow();
            let began = Instant::now();
            let (asked, answered) =
                flood(&classifier, 8, priority, Duration::from_micros(2000) / factor, PATIENCE).await;
            let sum = classifier.forwards();
            // What one thread computes in that time, by what its forwards took.
            let capacity = began.elapsed().as_secs_f64() * sum.windows as f64 / sum.time.as_secs_f64();
            assert!(
                answered as f64 >= 0.9 * capacity,
                "{answered} of {asked} at {factor} ×, {capacity} can be"
            );
            assert_eq!(classifier.queued(), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_guard_asks_is_not_pushed_out_by_any_flood_of_other_texts() {
    for tokens in [8, 160] {
        let (_, classifier) = slow();
        let fourth = Duration::from_millis(8);
        let (others, guards) = tokio::join!(
            flood(&classifier, tokens, Priority::BestEffort, Duration::from_micros(300), PATIENCE),
            flood(&classifier, 8, Priority::Required, fourth, 5 * PATIENCE),
        );
        assert!(guards.1 * 10 >= guards.0 * 9, "{guards:?} beside {others:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_texts_do_not_push_out_the_short_ones_of_other_guards() {
    let (_, classifier) = slow();
    let (long, short) = tokio::join!(
        flood(&classifier, 160, Priority::Required, Duration::from_millis(4), 5 * PATIENCE),
        flood(&classifier, 8, Priority::Required, Duration::from_millis(8), 5 * PATIENCE),
    );
    assert!(short.1 * 10 >= short.0 * 9, "{short:?} beside {long:?}");
}

#[tokio::test]
async fn what_would_be_late_is_refused_at_once() {
    let (model, classifier) = slow();
    assert!(domain(&classifier, &words(0, 8), soon()).await.is_ok());
    model.shut();
    let first = ask(&classifier, &words(0, 8), ClassifyHeads::DOMAIN, soon());
    model.entered(2).await;
    let waiting: Vec<_> =
        (0..20).map(|at| ask(&classifier, &words(at, 40), ClassifyHeads::DOMAIN, soon())).collect();
    until(|| classifier.queued() == 20).await;
    assert_eq!(domain(&classifier, &words(9, 40), in_a_moment()).await.err(), Some(Unknown::Busy));
    model.open();
    assert!(name(&first.await.unwrap()).is_ok());
    for waiting in waiting {
        assert!(name(&waiting.await.unwrap()).is_ok());
    }
}

#[tokio::test]
async fn a_text_that_was_computed_before_is_not_refused_for_what_it_took_then() {
    let words_model = Arc::into_inner(Words::new(ClassifyHeads::ALL)).unwrap();
    let model = Arc::new(Words { token_time: Duration::from_micros(250), ..words_model });
    let classifier = start(&ClassifierSpec { cache: 4096, ..spec() }, &[&model]);
    let long = words(0, 1600);
    let required = |patience: Duration| ClassifyLimits {
        deadline: Instant::now() + patience,
        priority: Priority::Required,
    };
    let outcome = |found: Findings| found.jailbreak.unwrap().map(|_| ());
    let found = classifier.classify(&long, JAILBREAK, required(Duration::from_secs(20))).await;
    assert_eq!(outcome(found), Ok(()));
    model.shut();
    let entered = model.entered.load(Ordering::SeqCst);
    let first = ask(&classifier, "another", ClassifyHeads::DOMAIN, soon());
    model.entered(entered + 1).await;
    // Far less than it took, and something waits already.
    let patience = Duration::from_millis(200);
    let other = words(5000, 1600);
    assert_eq!(outcome(classifier.classify(&other, JAILBREAK, required(patience)).await), Err(Unknown::Busy));
    let asked = {
        let classifier = Arc::clone(&classifier);
        tokio::spawn(async move { classifier.classify(&long, JAILBREAK, required(patience)).await })
    };
    until(|| classifier.queued() == 1).await;
    model.open();
    assert_eq!(outcome(asked.await.unwrap()), Ok(()));
    assert!(name(&first.await.unwrap()).is_ok());
}
