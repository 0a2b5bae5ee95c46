//! The `identity` signal: the verified client is one of the users, in one of the groups, of one of the tenants, as far
//! as the policy names any.

use crate::classify::Unknown;
use crate::policy::{IdentitySignal, Principal};
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{RequestDetector, SignalDetector, SignalSpec};
use crate::signals::request::RequestView;
use crate::signals::value::{SignalReason, SignalValue};

impl SignalSpec for IdentitySignal {
    fn inputs(&self) -> SignalInputs {
        SignalInputs::NONE
    }

    fn detector(&self, _: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        Ok(SignalDetector::Request(Box::new(self.clone())))
    }
}

impl RequestDetector for IdentitySignal {
    fn evaluate(&self, request: &RequestView<'_>) -> Result<SignalValue, Unknown> {
        Ok(value(self, request.principal))
    }
}

fn value(signal: &IdentitySignal, principal: Option<&Principal>) -> SignalValue {
    let IdentitySignal { users, groups, tenants } = signal;
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
    use super::*;

    #[test]
    fn a_client_matches_by_user_group_and_tenant_together() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let alice =
            Principal { user: "alice".into(), groups: list(&["staff", "ops"]), tenant: Some("acme".into()) };
        let of = |principal: Option<&Principal>, users: &[&str], groups: &[&str], tenants: &[&str]| {
            let signal = IdentitySignal { users: list(users), groups: list(groups), tenants: list(tenants) };
            value(&signal, principal)
        };
        let reason = |users: &[&str], groups: &[&str], tenants: &[&str]| {
            of(Some(&alice), users, groups, tenants).reason.to_string()
        };
        assert_eq!(reason(&["alice"], &[], &[]), "known");
        assert_eq!(reason(&["bob", "alice"], &["ops"], &["acme"]), "known");
        assert_eq!(reason(&["bob"], &["ops"], &[]), "another user");
        assert_eq!(reason(&[], &["admins"], &["acme"]), "in other groups");
        assert_eq!(reason(&[], &[], &["other"]), "of another tenant");
        let unknown = of(None, &[], &["staff"], &[]);
        assert_eq!((unknown.matches, unknown.score), (false, 0.0));
        let stranger = Principal { tenant: None, ..alice.clone() };
        assert!(!of(Some(&stranger), &[], &[], &["acme"]).matches);
    }
}
