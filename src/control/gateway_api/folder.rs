//! Owns what would be taken of manifests without a cluster: every condition and what is not honoured, a line each.

use super::cluster::{RawObjects, Remark};
use super::conditions::{ObjectStatus, ToldCondition};
use super::kinds::ObjectKind;
use super::translate::{GatewaySettings, translate};
use super::watches::name_of;
use crate::policy::import::{ConfigDialect, PolicyObject, policies_in};
use crate::policy::{GatewayApiSpec, ObjectName, manifests};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A text of manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestText {
    /// Its name, such as a file's path.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// What a cluster is judged by.
#[derive(Debug, Clone)]
pub struct FolderSettings {
    /// The controller's settings.
    pub spec: GatewayApiSpec,
    /// The ports that clients know, each with whether it has TLS.
    pub ports: Vec<(u16, bool)>,
    /// Classes that are ours although no manifest says so.
    pub classes: Vec<String>,
}

/// What is said of manifests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderReport {
    /// A line each.
    pub lines: Vec<String>,
    /// How many of them say that something is not taken.
    pub faults: usize,
}

impl FolderReport {
    fn line(&mut self, text: String, is_fault: bool) {
        self.faults += usize::from(is_fault);
        self.lines.push(text);
    }
}

/// Says what would be taken of manifests, and what not.
pub fn judge_manifests(texts: &[ManifestText], settings: &FolderSettings) -> FolderReport {
    let mut report = FolderReport::default();
    let mut raw = RawObjects::new();
    for ManifestText { name, text } in texts {
        for PolicyObject { label, dialect } in policies_in(text) {
            let how = if dialect == ConfigDialect::RoutingObjects {
                "followed where the policy's file says `config_source: kubernetes`"
            } else {
                "mount it, and name the file as the policy"
            };
            report.line(format!("{label}: a policy ({dialect}): {how}"), false);
        }
        match manifests(text) {
            Ok(objects) => objects.into_iter().for_each(|object| add(&mut raw, object, &mut report)),
            Err(issue) => report.line(format!("{name}: not read: {issue}"), true),
        }
    }
    let classes = raw.entry(ObjectKind::GatewayClass).or_default();
    for class in &settings.classes {
        let name = ObjectName { namespace: String::new(), name: class.clone() };
        let object = json!({
            "metadata": {"name": class},
            "spec": {"controllerName": settings.spec.controller_name},
        });
        classes.insert(name, object);
    }
    let translated = translate(&raw, &GatewaySettings::of(&settings.spec, settings.ports.clone()));
    for name in raw.get(&ObjectKind::Gateway).into_iter().flatten().map(|(name, _)| name) {
        if !translated.gateways.contains(name) {
            let class = &raw[&ObjectKind::Gateway][name]["spec"]["gatewayClassName"];
            let class = class.as_str().unwrap_or_default();
            let controller = &settings.spec.controller_name;
            let text = format!(
                "Gateway {name}: not ours: no GatewayClass `{class}` here names the controller {controller}"
            );
            report.line(text, true);
        }
    }
    translated.statuses.iter().for_each(|status| tell(status, &mut report));
    let told: BTreeSet<&ObjectName> = routes_told(&translated.statuses);
    for name in raw.get(&ObjectKind::HttpRoute).into_iter().flatten().map(|(name, _)| name) {
        if !told.contains(name) {
            report.line(format!("HTTPRoute {name}: attached to none of our Gateways"), true);
        }
    }
    for Remark { kind, name, text } in &translated.remarks {
        report.line(format!("{} {name}: {text}", kind.kube().kind), false);
    }
    report
}

/// The routes that something is said of.
fn routes_told(statuses: &[ObjectStatus]) -> BTreeSet<&ObjectName> {
    let routes =
        statuses.iter().filter(|status| status.kind == ObjectKind::HttpRoute && !status.told.is_empty());
    routes.map(|status| &status.name).collect()
}

fn add(raw: &mut RawObjects, mut object: Value, report: &mut FolderReport) {
    let Some(kind) = ObjectKind::of_manifest(&object) else {
        let text = |key: &str| object[key].as_str().unwrap_or("?").to_owned();
        if ["IntelligentPool", "IntelligentRoute"].contains(&&*text("kind")) {
            // Told as a policy.
            return;
        }
        let name = object["metadata"]["name"].as_str().unwrap_or("?");
        report.line(
            format!("{} {name}: not read: nothing is taken of {}", text("kind"), text("apiVersion")),
            false,
        );
        return;
    };
    if !kind.is_cluster_wide() && object["metadata"]["namespace"].is_null() {
        object["metadata"]["namespace"] = "default".into();
    }
    if let Some(name) = name_of(&object) {
        raw.entry(kind).or_default().insert(name, object);
    }
}

fn tell(status: &ObjectStatus, report: &mut FolderReport) {
    let kind = status.kind.kube().kind;
    for ToldCondition { about, condition } in &status.told {
        let about = if about.is_empty() { String::new() } else { format!("{about}: ") };
        let is_bad = condition.is_true == (condition.kind == "PartiallyInvalid");
        let not = if condition.is_true { "" } else { "not " };
        let why = if condition.reason == condition.kind {
            String::new()
        } else {
            format!(" ({})", condition.reason)
        };
        let message =
            if condition.message.is_empty() { String::new() } else { format!(": {}", condition.message) };
        report.line(format!("{kind} {}: {about}{not}{}{why}{message}", status.name, condition.kind), is_bad);
    }
}
