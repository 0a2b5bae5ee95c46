//! Owns who clients are in an imported policy. Refuses to know where that is needed.

use super::draft::PolicyDraft;
use super::source_node::SourceNode;
use super::yaml_writer::{YamlMapping, YamlValue};

/// Has the policy believe the identity headers of this machine's own peers, until the operator names the proxy.
pub(super) fn need(draft: &mut PolicyDraft) {
    draft.identity.get_or_insert_with(|| peers(YamlMapping::default()));
}

fn peers(mut headers: YamlMapping) -> YamlMapping {
    let mut identity = YamlMapping::default();
    let local = vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()];
    identity.put("trusted_peers", local).remark(
        "vSR believed these headers from anyone. Name the networks of the proxy that authenticates clients.",
    );
    if !headers.is_empty() {
        identity.put("headers", std::mem::take(&mut headers));
    }
    identity
}

/// Reads which headers say who a client is.
pub(super) fn read(node: &SourceNode<'_>, draft: &mut PolicyDraft) {
    let Some(identity) = node.get("identity") else { return };
    let mut headers = YamlMapping::default();
    for (key, own) in
        [("user_id_header", "user"), ("user_groups_header", "groups"), ("tenant_id_header", "tenant")]
    {
        let name = identity.take(key, &format!("identity.headers.{own}"));
        if let Some(name) = name.filter(|name| http::HeaderName::from_bytes(name.as_bytes()).is_ok()) {
            headers.put(own, YamlValue::Text(name));
        }
    }
    draft.identity = Some(peers(headers));
}
