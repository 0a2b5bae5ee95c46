//! Endpoints that are new, asleep or silent: when they are asked, and when not.

use super::*;

#[test]
fn an_endpoint_that_stops_giving_tokens_while_it_gets_requests_is_left_out_until_it_gives_some() {
    for balance in EVERY {
        let cluster = Cluster::new(balance, 2);
        let held = [0, 1].map(|number| cluster.stream(&prompt(&format!("{number}"), 100)));
        let stuck = cluster.place(&held[0]);
        assert_ne!(stuck, cluster.place(&held[1]), "{balance}");
        let mut cluster = cluster.after(Duration::from_secs(5));
        held[1].token(cluster.now);
        // It gets more than it had when its last token came.
        let more: Vec<Lease> =
            (0..2).map(|number| cluster.lease(&prompt(&format!("{number}"), 100))).collect();
        let (mut got, mut later) =
            (more.iter().filter(|lease| cluster.place(lease) == stuck).count(), Vec::new());
        for number in 0..40 {
            later.push(cluster.lease(&prompt(&format!("later {number}"), 100)));
            got += usize::from(cluster.place(later.last().expect("just pushed")) == stuck);
        }
        assert!(got <= 1, "{balance}: {got} went to one that gives nothing");
        cluster.now += Duration::from_secs(1);
        held[0].token(cluster.now);
        held[1].token(cluster.now);
        drop((more, later));
        let after: Vec<Lease> =
            (0..20).map(|number| cluster.lease(&prompt(&format!("after {number}"), 100))).collect();
        assert!(after.iter().any(|lease| cluster.place(lease) == stuck), "{balance}: it is back");
    }
}

#[test]
fn where_no_endpoint_gives_tokens_they_are_all_asked() {
    let cluster = Cluster::new("auto", 2);
    let held = [0, 1, 2, 3].map(|number| cluster.stream(&prompt(&format!("{number}"), 100)));
    let cluster = cluster.after(Duration::from_secs(5));
    let more: Vec<Lease> = (0..20).map(|number| cluster.lease(&prompt(&format!("m{number}"), 100))).collect();
    let on_first = more.iter().filter(|lease| cluster.place(lease) == 0).count();
    assert!((1..20).contains(&on_first), "{on_first}");
    drop(held);
}

#[test]
fn a_new_endpoint_gets_a_quarter_of_the_prompts_that_no_one_has() {
    for balance in BY_PREFIX {
        let cluster = with_newcomer(balance);
        let mut counts = [0; 3];
        for number in 0..400 {
            counts[cluster.place(&cluster.lease(&prompt(&format!("{balance} {number}"), 500)))] += 1;
        }
        assert!((12..140).contains(&counts[2]), "{balance}: {counts:?}");
        let cluster = cluster.after(Duration::from_secs(61));
        let later =
            (0..60).filter(|number| cluster.place(&cluster.lease(&prompt(&format!("l {number}"), 500))) == 2);
        assert!(later.count() >= 10, "{balance}: its share, once it has been there for a minute");
    }
}

#[test]
fn a_new_endpoint_gets_one_of_eight_prompts_that_others_have_until_it_has_some() {
    for balance in BY_PREFIX {
        let cluster = with_newcomer(balance);
        // Its home is one of the others.
        let home = |name: &str| {
            (0..1_000)
                .map(|number| format!("{name} {number}"))
                .find(|text| cluster.place(&cluster.lease(&prompt(text, 700))) != 2)
        };
        let homes: Vec<String> = (0..6).filter_map(|at| home(&format!("conversation {at}"))).collect();
        let mut diverted = 0;
        for turn in 0..240 {
            let lease = cluster.lease(&prompt(&homes[turn % homes.len()], 700));
            diverted += usize::from(cluster.place(&lease) == 2);
        }
        // Those that were diverted once may be hits there from then on, which count for it only by their eighth.
        assert!((8..70).contains(&diverted), "{balance}: {diverted} of 240");
    }
}

#[test]
fn where_the_others_have_requests_waiting_a_new_endpoint_gets_what_it_can_take() {
    let cluster = with_newcomer("auto");
    for place in [0, 1] {
        cluster.report(place, |metrics| metrics.waiting = Some(9.0));
    }
    for number in 0..20 {
        assert_eq!(cluster.place(&cluster.lease(&prompt(&format!("{number}"), 500))), 2);
    }
}

#[test]
fn a_sleeping_engine_is_asked_only_where_all_sleep() {
    for balance in ["auto", "round_robin", "least_request", "llm-d"] {
        let cluster = Cluster::new(balance, 2);
        cluster.report(0, |metrics| metrics.is_asleep = true);
        let short = prompt("hi", 8);
        assert!((0..20).all(|_| cluster.place(&cluster.lease(&short)) == 1), "{balance}");
        cluster.report(1, |metrics| metrics.is_asleep = true);
        cluster.lease(&short);
    }
}

#[test]
fn an_engine_sleeps_until_it_is_told_or_says_otherwise_however_old_its_figures_are() {
    for balance in ["auto", "round_robin"] {
        let cluster = Cluster::new(balance, 2);
        cluster.report(0, |metrics| {
            metrics.is_asleep = true;
            metrics.max_age = Duration::ZERO;
            metrics.at -= Duration::from_secs(600);
        });
        let short = prompt("hi", 8);
        let goes_to_first = || (0..40).any(|_| cluster.place(&cluster.lease(&short)) == 0);
        assert!(!goes_to_first(), "{balance}");
        cluster.report(0, |metrics| metrics.is_asleep = false);
        assert!(goes_to_first(), "{balance}: it says that it is awake");
    }
}
