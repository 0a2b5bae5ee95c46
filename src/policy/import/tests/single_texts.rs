//! Tests of single texts, each with what an import must not get wrong.

use super::*;

fn texts(texts: &[&str]) -> Vec<ImportSource> {
    let source =
        |(index, text): (usize, &&str)| ImportSource { name: index.to_string(), text: (*text).to_owned() };
    texts.iter().enumerate().map(source).collect()
}

/// A canonical configuration with these signals and decisions, as lists in flow style.
fn canonical(signals: &str, decisions: &str) -> String {
    format!(
        "version: v0.3\nproviders: {{defaults: {{default_model: a}}, models: [{{name: a}}, {{name: b}}]}}\n\
         routing:\n  signals: {{{signals}}}\n  decisions: [{decisions}]\n"
    )
}

fn decision_on(operator: &str, conditions: &str) -> String {
    format!(
        "{{name: d, rules: {{operator: {operator}, conditions: [{conditions}]}}, modelRefs: [{{model: b}}]}}"
    )
}

#[test]
fn a_regular_expression_among_keywords_stays_one() {
    let signals = r#"keywords: [{name: k, method: regex, operator: OR, keywords: [plain words, "\\bsk-[a-z]{3}\\b", "x|y$"]}]"#;
    let (imported, policy) =
        loaded(&texts(&[&canonical(signals, &decision_on("AND", "{type: keyword, name: k}"))]));
    assert_eq!(policy.signals.len(), 2, "{}", imported.policy);
    assert!(imported.policy.contains(r"(?i)\\bsk-[a-z]{3}\\b|(?i)x|y$$"), "{}", imported.policy);
    assert!(imported.policy.contains("plain words"), "{}", imported.policy);
    let broken = signals.replace("x|y$", "(unclosed");
    let text = canonical(&broken, &decision_on("AND", "{type: keyword, name: k}"));
    assert_eq!(import(&texts(&[&text])).unwrap().lost.len(), 1, "a rule is not weakened without a word");
    // Without the method, what looks like a pattern is what it was: a word.
    let (literal, _) = loaded(&texts(&[&canonical(
        &signals.replace("method: regex, ", ""),
        &decision_on("AND", "{type: keyword, name: k}"),
    )]));
    assert!(!literal.policy.contains("structure"), "{}", literal.policy);
}

#[test]
fn unknown_operators_are_refused() {
    for operator in ["XOR", "NAND", "xor"] {
        let signals = "keywords: [{name: k, operator: OR, keywords: [x]}]";
        let text =
            canonical(signals, &decision_on(operator, "{type: keyword, name: k}, {type: domain, name: law}"));
        let imported = import(&texts(&[&text])).unwrap();
        assert_eq!(imported.lost, [LostDecisions { recipe: None, decisions: vec!["d".to_owned()] }]);
        assert!(alone("c", &text).unwrap_err().to_string().contains("none of its decisions"));
        let rule = format!("keywords: [{{name: k, operator: {operator}, keywords: [x]}}]");
        let imported =
            import(&texts(&[&canonical(&rule, &decision_on("AND", "{type: keyword, name: k}"))])).unwrap();
        assert_eq!(imported.lost.len(), 1, "{}", imported.policy);
    }
}

#[test]
fn recipes_that_nothing_leads_to_are_lost_where_there_is_nothing_else() {
    let recipes = "recipes: [{name: fast, routing: {decisions: [{name: d, rules: {}, modelRefs: [{model: a}]}, {name: e}]}}]\n";
    let only = format!("version: v0.3\n{recipes}");
    let lost =
        LostDecisions { recipe: Some("fast".to_owned()), decisions: vec!["d".to_owned(), "e".to_owned()] };
    assert_eq!(import(&texts(&[&only])).unwrap().lost, [lost]);
    assert!(alone("c", &only).unwrap_err().to_string().contains("of the recipe `fast`: d, e"));
    let beside = canonical("", &decision_on("AND", "{type: domain, name: law}"));
    assert_eq!(import(&texts(&[&format!("{beside}{recipes}")])).unwrap().lost, []);
    let reached = format!("{only}entrypoints: [{{model_names: [quick], recipe: fast}}]\n");
    assert_eq!(import(&texts(&[&reached])).unwrap().lost, []);
}

#[test]
fn a_lora_that_is_a_model_too_and_an_address_given_twice_pass_the_check() {
    let text = "version: v0.3\nproviders: {defaults: {default_model: a}, models: [{name: a, backend_refs: \
                [{name: x, endpoint: '10.0.0.1:80', weight: 2}, {name: y, endpoint: '10.0.0.1:80', weight: 3}]}]}\n\
                routing:\n  modelCards: [{name: a, loras: [{name: sql}, {name: other}]}, {name: sql, quality_score: 0.9}]\n";
    let (imported, policy) = loaded(&texts(&[text]));
    let model = |name: &str| policy.models.iter().find(|model| model.name == name).unwrap();
    assert_eq!(model("sql").routes[0].pool, model("a").routes[0].pool, "{}", imported.policy);
    let stack = "vllm_endpoints: [{name: e, address: 10.0.0.1, port: 80, weight: 1}, {name: f, address: 10.0.0.1, port: 80, weight: 2}]\n\
                 model_config: {a: {preferred_endpoints: [e, f]}}\ndefault_model: a\ncategories: []\n";
    let (imported, policy) = loaded(&texts(&[stack]));
    assert_eq!(policy.pools[0].endpoints.len(), 1, "{}", imported.policy);
    assert_eq!(policy.pools[0].endpoints[0].weight, 3, "{}", imported.policy);
}

#[test]
fn a_config_map_is_read_as_the_files_that_it_holds() {
    let inner =
        canonical("", "{name: d, rules: {conditions: [{type: domain, name: law}]}, modelRefs: [{model: b}]}");
    let indented = inner.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n");
    let map = format!(
        "kind: Namespace\napiVersion: v1\nmetadata: {{name: n}}\n---\nkind: ConfigMap\napiVersion: v1\n\
         metadata: {{name: router}}\ndata:\n  other: text\n  config.yaml: |\n{indented}"
    );
    let (imported, policy) = loaded(&texts(&[&map]));
    assert_eq!(policy.recipes[0].decisions.len(), 1, "{}", imported.policy);
    let note = imported.notes.iter().find(|note| note.path.ends_with("default_model")).unwrap();
    assert_eq!(note.path, "ConfigMap/router data.config.yaml providers.defaults.default_model");
    assert_eq!(map.lines().nth(note.line - 1).unwrap().trim(), inner.lines().nth(1).unwrap());
}

#[test]
fn foreign_thresholds_and_counts_of_bytes_are_flagged() {
    let signals =
        "embeddings: [{name: e, threshold: 0.8, candidates: [x]}], context: [{name: c, min_tokens: 8K}]";
    let conditions = "{type: embedding, name: e}, {type: context, name: c}";
    let (imported, _) = loaded(&texts(&[&canonical(signals, &decision_on("OR", conditions))]));
    for path in ["routing.signals.embeddings[0].threshold", "routing.signals.context[0].min_tokens"] {
        let note = imported.notes.iter().find(|note| note.path == path).unwrap();
        assert_eq!(note.outcome.as_str(), "unsupported", "{note:?}");
    }
}
