//! Owns the tests of the choice among models. Refuses to know how readings come about.

use super::*;
use crate::balance::PrefillTime;
use crate::policy::ChooseWeights;
use proptest::prelude::*;
use std::time::Duration;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn how(by: ChooseBy) -> Choose {
    Choose {
        by,
        min_quality: BasisPoints(0),
        max_ttft: None,
        max_time_per_token: None,
        weights: ChooseWeights { quality: 1_000, cost: 1_000, latency: 1_000, load: 1_000 },
    }
}

fn price(prompt: u64, completion: u64) -> Price {
    let (prompt_micros, completion_micros) = (prompt, completion);
    Price { currency: "USD".into(), prompt_micros, completion_micros, cached_micros: prompt / 2 }
}

fn read(ttft: u64, per_token: u64) -> LatencySnapshot {
    LatencySnapshot { ttft: Some(ms(ttft)), per_token: Some(ms(per_token)), ..LatencySnapshot::default() }
}

fn candidate(index: usize) -> Candidate<'static> {
    Candidate {
        model: ModelId(index),
        identity: identity(&format!("model-{index}"), None),
        weight: 1,
        price: None,
        quality: BasisPoints(5_000),
        reading: LatencySnapshot::default(),
        replica: None,
        reachable: true,
        in_flight: 0,
        capacity: 1,
    }
}

fn candidates<const N: usize>() -> [Candidate<'static>; N] {
    std::array::from_fn(candidate)
}

fn input() -> ChoiceInput {
    ChoiceInput { prompt_tokens: 1_000, expected_tokens: 500, margin: 0.1, ..ChoiceInput::default() }
}

fn chosen(candidates: &[Candidate<'_>], how: &Choose, input: &ChoiceInput) -> (usize, &'static str) {
    let ModelChoice { index, reason, .. } = choose(candidates, how, input);
    (index, reason.as_str())
}

const ALL: [ChooseBy; 5] =
    [ChooseBy::First, ChooseBy::Weight, ChooseBy::Cost, ChooseBy::Latency, ChooseBy::Score];

#[test]
fn the_first_that_can_be_reached_is_chosen() {
    let mut three = candidates::<3>();
    three[0].reachable = false;
    assert_eq!(chosen(&three, &how(ChooseBy::First), &input()), (1, "first"));
    let three = three.map(|one| Candidate { reachable: false, ..one });
    assert_eq!(chosen(&three, &how(ChooseBy::First), &input()), (0, "unreachable"));
}

#[test]
fn without_candidates_there_is_no_panic() {
    for by in ALL {
        assert_eq!(choose(&[], &how(by), &ChoiceInput { held: Some(3), ..input() }).index, 0);
    }
}

#[test]
fn the_cheapest_of_enough_quality_is_chosen_and_an_unknown_price_comes_last() {
    let (low, high) = (price(1, 2), price(10, 20));
    let mut four = candidates::<4>();
    (four[1].price, four[2].price, four[3].price) = (Some(&high), Some(&low), Some(&low));
    let mut how = how(ChooseBy::Cost);
    assert_eq!(chosen(&four, &how, &input()), (2, "cheapest"));
    (four[2].quality, four[3].quality) = (BasisPoints(4_000), BasisPoints(4_000));
    how.min_quality = BasisPoints(5_000);
    assert_eq!(chosen(&four, &how, &input()), (1, "cheapest"));
    how.min_quality = BasisPoints(9_000);
    assert_eq!(chosen(&four, &how, &input()), (2, "cheapest"), "a limit that no model meets is passed over");
}

#[test]
fn what_a_request_costs_depends_on_its_tokens() {
    let (reads, writes) = (price(1, 10), price(5, 5));
    let mut two = candidates::<2>();
    (two[0].price, two[1].price) = (Some(&reads), Some(&writes));
    let of = |prompt_tokens, expected_tokens| ChoiceInput { prompt_tokens, expected_tokens, ..input() };
    assert_eq!(choose(&two, &how(ChooseBy::Cost), &of(1_000, 10)).index, 0);
    assert_eq!(choose(&two, &how(ChooseBy::Cost), &of(10, 1_000)).index, 1);
}

#[test]
fn the_quickest_is_the_one_that_ends_its_answer_first() {
    let mut two = candidates::<2>();
    (two[0].reading, two[1].reading) = (read(100, 20), read(1_000, 10));
    let of = |expected_tokens| ChoiceInput { expected_tokens, ..input() };
    assert_eq!(chosen(&two, &how(ChooseBy::Latency), &of(10)), (0, "quickest"));
    assert_eq!(chosen(&two, &how(ChooseBy::Latency), &of(500)), (1, "quickest"));
    two[1].reading.failures = 0.9;
    assert_eq!(chosen(&two, &how(ChooseBy::Latency), &of(500)), (0, "quickest"));
}

#[test]
fn a_model_of_unknown_speed_is_tried_by_one_request_at_a_time() {
    let mut two = candidates::<2>();
    two[0].reading = read(9_000, 900);
    assert_eq!(chosen(&two, &how(ChooseBy::Latency), &input()), (1, "untried"));
    two[1].reading.in_flight = 1;
    assert_eq!(chosen(&two, &how(ChooseBy::Latency), &input()), (0, "quickest"));
    two[1].reading = LatencySnapshot { failures: 0.5, ..LatencySnapshot::default() };
    assert_eq!(chosen(&two, &how(ChooseBy::Latency), &input()), (0, "quickest"));
}

#[test]
fn models_of_unknown_speed_share_the_first_requests_by_load() {
    let mut three = candidates::<3>();
    let mut counts = [0_u32; 3];
    for _ in 0..12 {
        let index = choose(&three, &how(ChooseBy::Latency), &input()).index;
        counts[index] += 1;
        three[index].in_flight += 1;
        three[index].reading.in_flight += 1;
    }
    assert_eq!(counts, [4, 4, 4]);
}

#[test]
fn a_conversation_does_not_measure_models_for_others() {
    let mut three = candidates::<3>();
    three[1].reading = read(2_000, 20);
    let held = ChoiceInput { held: Some(1), ..input() };
    for by in [ChooseBy::Latency, ChooseBy::Score] {
        assert_eq!(choose(&three, &how(by), &held).index, 1, "{by:?}");
    }
    three[1].reading = LatencySnapshot { in_flight: 3, ..LatencySnapshot::default() };
    three[2].reading = read(10, 1);
    assert_eq!(chosen(&three, &how(ChooseBy::Latency), &held), (1, "held"));
}

#[test]
fn models_that_are_too_slow_are_left_out_unless_all_are() {
    let (low, high) = (price(1, 2), price(10, 20));
    let mut two = candidates::<2>();
    (two[0].price, two[1].price) = (Some(&low), Some(&high));
    (two[0].reading, two[1].reading) = (read(3_000, 20), read(200, 90));
    let mut how = how(ChooseBy::Cost);
    how.max_ttft = Some(ms(3_000));
    assert_eq!(choose(&two, &how, &input()).index, 0, "the limit itself is good enough");
    how.max_ttft = Some(ms(2_999));
    assert_eq!(choose(&two, &how, &input()).index, 1);
    assert_eq!(choose(&two, &how, &ChoiceInput { held: Some(0), margin: 1.0, ..input() }).index, 1);
    how.max_time_per_token = Some(ms(50));
    assert_eq!(choose(&two, &how, &input()).index, 0);
    two[0].reading = LatencySnapshot::default();
    assert_eq!(choose(&two, &how, &input()).index, 0, "what is unknown is within every limit");
}

#[test]
fn the_score_is_the_weighted_mean_of_its_terms() {
    let (half, full) = (price(5, 5), price(10, 10));
    let mut two = candidates::<2>();
    (two[0].price, two[0].quality, two[0].reading) = (Some(&half), BasisPoints(4_000), read(500, 0));
    (two[1].price, two[1].quality, two[1].reading) = (Some(&full), BasisPoints(8_000), read(1_000, 0));
    (two[0].in_flight, two[0].capacity) = (7, 2);
    let mut how = how(ChooseBy::Score);
    how.weights = ChooseWeights { quality: 4_000, cost: 2_000, latency: 1_000, load: 1_000 };
    let measures = Measures::among(two.iter(), None, &how, &input());
    let near = |index: usize, wanted: f64| (measures.score(&two[index]) - wanted).abs() < 1e-6;
    // Quality 0.5 and 1, cost 0.5 and 0, latency 0.5 and 0, load 0 and 0.75.
    assert!(near(0, (4.0 * 0.5 + 2.0 * 0.5 + 0.5) / 8.0));
    assert!(near(1, (4.0 + 0.75) / 8.0));
    assert_eq!(chosen(&two, &how, &input()), (1, "best"));
    how.weights.quality = 0;
    assert_eq!(chosen(&two, &how, &input()), (0, "best"));
}

#[test]
fn a_conversation_keeps_its_model_unless_another_is_better_by_more_than_the_margin() {
    let (held_price, others) = (price(100, 0), price(90, 0));
    let mut two = candidates::<2>();
    (two[0].price, two[1].price) = (Some(&others), Some(&held_price));
    let with = |margin| ChoiceInput { held: Some(1), margin, ..input() };
    assert_eq!(chosen(&two, &how(ChooseBy::Cost), &with(0.11)), (1, "held"));
    assert_eq!(chosen(&two, &how(ChooseBy::Cost), &with(0.09)), (0, "cheapest"));
    assert_eq!(chosen(&two, &how(ChooseBy::Cost), &with(f32::NAN)), (0, "cheapest"));
    (two[0].reading, two[1].reading) = (read(800, 0), read(1_000, 0));
    assert_eq!(chosen(&two, &how(ChooseBy::Latency), &with(0.21)), (1, "held"));
    assert_eq!(chosen(&two, &how(ChooseBy::Latency), &with(0.19)), (0, "quickest"));
    // Latency terms 0.2 and 0, cost terms 0.1 and 0: of four weights alike 0.075 between the scores.
    assert_eq!(chosen(&two, &how(ChooseBy::Score), &with(0.08)), (1, "held"));
    assert_eq!(chosen(&two, &how(ChooseBy::Score), &with(0.07)), (0, "best"));
    two[1].price = None;
    assert_eq!(chosen(&two, &how(ChooseBy::Cost), &with(0.99)), (0, "cheapest"));
}

#[test]
fn first_and_weight_keep_a_conversation_as_long_as_its_model_can_be_reached() {
    let mut two = candidates::<2>();
    two[1].weight = 0;
    let held = ChoiceInput { held: Some(1), ..input() };
    for by in [ChooseBy::First, ChooseBy::Weight] {
        two[1].reachable = true;
        assert_eq!(chosen(&two, &how(by), &held), (1, "held"));
        two[1].reachable = false;
        assert_eq!(choose(&two, &how(by), &held).index, 0);
        assert_eq!(choose(&two, &how(by), &ChoiceInput { held: Some(9), ..input() }).index, 0);
    }
}

#[test]
fn adapters_of_one_model_share_keys_and_so_does_a_model_named_twice() {
    assert_ne!(identity("m", Some("a")), identity("m", Some("b")));
    assert_ne!(identity("m", Some("m")), identity("n", Some("n")));
    let two = [candidate(0), candidate(0)];
    let second = (0..1_000_u64).filter(|key| {
        let key = Some(hash_key(&key.to_be_bytes()));
        choose(&two, &how(ChooseBy::Weight), &ChoiceInput { key, ..input() }).index == 1
    });
    assert!((400..600).contains(&second.count()));
}

/// Everything that a candidate borrows or is, for tests that draw it.
#[derive(Debug, Clone)]
struct Drawn {
    price: Option<Price>,
    weight: u32,
    quality: u16,
    reading: LatencySnapshot,
    reachable: bool,
    in_flight: u32,
    capacity: u32,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let price = prop::option::of((0_u64..2_000, 0_u64..2_000).prop_map(|(one, other)| price(one, other)));
    let time = || prop::option::of(prop_oneof![(0_u64..5_000).prop_map(ms), Just(Duration::MAX)]);
    let reading = (time(), time(), 0_u32..3, 0_u8..=4).prop_map(|(ttft, per_token, in_flight, quarters)| {
        LatencySnapshot { ttft, per_token, prefill: None, in_flight, failures: f32::from(quarters) / 4.0 }
    });
    let weight = prop_oneof![0_u32..4, any::<u32>()];
    let parts = (price, weight, 0_u16..=10_000, reading, prop::bool::weighted(0.8), any::<u32>(), 0_u32..4);
    parts.prop_map(|(price, weight, quality, reading, reachable, in_flight, capacity)| Drawn {
        price,
        weight,
        quality,
        reading,
        reachable,
        in_flight,
        capacity,
    })
}

fn made(drawn: &[Drawn]) -> Vec<Candidate<'_>> {
    let made = drawn.iter().enumerate().map(|(index, one)| Candidate {
        weight: one.weight,
        price: one.price.as_ref(),
        quality: BasisPoints(one.quality),
        reading: one.reading,
        reachable: one.reachable,
        in_flight: one.in_flight,
        capacity: one.capacity,
        ..candidate(index)
    });
    made.collect()
}

fn settings() -> impl Strategy<Value = Choose> {
    let limit = || prop::option::of((0_u64..5_000).prop_map(ms));
    let weight = || prop_oneof![Just(0), 0_u32..3_000, Just(u32::MAX)];
    let weights = (weight(), weight(), weight(), weight());
    let parts = (prop::sample::select(&ALL[..]), 0_u16..=10_000, limit(), limit(), weights);
    parts.prop_map(|(by, least, max_ttft, max_time_per_token, (quality, cost, latency, load))| Choose {
        by,
        min_quality: BasisPoints(least),
        max_ttft,
        max_time_per_token,
        weights: ChooseWeights { quality, cost, latency, load },
    })
}

fn keyed(number: u64) -> ChoiceInput {
    ChoiceInput { key: Some(hash_key(&number.to_be_bytes())), ..input() }
}

proptest! {
    #[test]
    fn a_model_is_always_chosen_and_a_reachable_one_where_there_is_one(
        drawn in prop::collection::vec(drawn(), 1..20), how in settings(),
        tokens in (any::<u64>(), any::<u64>()), random in any::<u64>(), key in prop::option::of(any::<u64>()),
        held in prop::option::of(0_usize..24), margin in any::<f32>(),
    ) {
        let made = made(&drawn);
        let (prompt_tokens, expected_tokens) = tokens;
        let input = ChoiceInput { prompt_tokens, expected_tokens, random, key, held, margin };
        let chosen = choose(&made, &how, &input);
        let someone = made.iter().any(|one| one.reachable);
        prop_assert!(chosen.index < made.len());
        prop_assert_eq!(made[chosen.index].reachable, someone);
        prop_assert_eq!(chosen.reason == ChoiceReason::Unreachable, !someone);
        prop_assert_eq!(chosen, choose(&made, &how, &input), "the same arguments give the same choice");
        let measures = Measures::among(made.iter(), None, &how, &input);
        prop_assert!(made.iter().all(|one| (0.0..=1.0).contains(&measures.score(one))));
    }

    #[test]
    fn chance_gives_every_model_exactly_its_share(
        weights in prop::collection::vec((0_u32..40, any::<bool>()), 1..20),
    ) {
        let mut made: Vec<_> = (0..weights.len()).map(candidate).collect();
        for (one, (weight, reachable)) in made.iter_mut().zip(&weights) {
            (one.weight, one.reachable) = (*weight, *reachable);
        }
        let someone = made.iter().any(|one| one.reachable);
        let counts = |one: &Candidate<'_>| one.reachable || !someone;
        let given: u64 = made.iter().filter(|one| counts(one)).map(|one| u64::from(one.weight)).sum();
        let of = |one: &Candidate<'_>| match (counts(one), given) {
            (false, _) => 0,
            (true, 0) => 1,
            (true, _) => one.weight,
        };
        let total: u32 = made.iter().map(of).sum();
        let mut seen = vec![0_u32; made.len()];
        for part in 0..u128::from(total) {
            let random = (part << 64).div_ceil(u128::from(total)) as u64;
            seen[choose(&made, &how(ChooseBy::Weight), &ChoiceInput { random, ..input() }).index] += 1;
        }
        prop_assert_eq!(seen, made.iter().map(of).collect::<Vec<_>>());
    }

    #[test]
    fn a_key_keeps_its_model_whatever_the_order_and_whichever_else_goes(
        weights in prop::collection::vec(1_u32..20, 2..16), gone in any::<prop::sample::Index>(),
    ) {
        let mut made: Vec<_> = (0..weights.len()).map(candidate).collect();
        made.iter_mut().zip(&weights).for_each(|(one, weight)| one.weight = *weight);
        let turned: Vec<_> = made.iter().rev().copied().collect();
        let gone = gone.index(made.len());
        let mut without = made.clone();
        without[gone].reachable = false;
        let mut fewer = made.clone();
        fewer.remove(gone);
        let model = |list: &[Candidate<'_>], number| list[choose(list, &how(ChooseBy::Weight), &keyed(number)).index].model;
        for number in 0..200 {
            let before = model(&made, number);
            prop_assert_eq!(model(&turned, number), before);
            let after = model(&without, number);
            prop_assert_eq!(model(&fewer, number), after);
            prop_assert!(after.0 != gone && (before.0 == gone || before == after));
        }
    }

    #[test]
    fn a_model_never_loses_by_getting_cheaper_quicker_or_better(
        drawn in prop::collection::vec(drawn(), 1..12), how in settings(),
        by in prop::sample::select(&ALL[2..]), parts in (0_u64..=8, 0_u32..=8, 0_u16..=8),
    ) {
        let how = Choose { by, ..how };
        let before = choose(&made(&drawn), &how, &input()).index;
        let mut after = drawn.clone();
        let one = &mut after[before];
        if let Some(price) = &mut one.price {
            price.prompt_micros = price.prompt_micros * parts.0 / 8;
            price.completion_micros = price.completion_micros * parts.0 / 8;
        }
        one.reading.ttft = one.reading.ttft.map(|time| time / 8 * parts.1);
        one.reading.per_token = one.reading.per_token.map(|time| time / 8 * parts.1);
        one.quality = one.quality.max(10_000 / 8 * parts.2);
        // A limit that none but the better one meets now may be closed: that leaves it alone, and so it wins too.
        prop_assert_eq!(choose(&made(&after), &how, &input()).index, before);
    }

    #[test]
    fn a_held_model_that_stays_is_never_worse_by_more_than_the_margin(
        drawn in prop::collection::vec(drawn(), 2..12), held in any::<prop::sample::Index>(), margin in 0.0_f32..1.0,
    ) {
        let (mut made, held, any_price) = (made(&drawn), held.index(drawn.len()), price(700, 300));
        made[held].reachable = true;
        made[held].price = made[held].price.or(Some(&any_price));
        let how = how(ChooseBy::Cost);
        let measures = Measures::among(made.iter(), None, &how, &input());
        let chosen = choose(&made, &how, &ChoiceInput { held: Some(held), margin, ..input() });
        let (stays, free) = (measures.cost(&made[held]), measures.cost(&made[choose(&made, &how, &input()).index]));
        let is_better = stays - free > stays * f64::from(margin);
        prop_assert_eq!(chosen.index != held, is_better, "{} {}", stays, free);
    }
}

fn replica(work: f64, cached: u32, in_flight: u32) -> ReplicaForecast {
    let endpoint = ([10, 0, 0, 1], 8000).into();
    ReplicaForecast { endpoint, work, cached, in_flight, margin: None, is_cold: false }
}

#[test]
fn a_model_is_as_quick_as_the_replica_that_would_get_the_request() {
    let mut two = candidates::<2>();
    let line = |per_token| Some(PrefillTime { base: 0.02, per_token });
    two[0].reading = LatencySnapshot { prefill: line(0.0001), ..read(200, 10) };
    two[1].reading = LatencySnapshot { prefill: line(0.0002), ..read(500, 10) };
    assert_eq!(chosen(&two, &how(ChooseBy::Latency), &input()), (0, "quickest"), "by their averages");
    two[0].replica = Some(replica(20_000.0, 0, 9));
    two[1].replica = Some(replica(300.0, 700, 0));
    let choice = choose(&two, &how(ChooseBy::Latency), &input());
    assert_eq!((choice.index, choice.reason), (1, ChoiceReason::Quickest), "the first's replica is busy");
    let runner_up = choice.runner_up.expect("there are two");
    assert_eq!(runner_up.index, 0);
    assert!((runner_up.measure - (2.02 + 499.0 * 0.01)).abs() < 1e-6, "{runner_up:?}");
    assert!((runner_up.chosen - (0.08 + 499.0 * 0.01)).abs() < 1e-6, "{runner_up:?}");
}

#[test]
fn what_a_replica_has_cached_is_paid_as_cached() {
    let (cheap, dear) = (price(90, 100), price(100, 100));
    let mut two = candidates::<2>();
    (two[0].price, two[1].price) = (Some(&cheap), Some(&dear));
    let no_margin = ChoiceInput { margin: 0.0, ..input() };
    assert_eq!(chosen(&two, &how(ChooseBy::Cost), &no_margin), (0, "cheapest"));
    two[1].replica = Some(replica(500.0, 500, 0));
    assert_eq!(chosen(&two, &how(ChooseBy::Cost), &no_margin), (1, "cheapest"));
}

#[test]
fn the_held_model_stays_within_the_margin_and_names_the_better_one_as_runner_up() {
    let mut two = candidates::<2>();
    (two[0].reading, two[1].reading) = (read(100, 10), read(105, 10));
    let held = ChoiceInput { held: Some(1), ..input() };
    let choice = choose(&two, &how(ChooseBy::Latency), &held);
    assert_eq!((choice.index, choice.reason), (1, ChoiceReason::Held));
    assert_eq!(choice.runner_up.map(|other| other.index), Some(0));
    assert_eq!(choose(&two, &how(ChooseBy::First), &held).runner_up, None, "nothing is compared");
}
