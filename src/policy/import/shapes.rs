//! Owns the signals of the canonical dialect that look at a request's form: length, patterns, roles, metadata, who asks.
//! Refuses to know decisions.

use super::conditions::{Condition, Conditions};
use super::signals::{SignalBuilder, note_text};
use super::source_node::SourceNode;
use super::yaml_writer::{YamlMapping, YamlValue};

/// Characters in a word with the space after it: vSR counts density in words, a policy in 1,000 characters.
const CHARACTERS_A_WORD: f64 = 6.0;

/// Reads every signal about a request's form.
pub(super) fn shapes(signals: &SourceNode<'_>, builder: &mut SignalBuilder<'_>) {
    // Objects of Kubernetes have it under the second name.
    for item in signals.list("context").into_iter().chain(signals.list("context_rules")) {
        context(&item, builder);
    }
    for item in signals.list("structure") {
        structure(&item, builder);
    }
    for item in signals.list("conversation") {
        conversation(&item, builder);
    }
    for item in signals.list("modality") {
        modality(&item, builder);
    }
    for item in signals.list("metadata") {
        metadata(&item, builder);
    }
    for item in signals.list("role_bindings") {
        roles(&item, builder);
    }
    for item in signals.list("complexity") {
        complexity(&item, builder);
    }
}

fn context(item: &SourceNode<'_>, builder: &mut SignalBuilder<'_>) {
    let Some(name) = item.take("name", "signals") else { return };
    note_text(item);
    let bound = |key: &str| {
        let text = item.take(key, &format!("signals.*.context.{key}"))?;
        let tokens = tokens(&text);
        if let Some(node) = item.get(key) {
            match tokens {
                None => node.broken("not a number of tokens such as `32K`", "left out"),
                Some(_) => node.unsupported(
                    "vSR takes four bytes for a token; here the classifier's tokenizer counts, which differs \
                     most outside English",
                ),
            }
        }
        tokens
    };
    let (min, max) = (bound("min_tokens"), bound("max_tokens"));
    if (min.is_none() && max.is_none()) || min.zip(max).is_some_and(|(min, max)| min > max) {
        builder.refuse("context", &name, "it has no bounds between which anything lies");
        return;
    }
    let mut context = YamlMapping::default();
    context.maybe("min_tokens", min).maybe("max_tokens", max);
    builder.add("context", &name, YamlValue::of("context", context));
}

/// Reads a number of tokens such as `32K` or `1.5M`.
fn tokens(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_uppercase();
    let (number, factor) = match text.strip_suffix('K') {
        Some(number) => (number, 1e3),
        None => text.strip_suffix('M').map_or((text.as_str(), 1.0), |number| (number, 1e6)),
    };
    let number = number.trim().parse::<f64>().ok().filter(|number| (0.0..1e12).contains(number))?;
    Some((number * factor).round() as u64)
}

fn structure(item: &SourceNode<'_>, builder: &mut SignalBuilder<'_>) {
    let Some(name) = item.take("name", "signals") else { return };
    note_text(item);
    let Some(feature) = item.get("feature") else {
        builder.refuse("structure", &name, "it has no feature");
        return;
    };
    let kind = feature.take("type", "signals.*.structure").unwrap_or_default();
    let Some(source) = feature.get("source") else {
        builder.refuse("structure", &name, "its feature has no source");
        return;
    };
    let source_kind = source.take("type", "signals.*.structure").unwrap_or_default();
    if kind == "sequence" {
        sequences(&name, &source, builder);
        return;
    }
    let Some(pattern) = pattern(&source_kind, &source) else {
        source.unsupported("no pattern can be made of this source");
        builder.refuse("structure", &name, "it counts what no pattern finds");
        return;
    };
    let step = if kind == "density" { 1000.0 / CHARACTERS_A_WORD } else { 1.0 };
    let (min, max) = predicate(item.get("predicate").as_ref(), step, kind == "density");
    if kind == "density"
        && let Some(node) = item.get("predicate")
    {
        node.unsupported("vSR counts in words; as hits in 1,000 characters, at six characters a word");
    }
    let mut structure = YamlMapping::default();
    structure.put(if kind == "density" { "density" } else { "count" }, pattern);
    if kind != "exists" {
        structure.maybe("min", min).maybe("max", max);
    }
    builder.add("structure", &name, YamlValue::of("structure", structure));
}

/// Makes the regular expression that finds what a source counts.
fn pattern(kind: &str, source: &SourceNode<'_>) -> Option<String> {
    let is_sensitive = source.flag("case_sensitive", "signals.*.structure") == Some(true);
    let pattern = match kind {
        "regex" => source.take("pattern", "signals.*.structure")?,
        "keyword_set" => {
            let words = source.take_list("keywords", "signals.*.structure");
            (!words.is_empty()).then(|| of_words(&words, is_sensitive))?
        }
        "text_bytes" => {
            if let Some(node) = source.get("type") {
                node.unsupported("characters are counted instead of bytes");
            }
            "(?s).".to_owned()
        }
        _ => return None,
    };
    regex::Regex::new(&pattern).is_ok().then_some(pattern)
}

fn of_words(words: &[String], is_sensitive: bool) -> String {
    let edge = |c: Option<char>| if c.is_some_and(|c| c.is_ascii_alphanumeric()) { r"\b" } else { "" };
    let words: Vec<String> = words
        .iter()
        .map(|word| {
            format!("{}{}{}", edge(word.chars().next()), regex::escape(word), edge(word.chars().last()))
        })
        .collect();
    let flag = if is_sensitive { "" } else { "(?i)" };
    format!("{flag}(?:{})", words.join("|"))
}

fn sequences(name: &str, source: &SourceNode<'_>, builder: &mut SignalBuilder<'_>) {
    let is_sensitive = source.flag("case_sensitive", "signals.*.structure") == Some(true);
    let mut names = Vec::new();
    if let Some(list) = source.get("sequences") {
        list.mapped("signals.*.structure.sequence");
        for words in list.items() {
            let patterns: Vec<String> =
                words.texts().into_iter().map(|word| of_words(&[word], is_sensitive)).collect();
            if !patterns.is_empty() && patterns.len() <= 32 {
                let signal = YamlValue::of("structure", YamlValue::of("sequence", patterns));
                names.push(builder.add("structure", name, signal));
            }
        }
    }
    let condition = Condition::any(names.into_iter().map(Condition::signal).collect());
    builder.conditions.add("structure", name, condition);
}

/// Reads bounds; those that must be exceeded become the next whole number, unless shares are counted.
fn predicate(node: Option<&SourceNode<'_>>, step: f64, is_share: bool) -> (Option<f64>, Option<f64>) {
    let Some(node) = node else { return (None, None) };
    let next = if is_share { 0.0 } else { 1.0 };
    let bound = |key: &str, shift: f64| {
        let number = node.number(key, "signals.*.min and max")?;
        Some((number * step + shift).clamp(0.0, 1e9))
    };
    (bound("gte", 0.0).or_else(|| bound("gt", next)), bound("lte", 0.0).or_else(|| bound("lt", -next)))
}

fn conversation(item: &SourceNode<'_>, builder: &mut SignalBuilder<'_>) {
    let Some(name) = item.take("name", "signals") else { return };
    note_text(item);
    let source = item.at(&["feature", "source"]);
    let role = source.as_ref().and_then(|source| source.take("role", "signals.*.conversation.feature"));
    let kind = source.as_ref().and_then(|source| source.take("type", "signals.*.conversation.feature"));
    let how = item.get("feature").and_then(|feature| feature.take("type", "signals.*.conversation"));
    let feature = match (kind.as_deref().unwrap_or_default(), role.as_deref().unwrap_or_default()) {
        ("message", "user") => "user_messages",
        ("message", "assistant") => "assistant_messages",
        ("message", "system" | "developer") => "system_messages",
        ("message", "tool") | ("active_tool_loop", _) => "tool_messages",
        ("message", "" | "any" | "all") => "messages",
        ("tool_definition", _) => "tools",
        ("tool_call" | "assistant_tool_call", _) => "tool_calls",
        ("image_content" | "image", _) => "images",
        (kind, role) => {
            let why = format!("nothing here counts {kind} {role}");
            item.unsupported(why.trim());
            builder.refuse("conversation", &name, why.trim());
            return;
        }
    };
    let (min, max) = predicate(item.get("predicate").as_ref(), 1.0, false);
    let mut conversation = YamlMapping::default();
    conversation.put("feature", feature);
    if how.as_deref() != Some("exists") {
        conversation.maybe("min", min.map(|min| min as u64)).maybe("max", max.map(|max| max as u64));
    }
    builder.add("conversation", &name, YamlValue::of("conversation", conversation));
}

fn modality(item: &SourceNode<'_>, builder: &mut SignalBuilder<'_>) {
    let Some(name) = item.take("name", "signals.*.modality.any") else { return };
    note_text(item);
    let kind = match name.to_ascii_uppercase().as_str() {
        "AR" => "text",
        "DIFFUSION" => "image",
        "BOTH" => "both",
        _ => {
            builder.refuse("modality", &name, "it is none of AR, DIFFUSION and BOTH");
            return;
        }
    };
    let own = if kind == "both" { "wants_both".to_owned() } else { format!("wants_{kind}") };
    let own =
        builder.add("modality", &own, YamlValue::of("modality", YamlValue::of("any", vec![kind.to_owned()])));
    builder.conditions.add("modality", &name, Condition::signal(own));
}

fn metadata(item: &SourceNode<'_>, builder: &mut SignalBuilder<'_>) {
    let Some(name) = item.take("name", "signals") else { return };
    note_text(item);
    let key = item.take("key", "signals.*.metadata.key").filter(|key| !key.is_empty() && key.len() <= 128);
    let predicate = item.get("predicate");
    let values = predicate.as_ref().map(|predicate| {
        let mut values = predicate.take_list("in", "signals.*.metadata.in");
        values.extend(predicate.take("equals", "signals.*.metadata.in"));
        (values, predicate.flag("exists", "signals.*.metadata.exists"))
    });
    let mut metadata = YamlMapping::default();
    metadata.maybe("key", key.clone());
    match (key, values) {
        (Some(_), Some((values, _))) if !values.is_empty() => metadata.put("in", values),
        (Some(_), values) => metadata.put("exists", values.and_then(|(_, exists)| exists).unwrap_or(true)),
        (None, _) => {
            builder.refuse("metadata", &name, "it has no key");
            return;
        }
    };
    builder.add("metadata", &name, YamlValue::of("metadata", metadata));
}

/// Reads who has a role; a condition may name the binding or the role.
fn roles(item: &SourceNode<'_>, builder: &mut SignalBuilder<'_>) {
    let Some(name) = item.take("name", "signals") else { return };
    note_text(item);
    let role = item.take("role", "signals");
    let (mut users, mut groups) = (Vec::new(), Vec::new());
    for subject in item.list("subjects") {
        let kind = subject.take("kind", "signals.*.identity").unwrap_or_default();
        let who = subject.take("name", "signals.*.identity");
        if kind.eq_ignore_ascii_case("group") { groups.extend(who) } else { users.extend(who) }
    }
    let mut parts = Vec::new();
    for (key, list) in [("users", users), ("groups", groups)] {
        if !list.is_empty() {
            parts.push(builder.add("authz", &name, YamlValue::of("identity", YamlValue::of(key, list))));
        }
    }
    let condition = Condition::any(parts.into_iter().map(Condition::signal).collect());
    if let Some(role) = role {
        builder.conditions.add("authz", &role, condition.clone());
    }
    builder.conditions.add("authz", &name, condition);
    super::identity::need(builder.draft);
}

/// Reads hard and easy examples; a condition names the level after a colon.
fn complexity(item: &SourceNode<'_>, builder: &mut SignalBuilder<'_>) {
    let Some(name) = item.take("name", "signals") else { return };
    note_text(item);
    let margin = item.share("threshold", "signals.*.complexity.margin").unwrap_or(0.1);
    let side = |key: &str| {
        let Some(node) = item.get(key) else { return Vec::new() };
        if let Some(images) = node.get("image_candidates") {
            images.unsupported("only text has an embedding here");
        }
        node.take_list("candidates", &format!("signals.*.complexity.{key}"))
    };
    let (hard, easy) = (side("hard"), side("easy"));
    if hard.is_empty() || easy.is_empty() {
        for level in ["", ":hard", ":medium", ":easy"] {
            builder.refuse("complexity", &format!("{name}{level}"), "it needs examples of both kinds");
        }
        return;
    }
    // What gates it is read when everything that it can name is known: signals stand in any order.
    let gate = item.get("composer").map(|composer| gate(&composer, builder.conditions));
    for level in ["hard", "medium", "easy"] {
        let mut complexity = YamlMapping::default();
        complexity
            .put("hard", hard.clone())
            .put("easy", easy.clone())
            .put("margin", margin)
            .put("level", level);
        let own = format!("{name}_{level}");
        let signal = builder.add("complexity", &own, YamlValue::of("complexity", complexity));
        let mut parts = vec![Condition::signal(signal)];
        parts.extend(gate.clone());
        let condition = Condition::all(parts);
        if level == "hard" {
            builder.conditions.add("complexity", &name, condition.clone());
        }
        builder.conditions.add("complexity", &format!("{name}:{level}"), condition);
    }
}

fn gate(composer: &SourceNode<'_>, conditions: &Conditions) -> Condition {
    conditions.read(composer)
}
