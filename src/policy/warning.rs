//! Owns what in a policy is right and yet may not do what its operator expects. Refuses to know how that is told.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use super::{
    AppliesTo, Decision, DecisionStrategy, GuardOnUnknown, Guards, OnUnknownSignal, Policy, PoolId, PoolSpec,
    Recipe, SignalKind, Transport,
};

/// Says what an operator should know of a policy behind these listeners.
pub fn warnings(policy: &Policy, listeners: &[SocketAddr]) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(open_credentials(policy, listeners));
    warnings.extend(clear_keys(policy));
    warnings.extend(believed_headers(policy));
    warnings.extend(open_guards(policy));
    warnings.extend(personal_answers(policy));
    warnings.extend(other_embedders(policy));
    warnings.extend(unused_pools(policy));
    warnings.extend(policy.recipes.iter().flat_map(shadowed_decisions));
    warnings
}

/// Whoever reaches a public listener without showing who it is spends the credentials behind it.
fn open_credentials(policy: &Policy, listeners: &[SocketAddr]) -> Option<String> {
    let public = listeners.iter().find(|listener| !listener.ip().to_canonical().is_loopback())?;
    let pools = names(policy.pools.iter().filter(|pool| pool.credential.is_some()));
    if pools.is_empty() || policy.identity.required {
        return None;
    }
    let word = if policy.identity.is_used() { "`identity.required`" } else { "`identity`" };
    Some(format!(
        "whoever reaches {public} spends the credential of {pools}: there is no {word}; write `identity: {{required: \
         true, keys: …}}`, or listen on 127.0.0.1"
    ))
}

/// A key that goes to another machine in clear can be read on the way.
fn clear_keys(policy: &Policy) -> Option<String> {
    let is_here = |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let pools = names(policy.pools.iter().filter(|pool| {
        let is_plain = matches!(pool.transport, Transport::Plain { .. });
        pool.credential.is_some()
            && is_plain
            && (!pool.probes.discovered.is_empty()
                || pool.endpoints.iter().any(|endpoint| !is_here(&endpoint.host)))
    }));
    (!pools.is_empty()).then(|| format!("the credential of {pools} goes over the network in clear: no `tls`"))
}

/// Headers that everyone may send say nothing of who somebody is.
fn believed_headers(policy: &Policy) -> Option<String> {
    let open = policy.identity.trusted_peers.iter().find(|network| network.prefix_len() == 0)?;
    Some(format!("`identity.trusted_peers` has {open}: everybody's identity headers are believed"))
}

/// What a guard of answers can't read passes it, where the operator has allowed that.
fn open_guards(policy: &Policy) -> Option<String> {
    let models = policy.models.iter().map(|model| (format!("models.{}", model.name), &model.guards));
    let decisions =
        policy.decisions().map(|decision| (format!("decision {}", decision.name), &decision.plugins.guards));
    let all = std::iter::once(("guards".to_owned(), &policy.guards)).chain(models).chain(decisions);
    let lets_pass = |guards: &Guards| {
        let answer = guards.answer.as_ref();
        answer.is_some_and(|guard| guard.watches() && guard.on_unknown == GuardOnUnknown::Allow)
    };
    let open: Vec<String> = all.filter(|(_, guards)| lets_pass(guards)).map(|(name, _)| name).collect();
    (!open.is_empty()).then(|| {
        format!(
            "the guard of answers in {} does not hold for what it cannot read: sound, images, other than JSON and event \
             streams, compressed, too long or judged too late; `on_unknown: reject` refuses that",
            open.join(", ")
        )
    })
}

/// Where clients' own keys go upstream, each key has cached answers of its own.
fn personal_answers(policy: &Policy) -> Option<String> {
    let caching = policy.decisions().filter(|decision| decision.plugins.cache.is_some());
    let forwards = |decision: &&super::Decision| {
        let models = decision.models.iter().map(|one| one.model).chain(decision.fallback.iter().copied());
        let mut routes = models.flat_map(|model| &policy[model].routes);
        routes.any(|route| policy[route.pool].forward_authorization)
    };
    let shared: Vec<&str> = caching.filter(forwards).map(|decision| decision.name.as_str()).collect();
    (!shared.is_empty()).then(|| {
        format!(
            "cached answers of {} are never shared: their pools get the clients' own keys (`forward_authorization`)",
            shared.join(", ")
        )
    })
}

/// A threshold means something for the embeddings alone that it was found with.
fn other_embedders(policy: &Policy) -> Vec<String> {
    let now = policy.classifier.spec.embedder();
    let made_with = policy.signals.iter().filter_map(|signal| match &signal.kind {
        SignalKind::Similarity(spec) => Some((&signal.name, spec.embedder.as_ref()?)),
        _ => None,
    });
    let others = made_with.filter(|(_, embedder)| **embedder != now);
    let told = others.map(|(name, embedder)| {
        format!("the threshold of signal {name} was found with the embeddings of {embedder}, those here are of {now}")
    });
    told.collect()
}

/// A pool that no model has is asked for its health and gets no request.
fn unused_pools(policy: &Policy) -> Option<String> {
    let routed = policy.models.iter().flat_map(|model| model.routes.iter().map(|route| route.pool));
    let prefilling = policy.pools.iter().filter_map(|pool| pool.prefill.as_ref().map(|prefill| prefill.pool));
    let used: HashSet<PoolId> = routed.chain(prefilling).collect();
    let pools = policy.pools.iter().enumerate().filter(|(id, _)| !used.contains(&PoolId(*id)));
    let unused = names(pools.map(|(_, pool)| pool));
    (!unused.is_empty()).then(|| format!("{unused} gets no requests: no model names it"))
}

/// A decision is never made where one that is tried before it holds whenever it does.
fn shadowed_decisions(recipe: &Recipe) -> Vec<String> {
    // By confidence, the better score wins whatever the order.
    if recipe.strategy != DecisionStrategy::Priority {
        return Vec::new();
    }
    let shadow_of = |(index, decision): (usize, &Decision)| {
        let before = recipe.decisions[..index].iter().find(|before| {
            (before.when.applies_to == AppliesTo::All || decision.when.applies_to == AppliesTo::Auto)
                && (decision.when.on_unknown == OnUnknownSignal::Skip
                    || decision.when.on_unknown == before.when.on_unknown)
                && decision.when.rule.implies(&before.when.rule)
        })?;
        Some(format!(
            "decision {} is never made: {} holds whenever it does, and is tried before it",
            decision.name, before.name
        ))
    };
    recipe.decisions.iter().enumerate().filter_map(shadow_of).collect()
}

fn names<'a>(pools: impl Iterator<Item = &'a PoolSpec>) -> String {
    pools.map(|pool| format!("pool `{}`", pool.name)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fixed, load};

    fn of(pool: &str, more: &str, listener: &str) -> Vec<String> {
        let text = format!(
            "version: 1\nmodels: {{m: {{pools: [p]}}}}\npools:\n  p: {{endpoints: [\"127.0.0.1:1\"]{pool}}}\n{more}"
        );
        let mut environment = Fixed::default();
        environment.vars.insert("K".to_owned(), "sk".to_owned());
        let policy = load(&text, std::path::Path::new("."), &environment, None).unwrap();
        warnings(&policy, &[listener.parse().unwrap()])
    }

    #[test]
    fn a_credential_behind_an_open_door_is_warned_of() {
        let key = ", credential: {value: {env: K}}";
        let required = "identity: {required: true, keys: [{value: {env: K}, user: u}]}\n";
        let known = "identity: {keys: [{value: {env: K}, user: u}]}\n";
        assert_eq!(of(key, "", "0.0.0.0:80").len(), 1);
        assert_eq!(of(key, known, "192.0.2.1:80").len(), 1);
        assert_eq!(of(key, "", "127.0.0.1:80"), Vec::<String>::new());
        assert_eq!(of(key, required, "[::]:80"), Vec::<String>::new());
        assert_eq!(of("", "", "0.0.0.0:80"), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_hold_is_warned_of() {
        for (more, part) in [
            ("guards: {answer: {words: [x], on_unknown: allow}}\n", "guard of answers in guards"),
            ("identity: {trusted_peers: [0.0.0.0/0]}\n", "everybody's"),
        ] {
            let warnings = of("", more, "127.0.0.1:80");
            assert!(warnings.len() == 1 && warnings[0].contains(part), "{warnings:?}");
        }
        let decisions = "virtual_models: [auto]\ndefault_model: m\ndecisions: [{name: d, model: m, plugins: {cache: {}}}]\n";
        let warnings = of(", forward_authorization: true", decisions, "127.0.0.1:80");
        assert!(warnings.len() == 1 && warnings[0].contains("never shared"), "{warnings:?}");
    }

    #[test]
    fn what_never_happens_is_warned_of() {
        let start = "virtual_models: [auto]\ndefault_model: m\nsignals: {k: {keyword: {any: [x]}}, l: {keyword: {any: [y]}}}\n";
        let warned = |decisions: &str| of("", &format!("{start}decisions: [{decisions}]\n"), "127.0.0.1:80");
        for decisions in [
            "{name: a, model: m}, {name: b, when: k, model: m}",
            "{name: b, when: k, model: m}, {name: a, model: m, priority: 1}",
            "{name: a, when: k, model: m}, {name: b, when: k, model: m}",
            "{name: a, when: {any: [k, l]}, model: m}, {name: b, when: l, model: m}",
            "{name: a, when: k, model: m}, {name: b, when: {all: [l, k]}, model: m}",
            "{name: a, domains: [law], model: m}, {name: b, domains: [law], model: m}",
        ] {
            let warnings = warned(decisions);
            assert!(warnings.len() == 1, "{decisions}: {warnings:?}");
            assert!(warnings[0].starts_with("decision b is never made: a holds"), "{warnings:?}");
        }
        for decisions in [
            "{name: a, when: k, model: m}, {name: b, model: m}",
            "{name: a, when: {all: [k, l]}, model: m}, {name: b, when: k, model: m}",
            "{name: a, when: {not: k}, model: m}, {name: b, when: k, model: m}",
            "{name: a, when: k, model: m}, {name: b, when: k, model: m, on_unknown: match}",
        ] {
            assert_eq!(warned(decisions), Vec::<String>::new(), "{decisions}");
        }
        let likeness = |embedder: &str| {
            let signal = format!(
                "signals: {{s: {{similarity: {{to: [x], min_score: 0.5, embedder: {embedder}}}}}}}\n"
            );
            of("", &signal, "127.0.0.1:80")
        };
        assert_eq!(likeness(crate::BUILTIN_EMBEDDER), Vec::<String>::new());
        let warned = likeness("hf://o/n@main");
        assert!(
            warned.len() == 1
                && warned[0].contains("signal s was found with the embeddings of hf://o/n@main"),
            "{warned:?}"
        );
        let unused = of("", "  q: {endpoints: [\"127.0.0.1:2\"]}\n", "127.0.0.1:80");
        assert_eq!(unused, ["pool `q` gets no requests: no model names it"]);
    }
}
