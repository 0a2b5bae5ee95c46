//! Owns conditions: what is said of an object in its state, and how what is new meets what stands there.

use super::kinds::ObjectKind;
use crate::policy::ObjectName;
use serde_json::{Value, json};

/// The most characters of a condition's message.
const MAX_MESSAGE: usize = 1024;

/// One thing that is so or is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectCondition {
    pub(super) kind: &'static str,
    pub(super) is_true: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl ObjectCondition {
    pub(super) fn holds(kind: &'static str, reason: &'static str) -> Self {
        Self { kind, is_true: true, reason, message: String::new() }
    }

    pub(super) fn fails(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, is_true: false, reason, message: message.into() }
    }

    /// As the API writes it, but for the time of its last change.
    fn value(&self, generation: i64) -> Value {
        json!({
            "type": self.kind,
            "status": if self.is_true { "True" } else { "False" },
            "reason": self.reason,
            "message": self.message.chars().take(MAX_MESSAGE).collect::<String>(),
            "observedGeneration": generation,
        })
    }
}

/// As the API writes conditions.
pub(super) fn values(conditions: &[ObjectCondition], generation: i64) -> Value {
    conditions.iter().map(|condition| condition.value(generation)).collect()
}

/// The state that an object is to have, as far as it is ours.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ObjectStatus {
    pub(super) kind: ObjectKind,
    pub(super) name: ObjectName,
    pub(super) wanted: WantedStatus,
    /// What is said, for those who ask without a server.
    pub(super) told: Vec<ToldCondition>,
}

/// A condition and what it is about within its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToldCondition {
    pub(super) about: String,
    pub(super) condition: ObjectCondition,
}

/// What of a state is ours.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum WantedStatus {
    /// All of these keys.
    Keys(Value),
    /// The entries of one list that are ours: those of our controller, and those of no named controller whose parent is
    /// one of our Gateways.
    Entries {
        /// The list's key, and that of the parent in an entry.
        list: &'static str,
        parent: &'static str,
        entries: Vec<Value>,
    },
}

/// What tells whose entries are ours.
pub(super) struct EntryOwner<'a> {
    pub(super) controller: &'a str,
    /// Our Gateways.
    pub(super) gateways: &'a [ObjectName],
}

impl EntryOwner<'_> {
    fn owns(&self, entry: &Value, parent: &str, namespace: &str) -> bool {
        if let Some(controller) = entry["controllerName"].as_str() {
            return controller == self.controller;
        }
        let parent = &entry[parent];
        let namespace = parent["namespace"].as_str().unwrap_or(namespace);
        let name = parent["name"].as_str().unwrap_or_default();
        self.gateways.iter().any(|gateway| gateway.namespace == namespace && gateway.name == name)
    }
}

/// The state that is to stand in an object, from the one that stands there; nothing where that is right already. `now` is the
/// time as the API writes it.
pub(super) fn merged(
    current: &Value,
    wanted: &WantedStatus,
    owner: &EntryOwner<'_>,
    namespace: &str,
    now: &str,
) -> Option<Value> {
    let mut next = match wanted {
        WantedStatus::Keys(keys) => keys.clone(),
        WantedStatus::Entries { list, parent, entries } => {
            let known = current[list].as_array().cloned().unwrap_or_default();
            let others = known.into_iter().filter(|entry| !owner.owns(entry, parent, namespace));
            json!({ *list: others.chain(entries.iter().cloned()).collect::<Vec<_>>() })
        }
    };
    carry_times(&mut next, current, now);
    let is_right =
        next.as_object().is_some_and(|keys| keys.iter().all(|(key, value)| is_same(&current[key], value)));
    (!is_right).then_some(next)
}

/// An empty list that is not written is as good as one that is.
fn is_same(current: &Value, wanted: &Value) -> bool {
    current == wanted || (current.is_null() && wanted.as_array().is_some_and(Vec::is_empty))
}

/// Gives every condition the time when it last changed: that of the same condition where its state stays.
fn carry_times(next: &mut Value, current: &Value, now: &str) {
    match next {
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                let same = current.as_array().into_iter().flatten().find(|known| is_counterpart(known, item));
                let same = same.or_else(|| current.get(index)).unwrap_or(&Value::Null);
                carry_times(item, same, now);
            }
        }
        Value::Object(keys) if keys.contains_key("observedGeneration") => {
            let is_kept = current["type"] == keys["type"] && current["status"] == keys["status"];
            let kept = current["lastTransitionTime"].as_str().filter(|_| is_kept).unwrap_or(now).to_owned();
            keys.entry("lastTransitionTime").or_insert_with(|| kept.into());
        }
        Value::Object(keys) => {
            for (key, value) in keys {
                carry_times(value, &current[key.as_str()], now);
            }
        }
        _ => {}
    }
}

/// Whether two items of a list are about the same.
fn is_counterpart(known: &Value, item: &Value) -> bool {
    let keys = ["type", "name", "parentRef", "ancestorRef", "controllerName"];
    let mut told = keys.iter().filter(|key| item.get(**key).is_some()).peekable();
    told.peek().is_some() && told.all(|key| known.get(*key) == item.get(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: EntryOwner<'static> = EntryOwner { controller: "us", gateways: &[] };

    fn entry(controller: &str, status: bool, generation: i64) -> Value {
        let condition = if status {
            ObjectCondition::holds("Accepted", "Accepted")
        } else {
            ObjectCondition::fails("Accepted", "No", "no")
        };
        json!({"parentRef": {"name": "g"}, "controllerName": controller, "conditions": values(&[condition], generation)})
    }

    fn wanted(entries: Vec<Value>) -> WantedStatus {
        WantedStatus::Entries { list: "parents", parent: "parentRef", entries }
    }

    #[test]
    fn what_others_say_stays_and_times_change_with_what_is_said() {
        let mut theirs = entry("them", true, 1);
        theirs["conditions"][0]["lastTransitionTime"] = "t0".into();
        let current = json!({"parents": [theirs]});
        let first = merged(&current, &wanted(vec![entry("us", true, 1)]), &OWNER, "n", "t1").unwrap();
        assert_eq!(first["parents"][0], theirs);
        assert_eq!(first["parents"][1]["conditions"][0]["lastTransitionTime"], "t1");
        assert_eq!(
            merged(&first, &wanted(vec![entry("us", true, 1)]), &OWNER, "n", "t2"),
            None,
            "it is right"
        );
        let newer = merged(&first, &wanted(vec![entry("us", true, 2)]), &OWNER, "n", "t3").unwrap();
        assert_eq!(
            newer["parents"][1]["conditions"][0]["lastTransitionTime"], "t1",
            "only the generation is new"
        );
        let other = merged(&newer, &wanted(vec![entry("us", false, 2)]), &OWNER, "n", "t4").unwrap();
        assert_eq!(other["parents"][1]["conditions"][0]["lastTransitionTime"], "t4");
        let none = merged(&other, &wanted(Vec::new()), &OWNER, "n", "t5").unwrap();
        assert_eq!(none, current, "only theirs is left");
        assert_eq!(merged(&Value::Null, &wanted(Vec::new()), &OWNER, "n", "t5"), None);
    }

    #[test]
    fn an_entry_without_a_controller_is_ours_by_its_parent() {
        let gateways = [ObjectName { namespace: "n".to_owned(), name: "g".to_owned() }];
        let owner = EntryOwner { controller: "us", gateways: &gateways };
        let mut plain = entry("x", true, 1);
        plain.as_object_mut().unwrap().remove("controllerName");
        let current = json!({"parents": [plain, {"parentRef": {"name": "other"}}]});
        let left = merged(&current, &wanted(Vec::new()), &owner, "n", "t").unwrap();
        assert_eq!(left, json!({"parents": [{"parentRef": {"name": "other"}}]}));
    }
}
