//! Owns the Helm values of the vLLM Router, whose chart deploys vLLM with a Service for each model. Refuses
//! to know routes.

use super::draft::{EndpointDraft, PolicyDraft, ServedNames, pool_name};
use super::objects::VllmArguments;
use super::source_node::SourceNode;

/// The port of every Service of the chart.
const PORT: u16 = 8000;

/// The variable of a pod that has its model's name.
const MODEL_VARIABLE: &str = "MODEL_NAME";

/// Reads the values of the chart.
pub(super) fn read(root: &SourceNode<'_>, draft: &mut PolicyDraft) {
    let namespace = root.take("namespace", "pools.*.endpoints").unwrap_or_else(|| "default".to_owned());
    for item in root.list("models") {
        let Some(service) = item.take("name", "pools.*.endpoints") else { continue };
        let Some(asked) = item.take("modelName", "models").filter(|name| !name.is_empty()) else { continue };
        let mut words = Vec::new();
        for key in ["command", "args"] {
            if let Some(node) = item.get(key) {
                node.mapped("models: the names that the server goes by");
                words.extend(node.texts());
            }
        }
        let variables = [(MODEL_VARIABLE.to_owned(), asked.clone())];
        let mut names = VllmArguments::of(&words, &variables).served;
        if names.is_empty() {
            names.push(asked.clone());
        }
        let pool = pool_name(&asked);
        let address = format!("{service}.{namespace}.svc.cluster.local:{PORT}");
        let known = draft.pools.entry(pool.clone()).or_default();
        known.endpoints.push(EndpointDraft { address, weight: None });
        draft.serve(&pool, ServedNames { own: names, others: vec![asked.clone()], preferred: &asked });
    }
}
