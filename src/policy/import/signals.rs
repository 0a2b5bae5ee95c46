//! Owns the signals of vLLM Semantic Router that read words and meaning, in every dialect: what each becomes here.
//! Refuses to know decisions.

use super::super::pii_kinds::known_pii_kinds;
use super::super::signal::language_named;
use super::conditions::{Condition, Conditions, domain_class};
use super::draft::PolicyDraft;
use super::source_node::SourceNode;
use super::yaml_writer::{YamlMapping, YamlValue};

/// Where thresholds come from that a signal does not state itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SignalThresholds {
    pub(super) fact_check: Option<f64>,
    pub(super) feedback: Option<f64>,
}

/// The list under construction and what it is built of.
pub(super) struct SignalBuilder<'a> {
    pub(super) draft: &'a mut PolicyDraft,
    pub(super) conditions: &'a mut Conditions,
    pub(super) thresholds: SignalThresholds,
}

impl SignalBuilder<'_> {
    pub(super) fn add(&mut self, kind: &str, name: &str, signal: YamlValue) -> String {
        self.conditions.add_signal(self.draft, kind, name, signal)
    }

    pub(super) fn refuse(&mut self, kind: &str, name: &str, why: &str) {
        self.conditions.add(kind, name, Condition::Unsupported(why.to_owned()));
    }
}

/// Reads the categories or domains of a source: names that stand for classes of the domain classifier.
pub(super) fn domains(list: &[SourceNode<'_>], builder: &mut SignalBuilder<'_>) {
    for item in list {
        let Some(name) = item.get("name") else { continue };
        name.mapped("decisions[].domains");
        note_text(item);
        let classes = item.get("mmlu_categories");
        let found: Vec<String> = match &classes {
            None => name.text().and_then(|text| domain_class(text, &name)).into_iter().collect(),
            Some(classes) => {
                classes.mapped("decisions[].domains");
                classes.texts().iter().filter_map(|class| domain_class(class, classes)).collect()
            }
        };
        let text = name.text().unwrap_or_default();
        let condition = if found.is_empty() {
            Condition::Never(format!("the domain classifier has no class for `{text}`"))
        } else {
            Condition::Domains(found)
        };
        builder.conditions.add("domain", text, condition);
    }
}

/// Reads what is like example phrases: embedding rules, and preferences with examples.
pub(super) fn similar(kind: &str, list: &[SourceNode<'_>], builder: &mut SignalBuilder<'_>) {
    for item in list {
        let Some(name) = item.take("name", "signals") else { continue };
        note_text(item);
        let key = if item.has("candidates") { "candidates" } else { "examples" };
        if let Some(modality) = item.get("query_modality") {
            if modality.text().is_some_and(|text| text != "text") {
                modality.unsupported("only text has an embedding here");
                builder.refuse(kind, &name, "it looks at images or sound");
                item.ignored("a part of a signal that is left out");
                continue;
            }
            modality.mapped("signals.*.similarity");
        }
        let to = item.take_list(key, "signals.*.similarity.to");
        let to: Vec<String> = to.into_iter().filter(|text| !text.is_empty()).collect();
        if to.is_empty() {
            builder.refuse(kind, &name, "it has no examples that a text could be like");
            continue;
        }
        let mut similarity = YamlMapping::default();
        similarity.put("to", to);
        let aggregate = item.take("aggregation_method", "signals.*.similarity.aggregate");
        if let Some(aggregate) = aggregate.filter(|aggregate| ["mean", "any"].contains(&aggregate.as_str())) {
            similarity.put("aggregate", aggregate);
        }
        let least = item.share("threshold", "signals.*.similarity.min_score");
        if least.is_some()
            && let Some(node) = item.get("threshold")
        {
            node.unsupported(
                "taken as it is, though it was chosen for another embedder: `signalbox explain` shows the scores here",
            );
        }
        similarity.put("min_score", least.unwrap_or(0.7));
        builder.add(kind, &name, YamlValue::of("similarity", similarity));
    }
}

/// Reads fact checks: `needs_fact_check` and `no_fact_check_needed`.
pub(super) fn fact_checks(list: &[SourceNode<'_>], builder: &mut SignalBuilder<'_>) {
    for item in list {
        let Some(name) = item.take("name", "signals.*.fact_check") else { continue };
        note_text(item);
        let mut check = YamlMapping::default();
        check.put("needed", name != "no_fact_check_needed");
        builder.draft.flags.checks_facts |= name != "no_fact_check_needed";
        check.maybe("min_score", builder.thresholds.fact_check);
        builder.add("fact_check", &name, YamlValue::of("fact_check", check));
    }
}

/// Reads feedback, re-asking and languages.
pub(super) fn reactions(signals: &SourceNode<'_>, builder: &mut SignalBuilder<'_>) {
    for item in signals.list("user_feedbacks") {
        let Some(name) = item.take("name", "signals.*.feedback") else { continue };
        note_text(&item);
        if !["satisfied", "need_clarification", "wrong_answer", "want_different"].contains(&name.as_str()) {
            builder.refuse("user_feedback", &name, "the feedback classifier has no such class");
            continue;
        }
        let mut feedback = YamlMapping::default();
        feedback.put("any", vec![name.clone()]).maybe("min_score", builder.thresholds.feedback);
        builder.add("user_feedback", &name, YamlValue::of("feedback", feedback));
    }
    for item in signals.list("reasks") {
        let Some(name) = item.take("name", "signals.*.reask") else { continue };
        note_text(&item);
        let mut reask = YamlMapping::default();
        reask.put("min_score", item.share("threshold", "signals.*.reask.min_score").unwrap_or(0.8));
        let lookback = item.whole("lookback_turns", "signals.*.reask.lookback").unwrap_or(1);
        reask.put("lookback", lookback.clamp(1, 16));
        builder.add("reask", &name, YamlValue::of("reask", reask));
    }
    for item in signals.list("language") {
        let Some(name) = item.take("name", "signals.*.language.any") else { continue };
        note_text(&item);
        let least = item.share("threshold", "signals.*.language.min_score").filter(|least| *least > 0.0);
        let code = name.split(['-', '_']).next().unwrap_or_default().to_lowercase();
        let Some(code) = language_named(&code) else {
            builder.refuse(
                "language",
                &name,
                "languages go by their codes of two letters, and this one cannot be detected",
            );
            continue;
        };
        let mut language = YamlMapping::default();
        language.put("any", vec![code.to_owned()]).maybe("min_score", least);
        builder.add("language", &name, YamlValue::of("language", language));
    }
}

/// Reads what attacks the model, and personal data.
pub(super) fn threats(signals: &SourceNode<'_>, builder: &mut SignalBuilder<'_>) {
    for item in signals.list("jailbreak") {
        jailbreak(&item, builder);
    }
    for item in signals.list("pii") {
        let Some(name) = item.take("name", "signals") else { continue };
        note_text(&item);
        let mut pii = YamlMapping::default();
        let allowed = item.get("pii_types_allowed").map(|node| kinds(&node, "signals.*.pii.except"));
        pii.maybe("except", allowed.filter(|kinds| !kinds.is_empty()));
        pii.maybe("min_score", item.share("threshold", "signals.*.pii.min_score"));
        scope(&item, &mut pii);
        builder.add("pii", &name, YamlValue::of("pii", pii));
    }
}

fn jailbreak(item: &SourceNode<'_>, builder: &mut SignalBuilder<'_>) {
    let Some(name) = item.take("name", "signals") else { return };
    note_text(item);
    let method = item.take("method", "signals.*.jailbreak").unwrap_or_default();
    let threshold = item.share("threshold", "signals.*.jailbreak.min_score");
    let (attacks, benign) = (
        item.take_list("jailbreak_patterns", "signals.*.complexity.hard"),
        item.take_list("benign_patterns", "signals.*.complexity.easy"),
    );
    if let Some(on_error) = item.get("on_error") {
        match on_error.text() {
            Some("block") => on_error.unsupported("per decision here: `on_unknown: match`"),
            _ => on_error.mapped("decisions[].on_unknown"),
        }
    }
    let mut parts = Vec::new();
    if method != "contrastive" {
        let mut jailbreak = YamlMapping::default();
        jailbreak.maybe("min_score", threshold);
        scope(item, &mut jailbreak);
        parts.push(builder.add("jailbreak", &name, YamlValue::of("jailbreak", jailbreak)));
    }
    if method == "contrastive" || method == "hybrid" {
        if attacks.is_empty() || benign.is_empty() {
            builder.refuse("jailbreak", &name, "to contrast, it needs patterns of both kinds");
            return;
        }
        // The greatest likeness to attacks less that to harmless texts: what complexity measures of hard and easy.
        let mut contrast = YamlMapping::default();
        contrast.put("hard", attacks).put("easy", benign).put("margin", 0.1);
        parts.push(builder.add(
            "jailbreak",
            &format!("{name} by examples"),
            YamlValue::of("complexity", contrast),
        ));
    }
    let condition = Condition::any(parts.into_iter().map(Condition::signal).collect());
    builder.conditions.add("jailbreak", &name, condition);
}

fn scope(item: &SourceNode<'_>, signal: &mut YamlMapping) {
    if item.flag("include_history", "signals.*.scope") == Some(true) {
        signal.put("scope", "conversation");
    }
}

/// Gives the kinds of personal data of a list that are known here.
pub(super) fn kinds(node: &SourceNode<'_>, to: &str) -> Vec<String> {
    node.mapped(to);
    let (known, unknown): (Vec<_>, Vec<_>) =
        node.texts().into_iter().partition(|kind| known_pii_kinds().any(|known| known == kind));
    if !unknown.is_empty() {
        node.unsupported(&format!("no such kind here: {}; the others are taken over", unknown.join(", ")));
    }
    known
}

/// Writes down what is for people only.
pub(super) fn note_text(item: &SourceNode<'_>) {
    if let Some(description) = item.get("description") {
        description.ignored("a description, for people");
    }
}
