//! What each change does to bodies, and what none of them does.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::{Replacement, Role};
use super::*;

mod properties;

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
