//! Tests of what guards do where a policy does not say.

use super::*;

#[test]
fn a_guard_that_acts_on_what_it_finds_fails_closed_unless_told_otherwise() {
    let base = "version: 1\nmodels: {m: {pools: [p]}}\npools: {p: {endpoints: [\"127.0.0.1:1\"]}}\n";
    let of = |guards: &str| {
        let policy = loaded(&format!("{base}guards: {{{guards}}}\n")).unwrap();
        let Guards { prompt, pii, secrets, answer } = policy.guards;
        let pii = pii.or(secrets).map(|guard| guard.on_unknown);
        let on_unknown = prompt.map(|guard| guard.on_unknown).or(pii);
        on_unknown.or(answer.map(|guard| guard.on_unknown)).unwrap()
    };
    for (guard, on_unknown) in [
        ("prompt: {action: block}", GuardOnUnknown::Reject),
        ("prompt: {action: route, model: m}", GuardOnUnknown::Reject),
        ("prompt: {action: report}", GuardOnUnknown::Allow),
        ("prompt: {action: block, on_unknown: allow}", GuardOnUnknown::Allow),
        ("prompt: {action: report, on_unknown: reject}", GuardOnUnknown::Reject),
        ("pii: {action: block}", GuardOnUnknown::Reject),
        ("pii: {action: mask}", GuardOnUnknown::Reject),
        ("pii: {action: report}", GuardOnUnknown::Allow),
        ("pii: {action: mask, on_unknown: allow}", GuardOnUnknown::Allow),
        ("secrets: {action: mask}", GuardOnUnknown::Reject),
        ("secrets: {action: report}", GuardOnUnknown::Allow),
        ("answer: {pii: mask}", GuardOnUnknown::Reject),
        ("answer: {jailbreak: cut}", GuardOnUnknown::Reject),
        ("answer: {words: [x]}", GuardOnUnknown::Reject),
        ("answer: {pii: cut, on_unknown: allow}", GuardOnUnknown::Allow),
    ] {
        assert_eq!(of(guard), on_unknown, "{guard}");
    }
}

#[test]
fn a_guard_waits_no_shorter_than_routing() {
    let base = "version: 1\nmodels: {m: {pools: [p]}}\npools: {p: {endpoints: [\"127.0.0.1:1\"]}}\n";
    let of = |classifier: &str| {
        let policy = loaded(&format!("{base}classifier: {{{classifier}}}\n")).unwrap();
        policy.classifier.guard_timeout.as_millis()
    };
    assert_eq!((of(""), of("guard_timeout: 900ms"), of("deadline: 30s")), (5000, 900, 30_000));
}
