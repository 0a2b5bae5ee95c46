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
