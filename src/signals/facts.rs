//! Signals that need no reading of texts: the shape of a conversation, its metadata, and who asks.

use super::value::{SignalReason, SignalValue};
use crate::openai::{ChatRequest, MessageCounts};
use crate::policy::{Feature, MetadataTest, Principal};

/// Reads a signal of how much of something a conversation holds.
pub(super) fn conversation(holds: &MessageCounts, feature: Feature, (min, max): (u64, u64)) -> SignalValue {
    let (what, count) = match feature {
        Feature::Messages => ("messages", holds.messages),
        Feature::UserMessages => ("user messages", holds.user_messages),
        Feature::AssistantMessages => ("assistant messages", holds.assistant_messages),
        Feature::SystemMessages => ("system messages", holds.system_messages),
        Feature::ToolMessages => ("tool messages", holds.tool_messages),
        Feature::ToolCalls => ("tool calls", holds.tool_calls),
        Feature::Tools => ("tools", holds.tools),
        Feature::Images => ("images", holds.images),
        Feature::Turns => ("turns", holds.turns),
    };
    let matches = (min..=max).contains(&u64::from(count));
    SignalValue::plain(matches, SignalReason::Measured { what, value: f64::from(count) })
}

/// Reads a signal of the body's `metadata`, where only strings, numbers and booleans count as values.
pub(super) fn metadata(request: &ChatRequest, key: &str, test: &MetadataTest) -> SignalValue {
    let value = request.metadata(key);
    let (matches, reason) = match (test, &value) {
        (MetadataTest::In(values), Some(value)) => {
            let is_one = values.iter().any(|known| known == value);
            (is_one, if is_one { "one of the values" } else { "another value" })
        }
        (MetadataTest::In(_), None) => (false, "absent"),
        (MetadataTest::Present, value) => (value.is_some(), presence(value.is_some())),
        (MetadataTest::Absent, value) => (value.is_none(), presence(value.is_some())),
    };
    SignalValue::plain(matches, SignalReason::Text(reason.into()))
}

fn presence(is_there: bool) -> &'static str {
    if is_there { "present" } else { "absent" }
}

/// Reads a signal of who asks: one of the users, in one of the groups, of one of the tenants, as far as there are any
/// to choose from.
pub(super) fn identity(
    principal: Option<&Principal>,
    users: &[String],
    groups: &[String],
    tenants: &[String],
) -> SignalValue {
    let Some(principal) = principal else {
        return SignalValue::plain(false, SignalReason::Text("nobody known".into()));
    };
    let reason = if !users.is_empty() && !users.contains(&principal.user) {
        "another user"
    } else if !groups.is_empty() && !principal.groups.iter().any(|group| groups.contains(group)) {
        "in other groups"
    } else if !tenants.is_empty() && !principal.tenant.as_ref().is_some_and(|tenant| tenants.contains(tenant))
    {
        "of another tenant"
    } else {
        return SignalValue::plain(true, SignalReason::Text("known".into()));
    };
    SignalValue::plain(false, SignalReason::Text(reason.into()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request(rest: &str) -> ChatRequest {
        ChatRequest::parse(Bytes::from(format!("{{\"model\":\"m\",{rest}}}"))).unwrap()
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_feature_of_the_conversation_matches_within_its_bounds() {
        let chat = request(
            r#""tools":[{}],"messages":[{"role":"user","content":"a"},
            {"role":"assistant","tool_calls":[{},{}]},{"role":"tool","content":"b"}]"#,
        );
        let holds = chat.message_counts();
        let matches = |feature, bounds| conversation(&holds, feature, bounds).matches;
        assert!(matches(Feature::ToolCalls, (2, 2)) && !matches(Feature::ToolCalls, (3, u64::MAX)));
        assert!(matches(Feature::Messages, (3, 9)) && matches(Feature::Images, (0, 0)));
        assert!(matches(Feature::Tools, (1, 1)) && matches(Feature::Turns, (1, 1)));
        let reading = conversation(&holds, Feature::ToolMessages, (1, 1));
        assert_eq!((reading.score, reading.reason.to_string().as_str()), (1.0, "tool messages 1"));
    }

    #[test]
    fn metadata_is_one_of_some_values_or_is_there_or_is_not() {
        let gold = request(r#""metadata":{"plan":"gold","n":3,"deep":{}}"#);
        let one_of = |values: &[&str]| MetadataTest::In(list(values));
        assert!(metadata(&gold, "plan", &one_of(&["silver", "gold"])).matches);
        assert!(!metadata(&gold, "plan", &one_of(&["silver"])).matches);
        assert!(metadata(&gold, "n", &one_of(&["3"])).matches);
        assert!(metadata(&gold, "plan", &MetadataTest::Present).matches);
        assert!(metadata(&gold, "deep", &MetadataTest::Absent).matches);
        let absent = metadata(&gold, "other", &one_of(&["x"]));
        assert_eq!((absent.matches, absent.reason.to_string().as_str()), (false, "absent"));
        let secret = metadata(&gold, "plan", &one_of(&["silver"])).reason.to_string();
        assert!(!secret.contains("gold"), "{secret}");
    }

    #[test]
    fn somebody_matches_by_user_group_and_tenant_together() {
        let alice =
            Principal { user: "alice".into(), groups: list(&["staff", "ops"]), tenant: Some("acme".into()) };
        let why = |users: &[&str], groups: &[&str], tenants: &[&str]| {
            identity(Some(&alice), &list(users), &list(groups), &list(tenants)).reason.to_string()
        };
        assert_eq!(why(&["alice"], &[], &[]), "known");
        assert_eq!(why(&["bob", "alice"], &["ops"], &["acme"]), "known");
        assert_eq!(why(&["bob"], &["ops"], &[]), "another user");
        assert_eq!(why(&[], &["admins"], &["acme"]), "in other groups");
        assert_eq!(why(&[], &[], &["other"]), "of another tenant");
        let nobody = identity(None, &[], &list(&["staff"]), &[]);
        assert_eq!((nobody.matches, nobody.score), (false, 0.0));
        let stranger = Principal { tenant: None, ..alice.clone() };
        assert!(!identity(Some(&stranger), &[], &[], &list(&["acme"])).matches);
    }
}
