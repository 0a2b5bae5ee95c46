//! What holds of every YAML that is nearly a configuration.

use super::*;

fn yaml_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("math".to_owned()),
        Just("domain".to_owned()),
        Just("true".to_owned()),
        Just("-1".to_owned()),
        Just("1e400".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("~".to_owned()),
        "[a-z$:{ /.]{0,8}".prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    let key = prop::sample::select(
        own(&["decisions.yaml", "canonical.yaml", "categories.yaml", "manifests.yaml", "stack.yaml"])
            .iter()
            .flat_map(|source| source.text.split([' ', '{', ',', '\n', '-']))
            .filter_map(|word| word.strip_suffix(':').map(str::to_owned))
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>(),
    );
    leaf.prop_recursive(6, 80, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| {
                let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", pairs.join(", "))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_yaml_makes_the_import_panic(value in yaml_value(), head in prop::sample::select(vec![
        "version: v0.3\nproviders: ", "decisions: [{rules: {}}]\nmodel_config: ", "model_config: {}\ncategories: ",
        "apiVersion: v1\nkind: HTTPRoute\nspec: ", "servingEngineSpec: ", "version: v0.1\nsignals: ",
    ])) {
        let sources = [ImportSource { name: "x".to_owned(), text: format!("{head}{value}\n") }];
        if let Ok(imported) = import(&sources) {
            assert_nothing_is_unmentioned(&sources, &imported);
        }
    }

    #[test]
    fn a_line_less_still_makes_a_policy_or_an_error(file in prop::sample::select(OWN.concat()), cut in 0usize..200) {
        let whole = own(&[file]).remove(0);
        let lines: Vec<&str> = whole.text.lines().collect();
        let cut = cut % lines.len();
        let text: Vec<&str> = lines.iter().enumerate().filter(|(at, _)| *at != cut).map(|(_, line)| *line).collect();
        let sources = [ImportSource { name: whole.name, text: text.join("\n") }];
        if let Ok(imported) = import(&sources) {
            let policy = load(&imported.policy, FilePath::new("."), &Fixed::default(), None);
            prop_assert!(policy.is_ok() || imported.dialect == ConfigDialect::Signalbox, "{}\n{}", policy.unwrap_err(), imported.policy);
        }
    }
}
