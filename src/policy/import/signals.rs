//! Owns the signals of vLLM Semantic Router that read words and meaning, in every dialect: what each becomes here.
//! Refuses to know decisions.

use super::super::check::PII_KINDS;
use super::conditions::{Condition, Conditions, domain_class};
use super::draft::Draft;
use super::out::{Mapping, Out};
use super::view::View;

/// Where thresholds come from that a signal does not state itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Thresholds {
    pub(super) fact_check: Option<f64>,
    pub(super) feedback: Option<f64>,
}

/// The list under construction and what it is built of.
pub(super) struct Building<'a> {
    pub(super) draft: &'a mut Draft,
    pub(super) conditions: &'a mut Conditions,
    pub(super) thresholds: Thresholds,
}

impl Building<'_> {
    pub(super) fn add(&mut self, kind: &str, name: &str, signal: Out) -> String {
        self.conditions.add_signal(self.draft, (kind, name), signal)
    }

    pub(super) fn refuse(&mut self, kind: &str, name: &str, why: &str) {
        self.conditions.add(kind, name, Condition::Unsupported(why.to_owned()));
    }
}

/// Reads the categories or domains of a source: names that stand for classes of the domain classifier.
pub(super) fn domains(list: &[View<'_>], building: &mut Building<'_>) {
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
        building.conditions.add("domain", text, condition);
    }
}

/// Reads keyword rules; `category` where `name` is meant was shipped in one of vSR's own configurations.
pub(super) fn keywords(list: &[View<'_>], building: &mut Building<'_>) {
    for item in list {
        let Some(name) = named(item) else { continue };
        note_text(item);
        let words = item.take_list("keywords", "signals.*.keyword");
        let words: Vec<String> = words.into_iter().filter(|word| !word.trim().is_empty()).collect();
        if words.is_empty() {
            building.conditions.add("keyword", &name, Condition::Never("it has no keywords".to_owned()));
            continue;
        }
        let need =
            match item.take("operator", "signals.*.keyword").unwrap_or_default().to_uppercase().as_str() {
                "AND" => "all",
                "NOR" => "none",
                _ => "any",
            };
        let mut keyword = Mapping::default();
        keyword.put(need, words);
        if item.flag("case_sensitive", "signals.*.keyword.case_sensitive") == Some(true) {
            keyword.put("case_sensitive", true);
        }
        if let Some(edits) = edits(item) {
            keyword.put("max_edits", edits);
        }
        methods(item);
        building.add("keyword", &name, Out::of("keyword", keyword));
    }
}

fn named(item: &View<'_>) -> Option<String> {
    if let Some(name) = item.take("name", "signals") {
        return Some(name);
    }
    let alias = item.get("category")?;
    alias.broken(
        "`category` is no key of a keyword rule, so it has no name and nothing can refer to it; `name` is meant",
        "read as `name`",
    );
    alias.text().map(str::to_owned)
}

fn edits(item: &View<'_>) -> Option<u64> {
    let is_fuzzy = item.flag("fuzzy_match", "signals.*.keyword.max_edits") == Some(true)
        || item.peek("method") == Some("fuzzy");
    let threshold = item.whole("fuzzy_threshold", "signals.*.keyword.max_edits");
    if threshold.is_some_and(|edits| edits > 3)
        && let Some(view) = item.get("fuzzy_threshold")
    {
        view.broken("a count of letters this large makes everything match", "max_edits: 2, vSR's default");
    }
    is_fuzzy.then(|| threshold.filter(|edits| *edits <= 3).unwrap_or(2))
}

fn methods(item: &View<'_>) {
    if let Some(method) = item.get("method") {
        match method.text() {
            Some("bm25" | "ngram") => {
                method.unsupported("words are matched as they stand, not ranked by BM25 or n-grams");
            }
            _ => method.mapped("signals.*.keyword"),
        }
    }
    for key in ["bm25_threshold", "ngram_threshold", "ngram_arity"] {
        if let Some(view) = item.get(key) {
            view.unsupported("words are matched as they stand, not ranked by BM25 or n-grams");
        }
    }
}

/// Reads what is like example phrases: embedding rules, and preferences with examples.
pub(super) fn similar(kind: &str, list: &[View<'_>], building: &mut Building<'_>) {
    for item in list {
        let Some(name) = item.take("name", "signals") else { continue };
        note_text(item);
        let key = if item.has("candidates") { "candidates" } else { "examples" };
        if let Some(modality) = item.get("query_modality") {
            if modality.text().is_some_and(|text| text != "text") {
                modality.unsupported("only text has an embedding here");
                building.refuse(kind, &name, "it looks at images or sound");
                item.ignored("a part of a signal that is left out");
                continue;
            }
            modality.mapped("signals.*.similarity");
        }
        let to = item.take_list(key, "signals.*.similarity.to");
        let to: Vec<String> = to.into_iter().filter(|text| !text.is_empty()).collect();
        if to.is_empty() {
            building.refuse(kind, &name, "it has no examples that a text could be like");
            continue;
        }
        let mut similarity = Mapping::default();
        similarity.put("to", to);
        let aggregate = item.take("aggregation_method", "signals.*.similarity.aggregate");
        if let Some(aggregate) = aggregate.filter(|aggregate| ["mean", "any"].contains(&aggregate.as_str())) {
            similarity.put("aggregate", aggregate);
        }
        let least = item.share("threshold", "signals.*.similarity.min_score").unwrap_or(0.7);
        similarity.put("min_score", least);
        building.add(kind, &name, Out::of("similarity", similarity));
    }
}

/// Reads fact checks: `needs_fact_check` and `no_fact_check_needed`.
pub(super) fn fact_checks(list: &[View<'_>], building: &mut Building<'_>) {
    for item in list {
        let Some(name) = item.take("name", "signals.*.fact_check") else { continue };
        note_text(item);
        let mut check = Mapping::default();
        check.put("needed", name != "no_fact_check_needed");
        building.draft.checks_facts |= name != "no_fact_check_needed";
        check.maybe("min_score", building.thresholds.fact_check);
        building.add("fact_check", &name, Out::of("fact_check", check));
    }
}

/// Reads feedback, re-asking and languages.
pub(super) fn reactions(signals: &View<'_>, building: &mut Building<'_>) {
    for item in signals.list("user_feedbacks") {
        let Some(name) = item.take("name", "signals.*.feedback") else { continue };
        note_text(&item);
        if !["satisfied", "need_clarification", "wrong_answer", "want_different"].contains(&name.as_str()) {
            building.refuse("user_feedback", &name, "the feedback classifier has no such class");
            continue;
        }
        let mut feedback = Mapping::default();
        feedback.put("any", vec![name.clone()]).maybe("min_score", building.thresholds.feedback);
        building.add("user_feedback", &name, Out::of("feedback", feedback));
    }
    for item in signals.list("reasks") {
        let Some(name) = item.take("name", "signals.*.reask") else { continue };
        note_text(&item);
        let mut reask = Mapping::default();
        reask.put("min_score", item.share("threshold", "signals.*.reask.min_score").unwrap_or(0.8));
        let lookback = item.whole("lookback_turns", "signals.*.reask.lookback").unwrap_or(1);
        reask.put("lookback", lookback.clamp(1, 16));
        building.add("reask", &name, Out::of("reask", reask));
    }
    for item in signals.list("language") {
        let Some(name) = item.take("name", "signals.*.language.any") else { continue };
        note_text(&item);
        let least = item.share("threshold", "signals.*.language.min_score").filter(|least| *least > 0.0);
        let code = name.split(['-', '_']).next().unwrap_or_default().to_lowercase();
        if !(2..=3).contains(&code.len()) || !code.is_ascii() {
            building.refuse("language", &name, "languages go by their codes of two letters");
            continue;
        }
        let mut language = Mapping::default();
        language.put("any", vec![code]).maybe("min_score", least);
        building.add("language", &name, Out::of("language", language));
    }
}

/// Reads what attacks the model, and personal data.
pub(super) fn threats(signals: &View<'_>, building: &mut Building<'_>) {
    for item in signals.list("jailbreak") {
        jailbreak(&item, building);
    }
    for item in signals.list("pii") {
        let Some(name) = item.take("name", "signals") else { continue };
        note_text(&item);
        let mut pii = Mapping::default();
        let allowed = item.get("pii_types_allowed").map(|view| kinds(&view, "signals.*.pii.except"));
        pii.maybe("except", allowed.filter(|kinds| !kinds.is_empty()));
        pii.maybe("min_score", item.share("threshold", "signals.*.pii.min_score"));
        scope(&item, &mut pii);
        building.add("pii", &name, Out::of("pii", pii));
    }
}

fn jailbreak(item: &View<'_>, building: &mut Building<'_>) {
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
        let mut jailbreak = Mapping::default();
        jailbreak.maybe("min_score", threshold);
        scope(item, &mut jailbreak);
        parts.push(building.add("jailbreak", &name, Out::of("jailbreak", jailbreak)));
    }
    if method == "contrastive" || method == "hybrid" {
        if attacks.is_empty() || benign.is_empty() {
            building.refuse("jailbreak", &name, "to contrast, it needs patterns of both kinds");
            return;
        }
        // The greatest likeness to attacks less that to harmless texts: what complexity measures of hard and easy.
        let mut contrast = Mapping::default();
        contrast.put("hard", attacks).put("easy", benign).put("margin", 0.1);
        parts.push(building.add(
            "jailbreak",
            &format!("{name} by examples"),
            Out::of("complexity", contrast),
        ));
    }
    let condition = Condition::any(parts.into_iter().map(Condition::signal).collect());
    building.conditions.add("jailbreak", &name, condition);
}

fn scope(item: &View<'_>, signal: &mut Mapping) {
    if item.flag("include_history", "signals.*.scope") == Some(true) {
        signal.put("scope", "conversation");
    }
}

/// Gives the kinds of personal data of a list that are known here.
pub(super) fn kinds(view: &View<'_>, to: &str) -> Vec<String> {
    view.mapped(to);
    let (known, unknown): (Vec<_>, Vec<_>) =
        view.texts().into_iter().partition(|kind| PII_KINDS.contains(&kind.as_str()));
    if !unknown.is_empty() {
        view.unsupported(&format!("no such kind here: {}; the others are taken over", unknown.join(", ")));
    }
    known
}

/// Writes down what is for people only.
pub(super) fn note_text(item: &View<'_>) {
    if let Some(description) = item.get("description") {
        description.ignored("a description, for people");
    }
}
