//! What holds of every body, whatever is changed in it.

use super::*;

/// The members of the top level as they are written.
fn members(request: &ChatRequest) -> Vec<(String, String)> {
    let shown =
        |span: &std::ops::Range<usize>| String::from_utf8(request.body()[span.clone()].to_vec()).unwrap();
    request.members().iter().map(|item| (shown(&item.key), shown(&item.value))).collect()
}

/// A value that a writer would spell differently.
fn value() -> impl Strategy<Value = String> {
    let values = [
        "1.10",
        "-0",
        "1e400",
        r#""\u0041\/\ud83d\ude00""#,
        "[ 1 ,2]",
        "{\t}",
        r#"{ "k" : {"k":1.0} }"#,
        "null",
        "7",
    ];
    prop::sample::select(values.to_vec()).prop_map(str::to_owned)
}

/// A body out of such members, some of a kind that changes look for.
fn body() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["x", "y", "z", "n", r"\u0078", "k", "max_tokens", "tool_choice"]);
    let space = || "[ \n\t]{0,2}";
    let member = (space(), key, space(), value(), space()).prop_map(|(a, key, b, value, c)| {
        (key.replace(r"\u0078", "x"), format!("{a}\"{key}\"{b}:{b}{value}{c}"))
    });
    (prop::collection::vec(member, 0..7), any::<prop::sample::Index>()).prop_map(|(members, at)| {
        // A key twice is refused, escaped or not.
        let mut seen = std::collections::BTreeSet::new();
        let members = members.into_iter().filter(|(key, _)| seen.insert(key.clone()));
        let mut members: Vec<String> = members.map(|(_, member)| member).collect();
        members.insert(at.index(members.len() + 1), "\"model\": \"m\"".to_owned());
        format!(" {{{}}}\n", members.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn removing_leaves_all_else_byte_for_byte(body in body()) {
        let before = request(&body);
        let after = before.changed(Api::Chat, &remove("x")).unwrap();
        let left: Vec<_> = members(&before).into_iter().filter(|(key, _)| key != "x" && key != r"\u0078").collect();
        prop_assert_eq!(members(&after), left);
        let again = after.changed(Api::Chat, &remove("x")).unwrap();
        prop_assert_eq!(again.body(), after.body());
    }

    #[test]
    fn setting_leaves_all_else_byte_for_byte(body in body(), deep in any::<bool>(), new in value()) {
        let path: &[&str] = if deep { &["x", "k"] } else { &["x"] };
        let before = request(&body);
        let after = before.changed(Api::Chat, &set(path, &new)).unwrap();
        let is_x = |key: &str| key == "x" || key == r"\u0078";
        let others = |request| members(request).into_iter().filter(|(key, _)| !is_x(key)).collect::<Vec<_>>();
        prop_assert_eq!(others(&after), others(&before));
        let set_to: Vec<_> = members(&after).into_iter().filter(|(key, _)| is_x(key)).collect();
        prop_assert_eq!(set_to.len(), 1);
        let written = after.member("x").unwrap();
        let found = if deep { crate::json::member(written, "k").unwrap() } else { written };
        prop_assert_eq!(found, new.as_bytes());
    }

    #[test]
    fn a_limit_holds_for_every_reader(body in body(), most in 0_u64..20) {
        let before = request(&body);
        let after = before.changed(Api::Chat, &cap("n", most)).unwrap();
        for ((key, old), (same, new)) in members(&before).iter().zip(members(&after)) {
            prop_assert_eq!(key, &same);
            if key == "n" {
                let number: f64 = new.parse().unwrap();
                prop_assert!((0.0..=most as f64).contains(&number) && (new == *old || new == most.to_string()));
            } else {
                prop_assert_eq!(old, &new);
            }
        }
        let limited = before.changed(Api::Chat, &Change::CapTokens { most }).unwrap();
        let set: Vec<_> = ["max_tokens", "max_completion_tokens"].iter().filter_map(|name| limited.field(name)).collect();
        prop_assert!(set.iter().any(|text| text.parse::<f64>().unwrap() <= most as f64));
    }

    #[test]
    fn any_system_prompt_comes_first_as_written(
        roles in prop::collection::vec(prop::sample::select(vec!["system", "user", "developer", "assistant"]), 0..6),
        text in ".{1,12}",
    ) {
        let messages: Vec<_> = roles.iter().map(|role| format!("{{\"role\": \"{role}\",\"content\":\"c\\u0061\"}}")).collect();
        let before = request(&format!("{{\"model\":\"m\",\"messages\":[ {} ],\"x\":1.0}}", messages.join(" ,\n")));
        let after = before.changed(Api::Chat, &system(&text, SystemMode::Replace)).unwrap();
        let kept: Vec<_> = messages.iter().filter(|message| !message.contains("system") && !message.contains("developer")).collect();
        let now: Vec<_> = crate::json::array(after.member("messages").unwrap()).collect();
        prop_assert_eq!(now.len(), kept.len() + 1);
        prop_assert!(now[1..].iter().zip(kept).all(|(now, kept)| *now == kept.as_bytes()));
        prop_assert_eq!(&*after.message_texts()[0].text, text.as_str());
        let inserted = before.changed(Api::Chat, &system(&text, SystemMode::Insert)).unwrap();
        let first = inserted.message_texts().into_iter().find(|one| one.role == Role::System).unwrap();
        let expected = if kept_all(&roles) { text.clone() } else { format!("{text}\n\nca") };
        prop_assert_eq!(first.text, expected);
    }

    #[test]
    fn any_choice_of_tools_leaves_the_others_byte_for_byte(
        names in prop::collection::vec("[a-d]", 0..6), kept in prop::collection::vec(0_usize..7, 0..6), chosen in "[a-d]",
    ) {
        let tools: Vec<_> = names.iter().map(|name| format!("{{ \"name\":\"{name}\" ,\"v\":1.0}}")).collect();
        let before = request(&format!(
            "{{\"tools\": [ {} ],\"tool_choice\":{{\"type\":\"tool\",\"name\":\"{chosen}\"}},\"model\":\"m\"}}", tools.join(" , ")
        ));
        let after = before.changed(Api::Messages, &Change::KeepTools(kept.clone())).unwrap();
        let left: Vec<_> = (0..tools.len()).filter(|index| kept.contains(index)).collect();
        let raw: Vec<_> = after.tools().map(|tool| String::from_utf8(tool.raw.to_vec()).unwrap()).collect();
        prop_assert_eq!(raw, left.iter().map(|index| tools[*index].clone()).collect::<Vec<_>>());
        prop_assert_eq!(after.member("tools").is_some(), !left.is_empty());
        let all = left.len() == tools.len() && !tools.is_empty();
        let offered = left.iter().any(|index| names[*index] == chosen);
        prop_assert_eq!(after.member("tool_choice").is_some(), all || offered);
    }
}

/// Any JSON out of the words that the shapes of the APIs are made of.
fn shape() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "user",
        "system",
        "assistant",
        "tool",
        "text",
        "function",
        "image_url",
        "tool_use",
        "tool_result",
        "function_call",
        "function_call_output",
        "allowed_tools",
        "a\\n\\ud83d",
        "",
    ]);
    let key = prop::sample::select(vec![
        "role",
        "content",
        "type",
        "text",
        "name",
        "function",
        "tools",
        "output",
        "tool_calls",
        "include_usage",
        "input_schema",
        "k",
    ]);
    let leaf = prop_oneof![
        4 => word.prop_map(|word| format!("\"{word}\"")),
        1 => prop::sample::select(vec!["null", "true", "1.0", "[]", "{ }"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|list| format!("[ {} ]", list.join(" ,"))),
            prop::collection::vec((key.clone(), inner), 0..5).prop_map(|members| {
                let member = |(key, value): &(&str, String)| format!("\"{key}\" :{value}");
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(" , "))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn no_shape_breaks_any_of_it(
        values in prop::collection::vec((prop::sample::select(vec![
            "messages", "input", "prompt", "system", "instructions", "tools", "tool_choice", "metadata",
            "stream_options", "max_tokens", "documents", "functions",
        ]), shape()), 0..6),
        api in prop::sample::select(vec![Api::Chat, Api::Completions, Api::Responses, Api::Messages, Api::Score]),
        kept in prop::collection::vec(0_usize..4, 0..3),
    ) {
        let members: Vec<_> = values.iter().map(|(name, value)| format!("\"{name}\":{value},")).collect();
        let members = members.concat();
        let Ok(request) = ChatRequest::parse(Bytes::from(format!("{{{members}\"stream\":true,\"model\":\"m\"}}"))) else {
            return Ok(());
        };
        let (facts, message_texts) = (request.message_counts(), request.message_texts());
        prop_assert_eq!(facts.tools as usize, request.tools().count());
        prop_assert!(facts.turns <= facts.user_messages);
        let prompt = message_texts.iter().find(|one| one.is_prompt).map_or("", |one| &*one.text);
        prop_assert_eq!(prompt, &*request.prompt_text());
        prop_assert_eq!(&*request.fingerprint(api).text, prompt);
        let _ = (request.cacheable(api), request.metadata("k"));
        for (segment, shown) in request.segments().enumerate() {
            let with = if shown.is_number { "0" } else { "#" };
            // Keys that stand for each other are no request any more.
            if let Ok(masked) = request.redacted(&[Replacement { segment, range: 0..usize::MAX, with }]) {
                prop_assert_eq!(masked.body().len() + shown.span().len(), request.body().len() + 1);
            }
        }
        for change in [
            system("x", SystemMode::Replace), system("x", SystemMode::Insert), set(&["tools", "k"], "1"),
            remove("tools"), cap("max_tokens", 3), Change::CapTokens { most: 3 }, Change::KeepTools(kept.clone()),
            Change::AddTools(vec![br#"{"function":{"name":"b"}}"#.to_vec()]), Change::Model("n".to_owned()),
            Change::IncludeUsage(UsageRequest::AtTheEnd),
        ] {
            // What has been changed once needs no second change.
            let once = request.changed(api, &change).unwrap();
            if change != system("x", SystemMode::Insert) && !matches!(change, Change::KeepTools(_)) {
                let twice = once.changed(api, &change).unwrap();
                let tight = |body: &Bytes| String::from_utf8_lossy(body).replace(' ', "");
                prop_assert_eq!(tight(once.body()), tight(twice.body()));
            }
        }
    }
}

/// Says whether none of the roles is the system's.
fn kept_all(roles: &[&str]) -> bool {
    roles.iter().all(|role| *role == "user" || *role == "assistant")
}
