//! What holds of every body, however its texts are nested.

use super::*;

/// Any JSON, some of it of the words that the shapes of the APIs are made of.
fn value() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "user",
        "system",
        "text",
        "document",
        "tool_use",
        "tool_result",
        "function_call",
        "reasoning",
        "image_url",
        r"a\nb",
        r"\u00e9\ud83d\ude00",
        "é",
        "",
        "Jo Doe",
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
        "input",
        "source",
        "data",
        "title",
        "arguments",
        "k",
        r"t\u0065xt",
    ]);
    let leaf = prop_oneof![
        6 => word.prop_map(|word| format!("\"{word}\"")),
        1 => prop::sample::select(vec!["null", "true", "1.0", "1234567890", "[]", "{ }"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|list| format!("[ {} ]", list.join(" ,"))),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|mut members| {
                // A key twice is refused, escaped or not.
                members.sort_by_key(|(key, _)| key.replace(r"\u0065", "e"));
                members.dedup_by_key(|(key, _)| key.replace(r"\u0065", "e"));
                let member = |(key, value): &(&str, String)| format!("\"{key}\" :{value}");
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(" , "))
            }),
        ]
    })
}

/// A body of some members, each at most once.
fn body() -> impl Strategy<Value = String> {
    let names = [
        "messages",
        "input",
        "prompt",
        "system",
        "instructions",
        "tools",
        "tool_choice",
        "documents",
        "query",
        "text_2",
        "response_format",
        "novelty",
        "prediction",
    ];
    let members = names.map(|name| (Just(name), prop::option::weighted(0.4, value())));
    Vec::from(members).prop_map(|members| {
        let given = members.into_iter().filter_map(|(name, value)| Some(format!("\"{name}\":{},", value?)));
        format!("{{{}\"model\":\"m\"}}", given.collect::<String>())
    })
}

/// Every string and key of a value.
fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|one| strings(one, found)),
        Value::Object(members) => {
            for (key, value) in members {
                found.push(key.clone());
                strings(value, found);
            }
        }
        _ => {}
    }
}

/// Requests that have about every member that the tables name.
fn full_requests() -> [(Api, Value); 3] {
    let tools = json!([
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "enum": ["a"]}}},
        {"type": "custom", "custom": {"name": "g", "format": {"type": "grammar", "syntax": "lark", "definition": "start"}}},
        {"type": "mcp", "server_label": "l", "server_url": "https://example.org", "allowed_tools": ["t"]}]);
    let chat = json!({"model": "m", "user": "u", "metadata": {"k": "v"}, "stop": ["s"], "prompt_cache_key": "p", "bad_words": ["w"],
        "messages": [
            {"role": "developer", "content": "a", "name": "n"},
            {"role": "user", "content": [{"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
                {"type": "image_url", "image_url": {"url": "https://example.org", "detail": "low"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "bb"}}]},
            {"role": "assistant", "content": null, "refusal": "no", "reasoning_content": "hm", "audio": {"id": "i", "transcript": "t"},
             "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "d"}],
        "tools": tools, "tool_choice": {"type": "function", "function": {"name": "f"}}, "logit_bias": {"1": -1},
        "response_format": {"type": "json_schema", "json_schema": {"name": "o", "schema": {"const": "c"}}},
        "documents": [{"title": "t", "text": "x"}], "chat_template_kwargs": {"tone": "kind"}, "reasoning_effort": "high",
        "verbosity": "low", "modalities": ["text"], "audio": {"voice": "alloy", "format": "wav"}, "truncation": "auto",
        "prediction": {"type": "content", "content": "e"}, "service_tier": "auto", "web_search_options": {"city": "c"}});
    let messages = json!({"model": "m", "system": [{"type": "text", "text": "a"}], "metadata": {"user_id": "u"},
        "thinking": {"type": "enabled"}, "context_management": {"edits": [{"type": "clear", "instructions": "i"}]},
        "messages": [
            {"role": "user", "content": [{"type": "document", "title": "t", "context": "c", "citations": {"enabled": true},
                "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
                {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "h"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"k": "v"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "r"}]}]}],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}, "input_examples": [{"k": "v"}]}],
        "mcp_servers": [{"type": "url", "url": "u", "name": "n"}], "output_config": {"format": {"type": "json_schema"}}});
    let responses = json!({"model": "m", "instructions": "i", "reasoning": {"effort": "high", "summary": "auto"}, "include": ["x"],
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"},
                {"type": "input_file", "filename": "f", "file_data": "d"}]},
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "s"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "o"}]},
            {"type": "local_shell_call", "id": "l", "action": {"type": "exec", "command": ["ls"], "env": {"k": "v"}}},
            {"type": "mcp_list_tools", "server_label": "l", "tools": [{"name": "f", "description": "d", "input_schema": {}}]},
            {"type": "mcp_approval_response", "approval_request_id": "i", "approve": true, "reason": "r"},
            {"type": "novelty", "stuff": "s"}],
        "tools": tools, "text": {"format": {"type": "json_schema", "name": "n", "schema": {"const": "c"}}},
        "prompt": {"id": "p", "version": "1", "variables": {"k": "v", "l": {"type": "input_text", "text": "t"}}}});
    [(Api::Chat, chat), (Api::Messages, messages), (Api::Responses, responses)]
}

/// Copies of a value, each with `text` in place of another of its strings or keys.
fn with_text_at_each_place(value: &Value, text: &str) -> Vec<Value> {
    match value {
        Value::String(_) => vec![json!(text)],
        Value::Array(list) => {
            let each = list.iter().enumerate().flat_map(|(at, one)| {
                with_text_at_each_place(one, text).into_iter().map(move |changed| (at, changed))
            });
            each.map(|(at, changed)| {
                let mut list = list.clone();
                list[at] = changed;
                Value::Array(list)
            })
            .collect()
        }
        Value::Object(members) => {
            let values = members.iter().flat_map(|(key, value)| {
                with_text_at_each_place(value, text).into_iter().map(move |changed| (key, changed))
            });
            let values = values.map(|(key, changed)| {
                let mut members = members.clone();
                members[key] = changed;
                Value::Object(members)
            });
            let keys = members.iter().map(|(key, value)| {
                let mut members = members.clone();
                members.remove(key);
                members.insert(text.to_owned(), value.clone());
                Value::Object(members)
            });
            values.chain(keys).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn a_text_at_any_place_of_a_request_is_a_segment_or_in_what_is_unread() {
    let text = "write to ann@example.org";
    let (mut checked, mut missed) = (0, Vec::new());
    for (api, body) in full_requests() {
        for changed in with_text_at_each_place(&body, text) {
            let body = changed.to_string();
            let Ok(request) = ChatRequest::of(api, Bytes::from(body.clone())) else { continue };
            if changed["model"] != "m" {
                continue;
            }
            let at = body.find(text).unwrap();
            let is_read = request.segments().any(|segment| segment.span().contains(&at))
                || request.unread().iter().any(|unread| unread.span.contains(&at));
            checked += 1;
            if !is_read {
                missed.push(body[at.saturating_sub(60)..at].to_owned());
            }
        }
    }
    assert_eq!(missed, [""; 0]);
    assert!(checked > 250, "{checked}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn every_segment_is_the_inside_of_a_string_and_replacing_it_changes_that_alone(
        body in body(), which in any::<prop::sample::Index>(),
        api in prop::sample::select(vec![Api::Chat, Api::Responses, Api::Messages, Api::Rerank, Api::Completions]),
    ) {
        let request = request(api, &body);
        let segments: Vec<_> = request.segments().collect();
        let mut spans: Vec<_> = segments.iter().map(super::super::Segment::span).collect();
        for segment in &segments {
            let span = segment.span();
            if segment.is_number {
                prop_assert_eq!(&body[span.clone()], segment.text());
                continue;
            }
            let quoted: String = serde_json::from_str(&body[span.start - 1..=span.end]).unwrap();
            prop_assert_eq!(&quoted, segment.text());
        }
        spans.sort_by_key(|span| span.start);
        prop_assert!(spans.windows(2).all(|pair| pair[0].end < pair[1].start));
        prop_assert!(request.unread().iter().all(|unread| unread.span.end <= body.len()));
        if segments.is_empty() {
            return Ok(());
        }
        let which = which.index(segments.len());
        let span = segments[which].span();
        let with = if segments[which].is_number { b"12" } else { b"zz" };
        let changed = splice(request.body(), &[Edit { span: span.clone(), with: with.to_vec() }]);
        prop_assert!(changed.starts_with(&body.as_bytes()[..span.start]) && changed.ends_with(&body.as_bytes()[span.end..]));
        prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&changed).is_ok());
    }

    #[test]
    fn no_string_of_an_unknown_member_is_missed(value in value()) {
        let parsed: Value = serde_json::from_str(&value).unwrap();
        let request = request(Api::Chat, &format!("{{\"model\":\"m\",\"novelty\":{value}}}"));
        let found: Vec<_> = request.segments().map(|segment| segment.text().to_owned()).collect();
        let mut expected = Vec::new();
        strings(&parsed, &mut expected);
        for text in expected.iter().filter(|text| !text.is_empty() && !super::super::rule::is_api_word(text.as_bytes())) {
            prop_assert!(found.contains(text), "{text:?} in {found:?}");
        }
    }
}
