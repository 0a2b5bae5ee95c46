//! Owns vLLM Semantic Router's objects of Kubernetes: an `IntelligentPool` names the models, an `IntelligentRoute` holds the
//! signals and decisions that a configuration has otherwise. Refuses to know how these are read.

use super::draft::PolicyDraft;
use super::globals;
use super::source_node::SourceNode;
use super::yaml_writer::YamlMapping;

/// The highest price of a token that is believed to be one: a thousand for a million of them.
const HIGHEST_TOKEN_PRICE: f64 = 0.001;

/// The objects of one router.
#[derive(Default)]
pub(super) struct RoutingObjects<'a> {
    pub(super) pool: Option<SourceNode<'a>>,
    pub(super) route: Option<SourceNode<'a>>,
}

impl<'a> RoutingObjects<'a> {
    /// Adds one of the objects.
    pub(super) fn add(&mut self, object: SourceNode<'a>) {
        let is_pool = object.peek("kind") == Some("IntelligentPool");
        *(if is_pool { &mut self.pool } else { &mut self.route }) = Some(object.in_camel_case());
    }

    /// What stands for a configuration where there is none beside them.
    pub(super) fn root(&self) -> Option<SourceNode<'a>> {
        self.route.clone().or_else(|| self.pool.clone())
    }

    /// What of them holds beside a configuration: nothing where that has decisions of its own and leaves none to them.
    pub(super) fn beside(self, root: &SourceNode<'_>) -> Self {
        let routing = root.get("routing");
        let has = |node: &SourceNode<'_>, key: &str| !node.list(key).is_empty();
        let decides = has(root, "decisions")
            || has(root, "recipes")
            || has(root, "categories")
            || routing.is_some_and(|routing| has(&routing, "decisions"));
        if leaves_routing(root) || !decides {
            return self;
        }
        for object in self.pool.iter().chain(&self.route) {
            object.broken(
                "the configuration decides itself and says no `config_source: kubernetes`, so vSR reads no such objects",
                "left out",
            );
        }
        Self::default()
    }

    /// The signals and decisions.
    pub(super) fn routing(&self) -> Option<SourceNode<'a>> {
        self.route.as_ref()?.get("spec")
    }

    /// The model of requests that no decision is for.
    pub(super) fn default_model(&self) -> Option<String> {
        self.pool.as_ref()?.get("spec")?.take("default_model", "default_model")
    }

    /// Reads the models.
    pub(super) fn models(&self, draft: &mut PolicyDraft) {
        let spec = self.pool.as_ref().and_then(|pool| pool.get("spec"));
        for model in spec.map(|spec| spec.list("models")).unwrap_or_default() {
            let Some(name) = model.take("name", "models") else { continue };
            draft.model(&name);
            globals::family(&model, &name, draft);
            globals::loras(&model, &name, draft);
            price(&model, &name, draft);
        }
    }
}

/// Whether a configuration leaves models and decisions to objects of Kubernetes.
pub(super) fn leaves_routing(root: &SourceNode<'_>) -> bool {
    let router = root.at(&["global", "router"]);
    [Some(root.clone()), router]
        .into_iter()
        .flatten()
        .any(|node| node.peek("config_source") == Some("kubernetes"))
}

fn price(model: &SourceNode<'_>, name: &str, draft: &mut PolicyDraft) {
    let Some(pricing) = model.get("pricing") else { return };
    let to = format!("models.{name}.price");
    let amount = |key: &str| {
        let of_token = pricing.number(key, &to)?.max(0.0);
        // As written, not as a binary fraction: 0.000002 becomes 2.
        let of_million = (of_token * 1e12).round() / 1e6;
        if of_token > HIGHEST_TOKEN_PRICE
            && let Some(node) = pricing.get(key)
        {
            node.broken(
                &format!("a price of one token, so a million cost {of_million}"),
                "taken as it is; write what a million cost",
            );
        }
        Some(of_million.clamp(0.0, 1e6))
    };
    let mut price = YamlMapping::default();
    price.put("prompt", amount("input_token_price").unwrap_or(0.0));
    price.put("completion", amount("output_token_price").unwrap_or(0.0));
    draft.model(name).price = price;
}
