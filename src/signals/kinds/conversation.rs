//! The `conversation` signal: how much of something the request's list of messages holds.

use crate::classify::Unknown;
use crate::openai::MessageCounts;
use crate::policy::{ConversationSignal, Feature};
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{RequestDetector, SignalDetector, SignalSpec};
use crate::signals::request::RequestView;
use crate::signals::value::{SignalReason, SignalValue};

impl SignalSpec for ConversationSignal {
    fn inputs(&self) -> SignalInputs {
        SignalInputs::NONE
    }

    fn detector(&self, _: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        Ok(SignalDetector::Request(Box::new(self.clone())))
    }
}

impl RequestDetector for ConversationSignal {
    fn evaluate(&self, request: &RequestView<'_>) -> Result<SignalValue, Unknown> {
        Ok(value(self, request.message_counts()))
    }
}

fn value(signal: &ConversationSignal, holds: &MessageCounts) -> SignalValue {
    let (what, count) = match signal.feature {
        Feature::Messages => ("messages", holds.messages),
        Feature::UserMessages => ("user messages", holds.user_messages),
        Feature::AssistantMessages => ("assistant messages", holds.assistant_messages),
        Feature::SystemMessages => ("system messages", holds.system_messages),
        Feature::ToolMessages => ("tool messages", holds.tool_messages),
        Feature::ToolCalls => ("tool calls", holds.tool_calls),
        Feature::Tools => ("tools", holds.tools),
        Feature::Images => ("images", holds.images),
        Feature::Media => ("media", holds.media),
        Feature::Turns => ("turns", holds.turns),
    };
    let matches = (signal.min..=signal.max).contains(&u64::from(count));
    SignalValue::plain(matches, SignalReason::Measured { what, value: f64::from(count) })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::openai::ChatRequest;

    #[test]
    fn a_feature_of_the_conversation_matches_within_its_bounds() {
        let body = r#"{"model":"m","tools":[{}],"messages":[{"role":"user","content":"a"},
            {"role":"assistant","tool_calls":[{},{}]},{"role":"tool","content":"b"}]}"#;
        let holds = ChatRequest::parse(Bytes::from(body)).unwrap().message_counts();
        let of = |feature, min, max| value(&ConversationSignal { feature, min, max }, &holds);
        let matches = |feature, min, max| of(feature, min, max).matches;
        assert!(matches(Feature::ToolCalls, 2, 2) && !matches(Feature::ToolCalls, 3, u64::MAX));
        assert!(matches(Feature::Messages, 3, 9) && matches(Feature::Images, 0, 0));
        assert!(matches(Feature::Tools, 1, 1) && matches(Feature::Turns, 1, 1));
        let body = r#"{"model":"m","messages":[{"role":"user","content":[{"image_url":{"url":"data:,"}},
            {"type":"input_audio","input_audio":{}},{"video_url":{"url":"data:,"}},{"type":"file","file":{}}]}]}"#;
        let shown = ChatRequest::parse(Bytes::from(body)).unwrap().message_counts();
        assert_eq!((shown.images, shown.media), (1, 3), "with and without a type");
        let tools = of(Feature::ToolMessages, 1, 1);
        assert_eq!((tools.score, tools.reason.to_string().as_str()), (1.0, "tool messages 1"));
    }
}
