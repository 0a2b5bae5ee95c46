//! Owns the Helm values of the vLLM production stack: its models and the Service before them. Refuses to know routes.

use super::draft::{EndpointDraft, PolicyDraft, PoolDraft, ServedNames, pool_name, variable};
use super::objects::VllmArguments;
use super::source_node::SourceNode;
use super::yaml_writer::{YamlMapping, YamlValue};

/// Reads the values of the chart.
pub(super) fn read(root: &SourceNode<'_>, draft: &mut PolicyDraft) {
    let router = root.get("routerSpec");
    let balance = router.as_ref().and_then(balance);
    let Some(engines) = root.get("servingEngineSpec") else { return };
    let port = engines.whole("servicePort", "pools.*.endpoints").unwrap_or(80);
    for item in engines.list("modelSpec") {
        let Some(name) = item.take("name", "pools") else { continue };
        let mut words = Vec::new();
        if let Some(node) = item.at(&["vllmConfig", "extraArgs"]) {
            node.mapped("models: the names that the server goes by");
            words = node.texts();
        }
        let mut served = VllmArguments::of(&words, &[]).served;
        let url = item.take("modelURL", "models.*.aliases");
        if served.is_empty() {
            served.push(url.clone().unwrap_or_else(|| name.clone()));
        }
        if let Some(count) = item.get("replicaCount") {
            count.ignored("a Service leads to every replica there is");
        }
        let pool = pool_name(&name);
        let variable = variable(&name, "ADDRESS");
        let address = format!("${{{variable}:-vllm-{name}-engine-service.default.svc.cluster.local:{port}}}");
        let mut settings = YamlMapping::default();
        settings.maybe("balance", balance.clone());
        draft.pools.entry(pool.clone()).or_insert_with(|| PoolDraft {
            endpoints: vec![EndpointDraft { address, weight: None }],
            settings,
            remarks: vec![format!(
                "The production stack's servers of `{name}`, without its router. Their Service is named after the Helm \
                 release, which is not in its values: `vllm` is taken for it. Set {variable} where it is another."
            )],
        });
        draft.serve(&pool, ServedNames { own: served, others: url.into_iter().collect(), preferred: &name });
    }
}

/// Reads how the chart's own router chooses among replicas.
fn balance(router: &SourceNode<'_>) -> Option<YamlMapping> {
    let logic = router.take("routingLogic", "pools.*.balance.strategy")?;
    let key = router.get("sessionKey");
    let mut balance = YamlMapping::default();
    match logic.as_str() {
        "session" => {
            let header = key.as_ref().and_then(SourceNode::text).unwrap_or("x-user-id");
            balance.put("strategy", "session").put("hash_on", YamlValue::of("session_key", header));
            if let Some(key) = key {
                key.mapped("pools.*.balance.hash_on.session_key");
            }
            return Some(balance);
        }
        "roundrobin" => balance.put("strategy", "round_robin"),
        "prefixaware" => balance.put("strategy", "prefix"),
        "kvaware" => balance.put("strategy", "kv_aware"),
        _ => balance.put("strategy", "least_request"),
    };
    if let Some(key) = key {
        key.broken(
            &format!("only `routingLogic: session` looks at it, not `{logic}`"),
            "left out; `balance: {strategy: session, hash_on: {session_key: ..}}` keeps sessions together",
        );
    }
    Some(balance)
}
