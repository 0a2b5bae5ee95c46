//! What makes two requests ask the same: everything that matters for the answer, hashed.
//!
//! Owns which members do not matter. Refuses to know tenants and users, and how alike two texts are.

use ring::digest::{Context, SHA256};

use super::json::canonical::canonical;
use super::message::{ContentPart, InputMessage, Role, parts};
use super::message_text::MAX_TEXT;
use super::{Api, ChatRequest, json};

/// Members that change how an answer is delivered, accounted or kept, not what it says.
const IMMATERIAL: [&str; 8] = [
    "stream",
    "stream_options",
    "user",
    "metadata",
    "store",
    "safety_identifier",
    "prompt_cache_key",
    "service_tier",
];

/// What a request asks, in two depths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// SHA-256 of the API and of the body in canonical form, without the prompt's text and without what does not
    /// matter: requests with the same one differ in their prompt alone.
    pub partition: [u8; 32],
    /// SHA-256 of the partition and the prompt's texts: requests with the same one ask the same.
    pub exact: [u8; 32],
    /// Whether the prompt is one text, and not several that are answered one by one.
    pub is_one_text: bool,
    /// The prompt's text, as [`ChatRequest::prompt_text`] returns it.
    pub text: String,
}

impl ChatRequest {
    /// Says whether an answer to this request can be given again: it generates text, from text that was read
    /// whole, and the last message of a user holds no image, audio or file.
    pub fn cacheable(&self, api: Api) -> bool {
        if !api.generates_text() || self.prompt_values().next().is_some_and(last_user_message_has_media) {
            return false;
        }
        let text = self.prompt_text();
        // Of a text at the limit the end may be missing, and of one with U+FFFD it is not known what it was.
        !text.is_empty() && text.len() + 4 <= MAX_TEXT && !text.contains('\u{fffd}')
    }

    /// Hashes what the request asks; the order of keys, white space and the spelling of strings do not matter.
    pub fn fingerprint(&self, api: Api) -> Fingerprint {
        let prompt = || self.texts().prompt.into_iter().flat_map(|message| self.message_segments(message));
        let blank: Vec<_> = prompt().map(|segment| segment.span()).collect();
        // A request has been read as JSON; as bytes it is still a key of its own.
        let material = canonical(self.body(), &IMMATERIAL, &blank).unwrap_or_else(|_| self.body().to_vec());
        let partition = sha256([api.name().as_bytes(), &material]);
        let texts = prompt().map(|segment| segment.text().as_bytes());
        let exact = sha256(std::iter::once(partition.as_slice()).chain(texts));
        let text = self.prompt_text().into_owned();
        Fingerprint { partition, exact, is_one_text: blank.len() <= 1, text }
    }
}

/// Says whether the last message of a user has a part that is no text, or an image is an item of its own.
fn last_user_message_has_media(value: &[u8]) -> bool {
    let mut found = false;
    for element in json::array(value) {
        let message = InputMessage::read(element);
        if ContentPart::read(element).is_media() {
            found = true;
        } else if message.role == Role::User {
            found = parts(message.content.unwrap_or_default()).any(ContentPart::is_media);
        }
    }
    found
}

/// Hashes pieces with their lengths, so that nothing moves from one to the next.
fn sha256<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for piece in pieces {
        context.update(&(piece.len() as u64).to_le_bytes());
        context.update(piece);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn request(body: &str) -> ChatRequest {
        ChatRequest::parse(Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    fn print(body: &str) -> Fingerprint {
        request(body).fingerprint(Api::Chat)
    }

    const CHAT: &str = r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},
        {"role":"assistant","content":"b"},{"role":"user","content":[{"type":"text","text":"c"},{"type":"text","text":"d"}]}],
        "temperature":0.7,"tools":[{"type":"function","function":{"name":"f"}}],"response_format":{"type":"text"},
        "seed":1,"n":1,"max_tokens":5,"stream":true,"user":"u","metadata":{"k":"v"}}"#;

    #[test]
    fn only_the_prompt_leaves_the_partition_alone() {
        let (one, other) = (print(CHAT), print(&CHAT.replace("\"c\"", "\"x\\u0079\"")));
        assert_eq!((one.partition, &*one.text, &*other.text), (other.partition, "c\nd", "xy\nd"));
        assert_ne!(one.exact, other.exact);
        for (from, to) in [
            ("\"m\"", "\"M\""),
            ("\"s\"", "\"t\""),
            ("\"a\"", "\"z\""),
            ("\"b\"", "\"z\""),
            ("0.7", "0.70"),
            ("\"f\"", "\"g\""),
            ("\"seed\":1", "\"seed\":2"),
            ("\"n\":1", "\"n\":2"),
            ("\"max_tokens\":5", "\"max_tokens\":6"),
            ("\"type\":\"text\"}]", "\"type\":\"input_text\"}]"),
            ("\"n\":1,", ""),
            ("\"n\":1", "\"n\":1,\"top_k\":3"),
            ("{\"type\":\"text\"},", "{\"type\":\"json_object\"},"),
        ] {
            let changed = CHAT.replacen(from, to, 1);
            if changed != CHAT {
                assert_ne!(print(&changed).partition, one.partition, "{from} -> {to}");
            }
        }
        assert_ne!(request(CHAT).fingerprint(Api::Messages).partition, one.partition);
    }

    #[test]
    fn where_one_text_ends_and_the_next_begins_matters() {
        let of = |prompt: &str| {
            request(&format!(r#"{{"model":"m","prompt":{prompt}}}"#)).fingerprint(Api::Completions)
        };
        let (one, other) = (of(r#"["a\nb","c"]"#), of(r#"["a","b\nc"]"#));
        assert_eq!((one.text.as_str(), one.partition), (other.text.as_str(), other.partition));
        assert_ne!(one.exact, other.exact);
        assert!(!one.is_one_text && of(r#""a""#).is_one_text);
    }

    #[test]
    fn how_an_answer_is_delivered_does_not_matter() {
        let bare = CHAT.replace(r#","stream":true,"user":"u","metadata":{"k":"v"}"#, "");
        assert_ne!(bare, CHAT);
        assert_eq!(print(&bare), print(CHAT));
    }

    #[test]
    fn what_cannot_be_given_again_is_not_cacheable() {
        let cacheable = |rest: &str, api| request(&format!("{{\"model\":\"m\",{rest}}}")).cacheable(api);
        for api in [Api::Chat, Api::Completions, Api::Responses, Api::Messages] {
            assert!(cacheable(r#""prompt":"a""#, api));
        }
        for api in [Api::Embeddings, Api::Images, Api::CountTokens, Api::Tokenize] {
            assert!(!cacheable(r#""prompt":"a""#, api));
        }
        let text = r#"{"role":"user","content":[{"type":"text","text":"a"}]}"#;
        let image = r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"}]}"#;
        let sound = r#"{"role":"user","content":[{"type":"input_audio"}]}"#;
        let answer = r#"{"role":"assistant","content":"b"}"#;
        for (messages, expected) in [
            (vec![text], true),
            (vec![image], false),
            (vec![text, sound], false),
            (vec![text, image, answer], false),
            (vec![image, answer, text], true),
            (vec![], false),
            (vec![text, r#"{"type":"input_image"}"#], false),
        ] {
            let rest = format!("\"messages\":[{}]", messages.join(","));
            assert_eq!(cacheable(&rest, Api::Chat), expected, "{rest}");
        }
        assert!(!cacheable("\"prompt\":[1,2]", Api::Completions));
        assert!(!cacheable(r#""prompt":"\ud800""#, Api::Completions));
        assert!(!cacheable(&format!("\"prompt\":\"{}\"", "a".repeat(MAX_TEXT + 1)), Api::Completions));
    }

    /// Any JSON value without numbers that a writer could spell differently.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c\"\\\\é\n😀]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-eé\"]{1,2}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Writes a value with its keys in reverse, white space everywhere and every character escaped.
    fn awkward(value: &Value) -> String {
        let string = |text: &str| {
            let units = text.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
            format!("\"{}\"", units.collect::<String>())
        };
        match value {
            Value::String(text) => string(text),
            Value::Array(list) => {
                format!("[ {} ]", list.iter().map(awkward).collect::<Vec<_>>().join(" ,\n"))
            }
            Value::Object(members) => {
                let member =
                    |(key, value): (&String, &Value)| format!("{} :\t{}", string(key), awkward(value));
                format!("{{\n{} }}", members.iter().rev().map(member).collect::<Vec<_>>().join(" , "))
            }
            other => other.to_string(),
        }
    }

    fn body(extra: &Value, prompt: &str) -> Value {
        let mut members = Map::new();
        members.insert("model".to_owned(), json!("m"));
        members.insert("messages".to_owned(), json!([{"role": "user", "content": prompt}, extra]));
        members.insert("extra".to_owned(), extra.clone());
        Value::Object(members)
    }

    proptest! {
        #[test]
        fn spelling_never_matters_and_meaning_always_does(
            extra in value(), other in value(), prompt in "[a-zé\"\n]{1,6}", asked in "[a-zé\"\n]{1,6}",
        ) {
            let whole = body(&extra, &prompt);
            let one = print(&whole.to_string());
            prop_assert_eq!(&print(&awkward(&whole)), &one);
            let differs = print(&body(&other, &prompt).to_string());
            prop_assert_eq!(differs.partition == one.partition, extra == other);
            prop_assert_eq!(differs.exact == one.exact, extra == other);
            let asks = print(&body(&extra, &asked).to_string());
            prop_assert_eq!(asks.partition, one.partition);
            prop_assert_eq!(asks.exact == one.exact, asked == prompt);
        }
    }
}
