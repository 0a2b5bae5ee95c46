//! Owns which addresses objects of Kubernetes name. Pure; refuses to know how the objects were found.

use super::objects::{EndpointSlice, PoolSelection, ReadyPod, SliceEndpoint, SlicePort};
use crate::policy::PortRef;
use crate::snapshot::DiscoveredEndpoint;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// The most endpoints that one selection names; those with the highest addresses are left out.
pub(super) const MAX_ENDPOINTS: usize = 4096;

/// The endpoints of a Service's slices; without a port those of the only one.
///
/// A Service of both families has each pod twice: one family is used, IPv4 where it has endpoints.
pub(super) fn of_slices(
    slices: &BTreeMap<String, EndpointSlice>,
    port: Option<&PortRef>,
) -> BTreeSet<DiscoveredEndpoint> {
    let of_family = |family: &str| {
        let slices = slices.values().filter(|slice| slice.address_type == family);
        slices.flat_map(|slice| of_slice(slice, port)).take(MAX_ENDPOINTS).collect::<BTreeSet<_>>()
    };
    let v4 = of_family("IPv4");
    if v4.is_empty() { of_family("IPv6") } else { v4 }
}

fn of_slice(slice: &EndpointSlice, port: Option<&PortRef>) -> impl Iterator<Item = DiscoveredEndpoint> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let found = match port {
        None if ports.len() == 1 => ports.first(),
        None => None,
        Some(PortRef::Number(number)) => ports.iter().find(|port| port.port == Some(*number)),
        Some(PortRef::Name(name)) => ports.iter().find(|port| port.name.as_ref() == Some(name)),
    };
    let number = found.and_then(|port| port.port).filter(|number| *number > 0);
    let h2c = found.is_some_and(SlicePort::is_h2c);
    let addresses = slice.endpoints.iter().flatten().filter_map(SliceEndpoint::serving);
    addresses.filter_map(move |ip| Some(DiscoveredEndpoint { address: SocketAddr::new(ip, number?), h2c }))
}

/// The endpoints of pods: each pod once for each of the ports that is active there.
pub(super) fn of_pods(pods: &BTreeMap<String, ReadyPod>, ports: &[PortRef]) -> BTreeSet<DiscoveredEndpoint> {
    let of_pod = |pod: &ReadyPod| {
        let number = |port: &PortRef| match port {
            PortRef::Number(number) => Some(*number),
            PortRef::Name(name) => pod.named_ports.get(name).copied(),
        };
        let is_active = |number: &u16| pod.active_ports.as_ref().is_none_or(|active| active.contains(number));
        let numbers = ports.iter().filter_map(number).filter(|number| *number > 0).filter(is_active);
        let endpoint = |number| DiscoveredEndpoint { address: SocketAddr::new(pod.ip, number), h2c: false };
        numbers.map(endpoint).collect::<Vec<_>>()
    };
    pods.values().flat_map(of_pod).take(MAX_ENDPOINTS).collect()
}

/// The endpoints of an `InferencePool` that selects these pods.
pub(super) fn of_inference_pool(
    pool: &PoolSelection,
    pods: &BTreeMap<String, ReadyPod>,
) -> BTreeSet<DiscoveredEndpoint> {
    let ports: Vec<PortRef> = pool.ports.iter().copied().map(PortRef::Number).collect();
    let h2c = pool.h2c;
    of_pods(pods, &ports).into_iter().map(|endpoint| DiscoveredEndpoint { h2c, ..endpoint }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slices(slices: &serde_json::Value) -> BTreeMap<String, EndpointSlice> {
        let slices: Vec<EndpointSlice> = serde_json::from_value(slices.clone()).unwrap();
        slices.into_iter().enumerate().map(|(at, slice)| (at.to_string(), slice)).collect()
    }

    fn texts(endpoints: &BTreeSet<DiscoveredEndpoint>) -> Vec<String> {
        let text = |endpoint: &DiscoveredEndpoint| {
            format!("{}{}", endpoint.address, if endpoint.h2c { " h2c" } else { "" })
        };
        endpoints.iter().map(text).collect()
    }

    #[test]
    fn only_ready_endpoints_that_stay_are_taken() {
        let found = slices(
            &json!([{"addressType": "IPv4", "ports": [{"name": "http", "port": 8000}], "endpoints": [
                {"addresses": ["10.0.0.1"]},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["10.0.0.4"], "conditions": {"ready": true, "terminating": true}},
                {"addresses": ["10.0.0.5"], "conditions": {"ready": false}},
                {"addresses": []},
                {"addresses": ["not an address"]},
            ]}]),
        );
        assert_eq!(texts(&of_slices(&found, None)), ["10.0.0.1:8000", "10.0.0.2:8000"]);
    }

    #[test]
    fn a_port_is_found_by_name_and_by_number_and_alone() {
        let found = slices(
            &json!([{"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [
                {"name": "http", "port": 8000}, {"name": "grpc", "port": 9000, "appProtocol": "kubernetes.io/h2c"},
            ]}]),
        );
        let of = |port: Option<PortRef>| texts(&of_slices(&found, port.as_ref()));
        assert_eq!(of(Some(PortRef::Name("http".to_owned()))), ["10.0.0.1:8000"]);
        assert_eq!(of(Some(PortRef::Number(9000))), ["10.0.0.1:9000 h2c"]);
        assert!(of(Some(PortRef::Name("other".to_owned()))).is_empty());
        assert!(of(None).is_empty(), "which of the two is not known");
    }

    #[test]
    fn a_pod_of_both_families_is_one_endpoint() {
        let ports = json!([{"port": 80}]);
        let family = |family: &str, address: &str| json!({"addressType": family, "ports": ports, "endpoints": [{"addresses": [address]}]});
        let (v4, v6) = (family("IPv4", "10.0.0.1"), family("IPv6", "fd00::1"));
        assert_eq!(texts(&of_slices(&slices(&json!([v6, v4])), None)), ["10.0.0.1:80"]);
        assert_eq!(texts(&of_slices(&slices(&json!([v6])), None)), ["[fd00::1]:80"]);
        let name = family("FQDN", "example.com");
        assert!(of_slices(&slices(&json!([name])), None).is_empty());
    }

    #[test]
    fn a_pod_has_an_endpoint_for_each_port_that_is_active() {
        let pod = |last: u8, active: Option<&[u16]>| ReadyPod {
            ip: [10, 0, 0, last].into(),
            named_ports: BTreeMap::from([("http".to_owned(), 8000)]),
            active_ports: active.map(<[u16]>::to_vec),
        };
        let pods = BTreeMap::from([
            ("a".to_owned(), pod(1, None)),
            ("b".to_owned(), pod(2, Some(&[8001]))),
            ("c".to_owned(), pod(3, Some(&[]))),
        ]);
        let ports = [PortRef::Name("http".to_owned()), PortRef::Number(8001)];
        assert_eq!(texts(&of_pods(&pods, &ports)), ["10.0.0.1:8000", "10.0.0.1:8001", "10.0.0.2:8001"]);
        let pool = PoolSelection { labels: BTreeMap::new(), ports: vec![8001], h2c: true };
        assert_eq!(texts(&of_inference_pool(&pool, &pods)), ["10.0.0.1:8001 h2c", "10.0.0.2:8001 h2c"]);
    }
}
