//! What each change does to bodies, and what none of them does.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::{Replacement, Role};
use super::*;

fn request(body: &str) -> ChatRequest {
    ChatRequest::parse(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

/// The body after a change.
fn after(body: &str, api: Api, change: &Change) -> String {
    let changed = request(body).changed(api, change).unwrap();
    String::from_utf8(changed.body().to_vec()).unwrap()
}

fn system(text: &str, mode: SystemMode) -> Change {
    Change::SystemPrompt { text: text.to_owned(), mode }
}

fn set(path: &[&str], json: &str) -> Change {
    Change::Set { path: path.iter().map(|&name| name.to_owned()).collect(), json: json.as_bytes().to_vec() }
}

fn remove(name: &str) -> Change {
    Change::Remove { name: name.to_owned() }
}

fn cap(name: &str, most: u64) -> Change {
    Change::Cap { name: name.to_owned(), most }
}

/// Requires that a change makes one body of another.
fn makes(api: Api, change: &Change, cases: &[(&str, &str)]) {
    for (body, expected) in cases {
        assert_eq!(after(body, api, change), *expected, "{body}");
    }
}

#[test]
fn a_chats_system_prompt_is_replaced() {
    let change = system("be \"kind\"\n", SystemMode::Replace);
    makes(
        Api::Chat,
        &change,
        &[
            (
                r#"{"messages" : [ {"role":"user","content":"a"} ],"model":"m"}"#,
                r#"{"messages" : [{"role":"system","content":"be \"kind\"\n"}, {"role":"user","content":"a"} ],"model":"m"}"#,
            ),
            (
                r#"{"model":"m","messages":[{"role":"developer","content":"x"}, {"role":"user","content":"a"},{"role":"system","content":"y"}]}"#,
                r#"{"model":"m","messages":[{"role":"developer","content":"be \"kind\"\n"},{"role":"user","content":"a"}]}"#,
            ),
            (
                r#"{"model":"m","messages":[{"role":"system","content":"x"} , {"role":"system"} ]}"#,
                r#"{"model":"m","messages":[{"role":"system","content":"be \"kind\"\n"} ]}"#,
            ),
            (
                r#"{"model":"m","messages":[]}"#,
                r#"{"model":"m","messages":[{"role":"system","content":"be \"kind\"\n"}]}"#,
            ),
            (r#"{"model":"m","messages":"x"}"#, r#"{"model":"m","messages":"x"}"#),
        ],
    );
    makes(
        Api::Chat,
        &system("", SystemMode::Replace),
        &[(
            r#"{"model":"m","messages":[{"role":"system","content":"x"},{"role":"user"}]}"#,
            r#"{"model":"m","messages":[{"role":"user"}]}"#,
        )],
    );
}

#[test]
fn a_system_prompt_is_put_before_the_clients() {
    let change = system("ours", SystemMode::Insert);
    makes(
        Api::Chat,
        &change,
        &[
            (
                r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"system","content":"th\u0065irs"}]}"#,
                r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"system","content":"ours\n\nth\u0065irs"}]}"#,
            ),
            (
                r#"{"model":"m","messages":[{"role":"system","content":[{"type":"text","text":"theirs"}]}]}"#,
                r#"{"model":"m","messages":[{"role":"system","content":[{"type":"text","text":"ours\n\ntheirs"}]}]}"#,
            ),
            (
                r#"{"model":"m","messages":[{"role":"system","content":[ ]}]}"#,
                r#"{"model":"m","messages":[{"role":"system","content":[{"type":"text","text":"ours"} ]}]}"#,
            ),
            (
                r#"{"model":"m","messages":[{"role":"system","content":null}]}"#,
                r#"{"model":"m","messages":[{"role":"system","content":"ours"}]}"#,
            ),
            (
                r#"{"model":"m","messages":[{"role":"user"}]}"#,
                r#"{"model":"m","messages":[{"role":"system","content":"ours"},{"role":"user"}]}"#,
            ),
        ],
    );
    let body = r#"{"model":"m","messages":[{"role":"user"}]}"#;
    makes(Api::Chat, &system("", SystemMode::Insert), &[(body, body)]);
}

#[test]
fn other_apis_have_their_own_place_for_a_system_prompt() {
    makes(
        Api::Responses,
        &system("ours", SystemMode::Replace),
        &[
            (r#"{"model":"m","input":"a"}"#, r#"{"model":"m","input":"a","instructions":"ours"}"#),
            (
                r#"{"instructions":"x","model":"m","input":[{"role":"developer","content":"x"},{"role":"user"}]}"#,
                r#"{"instructions":"ours","model":"m","input":[{"role":"user"}]}"#,
            ),
            (
                r#"{"model":"m","instructions":null,"input":[{"role":"system"}]}"#,
                r#"{"model":"m","instructions":"ours","input":[{"role":"system"}]}"#,
            ),
        ],
    );
    makes(
        Api::Messages,
        &system("ours", SystemMode::Insert),
        &[
            (r#"{"model":"m","system":"theirs"}"#, r#"{"model":"m","system":"ours\n\ntheirs"}"#),
            (r#"{"model":"m","system":""}"#, r#"{"model":"m","system":"ours"}"#),
            (r#"{"model":"m","system":null}"#, r#"{"model":"m","system":"ours"}"#),
            (
                r#"{"model":"m","system":[{"type":"text","text":"theirs","cache_control":{}}]}"#,
                r#"{"model":"m","system":[{"type":"text","text":"ours\n\ntheirs","cache_control":{}}]}"#,
            ),
        ],
    );
    let body = r#"{"model":"m","prompt":"a"}"#;
    for mode in [SystemMode::Replace, SystemMode::Insert] {
        makes(Api::Completions, &system("ours", mode), &[(body, body)]);
    }
    makes(
        Api::Messages,
        &system("ours", SystemMode::Replace),
        &[(r#"{"model":"m","system":[{}]}"#, r#"{"model":"m","system":"ours"}"#)],
    );
}

#[test]
fn a_member_is_set_with_the_objects_on_its_way() {
    let change = set(&["chat_template_kwargs", "enable_thinking"], "false");
    makes(
        Api::Chat,
        &change,
        &[
            (r#"{"model":"m" }"#, r#"{"model":"m","chat_template_kwargs":{"enable_thinking":false} }"#),
            (
                r#"{"chat_template_kwargs":{ "enable_thinking" : true , "x":1.0 },"model":"m"}"#,
                r#"{"chat_template_kwargs":{ "enable_thinking" : false , "x":1.0 },"model":"m"}"#,
            ),
            (
                r#"{"chat_template_kwargs":{ },"model":"m"}"#,
                r#"{"chat_template_kwargs":{"enable_thinking":false },"model":"m"}"#,
            ),
            (
                r#"{"chat_template_kwargs":[1],"model":"m"}"#,
                r#"{"chat_template_kwargs":{"enable_thinking":false},"model":"m"}"#,
            ),
            (
                r#"{"model":"m","chat_template_kwargs":{"enable_th\u0069nking":true,"b":2}}"#,
                r#"{"model":"m","chat_template_kwargs":{"enable_th\u0069nking":false,"b":2}}"#,
            ),
        ],
    );
    let same = r#"{"model":"m","x":{"y":1}}"#;
    let unchanged = request(same);
    let changed = unchanged.changed(Api::Chat, &set(&["x", "y"], "1")).unwrap();
    assert_eq!(changed.body().as_ptr(), unchanged.body().as_ptr());
    makes(Api::Chat, &set(&[], "1"), &[(same, same)]);
}

#[test]
fn a_member_is_removed_with_its_comma() {
    makes(
        Api::Chat,
        &remove("x"),
        &[
            (r#"{ "x":1 , "model":"m"}"#, r#"{ "model":"m"}"#),
            (r#"{"model":"m" , "x":[1,2] }"#, r#"{"model":"m" }"#),
            (r#"{"model":"m","\u0078":3, "y":4}"#, r#"{"model":"m","y":4}"#),
            (r#"{"model":"m","y":{"x":1}}"#, r#"{"model":"m","y":{"x":1}}"#),
        ],
    );
}

#[test]
fn a_number_is_lowered_and_never_raised() {
    makes(
        Api::Chat,
        &cap("n", 10),
        &[
            (r#"{"model":"m","n":11}"#, r#"{"model":"m","n":10}"#),
            (r#"{"model":"m","n":1e400}"#, r#"{"model":"m","n":10}"#),
            (r#"{"model":"m","n":99999999999999999999999}"#, r#"{"model":"m","n":10}"#),
            (r#"{"model":"m","n":10.5}"#, r#"{"model":"m","n":10}"#),
            (r#"{"model":"m","n":-1}"#, r#"{"model":"m","n":10}"#),
            (r#"{"model":"m","n":"3"}"#, r#"{"model":"m","n":10}"#),
            (r#"{"model":"m","n":null}"#, r#"{"model":"m","n":10}"#),
            (r#"{"model":"m","n":1e1}"#, r#"{"model":"m","n":1e1}"#),
            (r#"{"model":"m","n":3.0}"#, r#"{"model":"m","n":3.0}"#),
            (r#"{"model":"m"}"#, r#"{"model":"m"}"#),
        ],
    );
}

#[test]
fn tokens_are_limited_by_the_names_of_the_api() {
    let change = Change::CapTokens { most: 9 };
    makes(
        Api::Chat,
        &change,
        &[
            (r#"{"model":"m"}"#, r#"{"model":"m","max_completion_tokens":9}"#),
            (r#"{"max_tokens":10,"model":"m"}"#, r#"{"max_tokens":9,"model":"m"}"#),
            (r#"{"max_tokens":3,"model":"m"}"#, r#"{"max_tokens":3,"model":"m"}"#),
            (
                r#"{"max_tokens":null,"model":"m","max_completion_tokens":10}"#,
                r#"{"max_tokens":null,"model":"m","max_completion_tokens":9}"#,
            ),
            (r#"{"max_completion_tokens":null,"model":"m"}"#, r#"{"max_completion_tokens":9,"model":"m"}"#),
            (
                r#"{"model":"m","max_tokens":null}"#,
                r#"{"model":"m","max_tokens":null,"max_completion_tokens":9}"#,
            ),
        ],
    );
    makes(Api::Completions, &change, &[(r#"{"model":"m"}"#, r#"{"model":"m","max_tokens":9}"#)]);
    makes(Api::Messages, &change, &[(r#"{"max_tokens":70,"model":"m"}"#, r#"{"max_tokens":9,"model":"m"}"#)]);
    makes(Api::Responses, &change, &[(r#"{"model":"m"}"#, r#"{"model":"m","max_output_tokens":9}"#)]);
    makes(Api::Embeddings, &change, &[(r#"{"model":"m"}"#, r#"{"model":"m"}"#)]);
}

#[test]
fn tools_that_are_not_kept_go_with_what_speaks_of_them() {
    let body = r#"{"tools":[ {"type":"function","function":{"name":"a"}} , {"type":"function","function":{"name":"b"}} ],"tool_choice":CHOICE,"model":"m","parallel_tool_calls":true}"#;
    let with = |choice: &str| body.replace("CHOICE", choice);
    let kept =
        |choice: &str, kept: &[usize]| after(&with(choice), Api::Chat, &Change::KeepTools(kept.to_vec()));
    let only_b = r#"{"tools":[ {"type":"function","function":{"name":"b"}} ],"tool_choice":CHOICE,"model":"m","parallel_tool_calls":true}"#;
    for choice in [
        "\"auto\"",
        "\"required\"",
        r#"{"type":"function","function":{"name":"\u0062"}}"#,
        r#"{"type":"function","name":"b"}"#,
        r#"{"type":"any"}"#,
        r#"{"type":"allowed_tools","tools":[{"type":"function","name":"b"}]}"#,
    ] {
        assert_eq!(kept(choice, &[1]), only_b.replace("CHOICE", choice));
        assert_eq!(kept(choice, &[1, 0]), with(choice));
        assert_eq!(kept(choice, &[]), r#"{"model":"m"}"#);
        assert_eq!(kept(choice, &[2]), r#"{"model":"m"}"#);
    }
    for choice in [
        r#"{"type":"function","function":{"name":"a"}}"#,
        r#"{"type":"tool","name":"a"}"#,
        r#"{"type":"web_search"}"#,
        r#"{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"function":{"name":"a"}}]}}"#,
    ] {
        assert_eq!(kept(choice, &[1]), only_b.replace("\"tool_choice\":CHOICE,", ""), "{choice}");
    }
    let none = Change::KeepTools(Vec::new());
    makes(Api::Chat, &none, &[(r#"{"functions":[{}],"model":"m"}"#, r#"{"model":"m"}"#)]);
    makes(Api::Chat, &Change::KeepTools(vec![0]), &[(r#"{"model":"m"}"#, r#"{"model":"m"}"#)]);
}

#[test]
fn tools_are_added_in_the_shape_of_the_api_and_once() {
    let tool =
        |name: &str| format!("{{\"type\":\"function\",\"function\":{{\"name\":\"{name}\"}}}}").into_bytes();
    let change = Change::AddTools(vec![tool("a"), tool("b"), tool("b")]);
    makes(
        Api::Chat,
        &change,
        &[
            (
                r#"{"model":"m"}"#,
                r#"{"model":"m","tools":[{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"b"}}]}"#,
            ),
            (
                r#"{"tools":[{"type":"function","function":{"name":"a","x":1.0}} ],"model":"m"}"#,
                r#"{"tools":[{"type":"function","function":{"name":"a","x":1.0}},{"type":"function","function":{"name":"b"}} ],"model":"m"}"#,
            ),
        ],
    );
    makes(
        Api::Messages,
        &change,
        &[(
            r#"{"tools":null,"model":"m"}"#,
            r#"{"tools":[{"name":"a","input_schema":{"type":"object"}},{"name":"b","input_schema":{"type":"object"}}],"model":"m"}"#,
        )],
    );
    let body = r#"{"model":"m"}"#;
    makes(Api::Chat, &Change::AddTools(Vec::new()), &[(body, body)]);
}

#[test]
fn usage_is_asked_for_where_a_stream_does_not_bring_it_unasked() {
    let change = Change::IncludeUsage(UsageRequest::AtTheEnd);
    let cases = [
        (
            r#"{"model":"m","stream":true}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream_options":{"a":1,"include_usage":false},"model":"m","stream":true}"#,
            r#"{"stream_options":{"a":1,"include_usage":true},"model":"m","stream":true}"#,
        ),
        (
            r#"{"stream_options":null,"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        (r#"{"model":"m","stream":false}"#, r#"{"model":"m","stream":false}"#),
    ];
    makes(Api::Chat, &change, &cases);
    makes(Api::Completions, &change, &cases);
    let body = r#"{"model":"m","stream":true}"#;
    makes(Api::Messages, &change, &[(body, body)]);
    makes(Api::Responses, &change, &[(body, body)]);
}

#[test]
fn a_change_that_leaves_no_request_is_refused() {
    let why = |change: &Change| request(r#"{"model":"m"}"#).changed(Api::Chat, change).unwrap_err();
    assert_eq!(why(&remove("model")), Rejection::MissingModel);
    assert_eq!(why(&set(&["model"], "1")), Rejection::ModelNotString);
    assert_eq!(why(&set(&["x"], "1,\"y\":2")), Rejection::Internal);
    assert_eq!(why(&Change::AddTools(vec![b"{".to_vec()])), Rejection::Internal);
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let path: Vec<&str> = std::iter::repeat_n("a", 60).collect();
    assert!(matches!(why(&set(&path, &deep)), Rejection::BadJson { .. }));
}

#[test]
fn changes_compose() {
    let body = r#"{"model":"auto","messages":[{"role":"user","content":"caf\u00e9"}],"temperature":0.70,"max_tokens":100,"stream":true}"#;
    let changes = [
        Change::Model("phi".to_owned()),
        system("hi", SystemMode::Replace),
        set(&["chat_template_kwargs", "enable_thinking"], "true"),
        cap("max_tokens", 50),
        Change::IncludeUsage(UsageRequest::AtTheEnd),
    ];
    let one_more = |request: ChatRequest, change| request.changed(Api::Chat, change).unwrap();
    let last = changes.iter().fold(request(body), one_more);
    assert_eq!(
        last.body(),
        r#"{"model":"phi","messages":[{"role":"system","content":"hi"},{"role":"user","content":"caf\u00e9"}],"temperature":0.70,"max_tokens":50,"stream":true,"chat_template_kwargs":{"enable_thinking":true},"stream_options":{"include_usage":true}}"#
    );
    assert_eq!(last.model(), "phi");
}

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
        let found = if deep { super::super::json::member(written, "k").unwrap() } else { written };
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
        let now: Vec<_> = super::super::json::array(after.member("messages").unwrap()).collect();
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
