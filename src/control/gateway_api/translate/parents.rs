//! Owns which listeners a route attaches to, and what is said of that.

use super::super::cluster::Cluster;
use super::super::conditions::{ObjectCondition, ObjectStatus, ToldCondition, WantedStatus, values};
use super::super::kinds::ObjectKind;
use super::super::objects::{AllowedRoutes, ApiObject, ObjectRef};
use super::super::route_objects::HttpRouteSpec;
use super::gateways::{GATEWAY_GROUP, ServedListener};
use super::rules::TranslatedRoute;
use super::{GatewaySettings, is_group};
use crate::http_route::{HostPattern, RouteEntry, RouteTableBuilder};
use crate::policy::ObjectName;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What becomes of a route's references to its parents.
pub(super) struct AttachedRoute {
    pub(super) status: ObjectStatus,
    /// The Gateways that it is attached to.
    pub(super) gateways: Vec<ObjectName>,
}

/// Attaches a route to the listeners of our Gateways that it names and that let it.
pub(super) fn attach(
    cluster: &Cluster<'_>,
    settings: &GatewaySettings,
    route: &ApiObject<HttpRouteSpec>,
    listeners: &mut [ServedListener],
    translated: &TranslatedRoute,
    table: &mut RouteTableBuilder,
) -> AttachedRoute {
    let mut attached: Vec<usize> = Vec::new();
    let (mut entries, mut told, mut gateways) = (Vec::new(), Vec::new(), Vec::new());
    for parent in route.spec.parent_refs.iter().filter(|parent| names_gateway(parent)) {
        let gateway = parent.object(&route.name.namespace);
        if !listeners.iter().any(|listener| listener.gateway == gateway) {
            // Another controller's, or none's.
            continue;
        }
        let found = find(cluster, route, parent, listeners);
        let accepted = match &found {
            Err(fault) => fault.clone(),
            Ok(_) if translated.is_useless => {
                ObjectCondition::fails("Accepted", "UnsupportedValue", translated.faults.join("; "))
            }
            Ok(_) => ObjectCondition::holds("Accepted", "Accepted"),
        };
        let mut conditions = vec![accepted, translated.resolved.clone()];
        if !translated.faults.is_empty() && !translated.is_useless {
            conditions.push(ObjectCondition {
                kind: "PartiallyInvalid",
                is_true: true,
                reason: "UnsupportedValue",
                message: translated.faults.join("; "),
            });
        }
        entries.push(json!({
            "parentRef": parent_value(parent),
            "controllerName": settings.controller,
            "conditions": values(&conditions, route.meta.generation),
        }));
        let about = format!("Gateway {gateway}");
        told.extend(
            conditions.into_iter().map(|condition| ToldCondition { about: about.clone(), condition }),
        );
        if let Ok(found) = found {
            gateways.push(gateway);
            attached.extend(found);
        }
    }
    attached.sort_unstable();
    attached.dedup();
    for index in attached {
        let listener = &mut listeners[index];
        listener.attached += 1;
        if listener.is_programmed() {
            add(route, listener, translated, table);
        }
    }
    let wanted = WantedStatus::Entries { list: "parents", parent: "parentRef", entries };
    let status = ObjectStatus { kind: ObjectKind::HttpRoute, name: route.name.clone(), wanted, told };
    AttachedRoute { status, gateways }
}

fn names_gateway(parent: &ObjectRef) -> bool {
    parent.kind.as_deref().unwrap_or("Gateway") == "Gateway"
        && is_group(parent.group.as_deref(), GATEWAY_GROUP, GATEWAY_GROUP)
}

/// The reference as it is written: a state names its parent in the same words.
fn parent_value(parent: &ObjectRef) -> Value {
    let mut value = Map::new();
    value.insert("group".to_owned(), GATEWAY_GROUP.into());
    value.insert("kind".to_owned(), "Gateway".into());
    value.insert("name".to_owned(), parent.name.clone().into());
    if let Some(namespace) = &parent.namespace {
        value.insert("namespace".to_owned(), namespace.clone().into());
    }
    if let Some(section) = &parent.section_name {
        value.insert("sectionName".to_owned(), section.clone().into());
    }
    if let Some(port) = parent.port {
        value.insert("port".to_owned(), port.into());
    }
    Value::Object(value)
}

/// The listeners that a reference of a route means and that take the route.
fn find(
    cluster: &Cluster<'_>,
    route: &ApiObject<HttpRouteSpec>,
    parent: &ObjectRef,
    listeners: &[ServedListener],
) -> Result<Vec<usize>, ObjectCondition> {
    let gateway = parent.object(&route.name.namespace);
    let fails = |reason, message: &str| ObjectCondition::fails("Accepted", reason, message);
    let is_meant = |listener: &ServedListener| {
        listener.gateway == gateway
            && parent.section_name.as_ref().is_none_or(|name| *name == listener.name)
            && parent.port.is_none_or(|port| port == listener.port)
    };
    let meant: Vec<usize> = (0..listeners.len()).filter(|index| is_meant(&listeners[*index])).collect();
    if meant.is_empty() {
        return Err(fails("NoMatchingParent", "the Gateway has no such listener"));
    }
    let is_allowed = |index: &usize| {
        let listener = &listeners[*index];
        listener.takes_routes()
            && allows(cluster, &listener.allowed, &route.name.namespace, &gateway.namespace)
    };
    let allowed: Vec<usize> = meant.into_iter().filter(is_allowed).collect();
    if allowed.is_empty() {
        return Err(fails("NotAllowedByListeners", "the listeners take no such route of this namespace"));
    }
    let meets = |index: &usize| !hosts(route, &listeners[*index].host).is_empty();
    let met: Vec<usize> = allowed.into_iter().filter(meets).collect();
    if met.is_empty() {
        return Err(fails("NoMatchingListenerHostname", "no listener has a host of the route"));
    }
    Ok(met)
}

fn allows(cluster: &Cluster<'_>, allowed: &AllowedRoutes, route: &str, gateway: &str) -> bool {
    match allowed.namespaces.from.as_deref().unwrap_or("Same") {
        "All" => true,
        "Same" => route == gateway,
        "Selector" => {
            let selector = allowed.namespaces.selector.as_ref();
            selector.is_some_and(|selector| selector.selects(&cluster.namespace_labels(route)))
        }
        _ => false,
    }
}

/// The hosts of a route within a listener's.
fn hosts(route: &ApiObject<HttpRouteSpec>, listener: &HostPattern) -> Vec<HostPattern> {
    if route.spec.hostnames.is_empty() {
        return vec![listener.clone()];
    }
    let own = route.spec.hostnames.iter().map(|host| HostPattern::of(host));
    own.filter_map(|host| host.intersection(listener)).collect()
}

fn add(
    route: &ApiObject<HttpRouteSpec>,
    listener: &ServedListener,
    translated: &TranslatedRoute,
    table: &mut RouteTableBuilder,
) {
    let mut entries = Vec::new();
    for host in hosts(route, &listener.host) {
        for (matches, rule) in &translated.rules {
            let entry = |request| RouteEntry { host: host.clone(), request, rule: Arc::clone(rule) };
            entries.extend(matches.iter().cloned().map(entry));
        }
    }
    table.add_entries(listener.port, &listener.host, entries);
}
