//! Owns the policy while it is drawn up from several sources, and its last completion: every model has a pool, every
//! name is what a policy allows. Refuses to know the sources.

use indexmap::IndexMap;

use super::out::{Mapping, Out};

/// A policy that is being drawn up.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) head: Vec<String>,
    pub(super) virtual_models: Vec<String>,
    pub(super) default_model: Option<String>,
    pub(super) strategy: Option<String>,
    pub(super) effort: Option<String>,
    pub(super) blocks: bool,
    /// Whether a decision holds answers against what their model was told.
    pub(super) detects: bool,
    /// Whether a signal tells where facts are needed.
    pub(super) checks_facts: bool,
    pub(super) classifier: Mapping,
    pub(super) identity: Option<Mapping>,
    pub(super) signals: Mapping,
    pub(super) guards: Mapping,
    pub(super) decisions: Vec<Out>,
    pub(super) recipes: Mapping,
    pub(super) cache: Mapping,
    pub(super) families: Mapping,
    pub(super) models: IndexMap<String, Model>,
    pub(super) pools: IndexMap<String, Pool>,
    pub(super) attempts: u64,
}

/// One model that is being drawn up.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) pools: Vec<String>,
    /// The model whose servers have this one as an adapter.
    pub(super) base: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) aliases: Vec<String>,
    pub(super) loras: Vec<String>,
    pub(super) family: Option<String>,
    pub(super) price: Mapping,
    pub(super) quality: Option<f64>,
    pub(super) guards: Mapping,
    pub(super) remarks: Vec<String>,
}

/// One pool that is being drawn up.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) settings: Mapping,
    pub(super) remarks: Vec<String>,
}

/// One address of a pool.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Endpoint {
    pub(super) address: String,
    pub(super) weight: Option<u64>,
}

impl Draft {
    /// Gives a model by its name, a new one where there is none.
    pub(super) fn model(&mut self, name: &str) -> &mut Model {
        self.models.entry(name.to_owned()).or_default()
    }

    /// Finds the model that has an adapter.
    pub(super) fn base_of(&self, lora: &str) -> Option<String> {
        let has = |model: &Model| model.loras.iter().any(|known| known == lora);
        self.models.iter().find(|(_, model)| has(model)).map(|(name, _)| name.clone())
    }

    /// Says how a model is told to reason, as far as that is known.
    pub(super) fn has_family(&self, model: &str) -> bool {
        self.models.get(model).is_some_and(|model| model.family.is_some())
    }

    /// Makes an adapter a model of its own, where it is to be one; a policy's default is a model.
    pub(super) fn promote(&mut self, lora: &str) -> bool {
        if self.models.contains_key(lora) {
            return false;
        }
        let Some(base) = self.base_of(lora) else { return false };
        let known = self.model(&base);
        known.loras.retain(|name| name != lora);
        let model = Model {
            pools: known.pools.clone(),
            base: Some(base.clone()),
            family: known.family.clone(),
            remarks: vec![format!("An adapter of `{base}`; a model of its own, since it is the default.")],
            ..Model::default()
        };
        self.models.insert(lora.to_owned(), model);
        true
    }

    /// Gives a signal a name that no other has, with its kind in front where need be.
    pub(super) fn signal_name(&self, kind: &str, name: &str) -> String {
        let plain = ascii(name);
        let candidates = std::iter::once(plain.clone())
            .chain(std::iter::once(format!("{kind}_{plain}")))
            .chain((2..).map(|count| format!("{kind}_{plain}_{count}")));
        candidates.into_iter().find(|name| !self.signals.has(name)).unwrap_or_default()
    }

    /// Writes the policy.
    pub(super) fn text(mut self) -> String {
        self.complete();
        let mut root = Mapping::default();
        root.put("version", 1_u64);
        if !self.virtual_models.is_empty() {
            root.put("virtual_models", std::mem::take(&mut self.virtual_models));
        }
        root.maybe("default_model", self.default_model.take());
        root.maybe("strategy", self.strategy.take());
        root.maybe("default_effort", self.effort.take());
        if self.blocks {
            root.put("block_style", "vsr").remark(
                "As vSR answers what it blocks: with status 200. `error` is the honest 400 with content_filter.",
            );
        }
        root.filled("classifier", std::mem::take(&mut self.classifier));
        root.maybe("identity", self.identity.take());
        root.filled("signals", std::mem::take(&mut self.signals));
        root.filled("guards", std::mem::take(&mut self.guards));
        if !self.decisions.is_empty() {
            root.put("decisions", std::mem::take(&mut self.decisions));
        }
        root.filled("recipes", std::mem::take(&mut self.recipes));
        root.filled("cache", std::mem::take(&mut self.cache));
        root.filled("reasoning_families", std::mem::take(&mut self.families));
        root.filled("models", self.models());
        root.filled("pools", self.pools());
        if self.attempts > 0 {
            root.put("retry", Out::of("attempts", self.attempts.clamp(1, 10)));
        }
        root.document(&self.head)
    }

    fn complete(&mut self) {
        for (name, model) in &mut self.models {
            if !model.pools.is_empty() || model.base.is_some() {
                continue;
            }
            let short = pool_name(name);
            let pool = if self.pools.contains_key(&short) { ascii(name) } else { short };
            let variable = variable(name, "ADDRESS");
            let host = dns_label(name);
            let address = format!("${{{variable}:-{host}.default.svc.cluster.local:8000}}");
            model.pools.push(pool.clone());
            self.pools.entry(pool).or_insert_with(|| Pool {
                endpoints: vec![Endpoint { address, weight: None }],
                remarks: vec![format!(
                    "Nothing given says where `{name}` is served: set {variable}, or write the address here."
                )],
                ..Pool::default()
            });
        }
        for index in 0..self.models.len() {
            let base = self.models.get_index(index).and_then(|(_, model)| model.base.clone());
            let pools = base.and_then(|base| self.models.get(&base)).map(|base| base.pools.clone());
            if let Some((_, model)) =
                self.models.get_index_mut(index).filter(|(_, model)| model.pools.is_empty())
            {
                model.pools.extend(pools.unwrap_or_default());
            }
        }
        let mut taken: Vec<String> = self.models.keys().cloned().collect();
        taken.extend(self.models.values().flat_map(|model| model.loras.iter().cloned()));
        self.virtual_models.retain(|name| !taken.contains(name));
        for index in 0..self.models.len() {
            let names: Vec<String> = taken.clone();
            if let Some((_, model)) = self.models.get_index_mut(index) {
                model.aliases.retain(|alias| !names.contains(alias));
                taken.extend(model.aliases.iter().cloned());
            }
        }
    }

    fn models(&mut self) -> Mapping {
        let mut models = Mapping::default();
        for (name, model) in std::mem::take(&mut self.models) {
            let mut out = Mapping::default();
            if !model.aliases.is_empty() {
                out.put("aliases", model.aliases);
            }
            out.put("pools", model.pools);
            out.maybe("upstream_model", model.upstream.filter(|upstream| *upstream != name));
            out.maybe("reasoning_family", model.family);
            if !model.loras.is_empty() {
                out.put("loras", model.loras);
            }
            out.filled("price", model.price);
            out.maybe("quality", model.quality);
            out.filled("guards", model.guards);
            models.put(&name, out);
            if !model.remarks.is_empty() {
                models.remark(model.remarks.join("\n"));
            }
        }
        models
    }

    fn pools(&mut self) -> Mapping {
        let mut pools = Mapping::default();
        for (name, pool) in std::mem::take(&mut self.pools) {
            let endpoint = |endpoint: Endpoint| match endpoint.weight {
                None => Out::Expanded(endpoint.address),
                Some(weight) => {
                    let mut out = Mapping::default();
                    out.put("address", Out::Expanded(endpoint.address)).put("weight", weight.min(1000));
                    Out::Map(out)
                }
            };
            let mut out = Mapping::default();
            out.put("endpoints", pool.endpoints.into_iter().map(endpoint).collect::<Vec<_>>());
            out.merge(pool.settings);
            pools.put(&name, out);
            if !pool.remarks.is_empty() {
                pools.remark(pool.remarks.join("\n"));
            }
        }
        pools
    }
}

/// Makes a name that a policy allows out of any: ASCII, no colon, not blank.
pub(super) fn ascii(name: &str) -> String {
    let name: String = name
        .trim()
        .chars()
        .map(|c| if c.is_ascii_graphic() && c != ':' || c == ' ' { c } else { '_' })
        .take(100)
        .collect();
    let name = name.trim().to_owned();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

/// Makes a pool's name out of a model's.
pub(super) fn pool_name(model: &str) -> String {
    model.rsplit('/').next().map(ascii).unwrap_or_default()
}

/// Makes a variable's name out of a name and what it holds.
pub(super) fn variable(name: &str, what: &str) -> String {
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    let name = name.trim_matches('_');
    let lead = if name.starts_with(|c: char| c.is_ascii_alphabetic()) { "" } else { "MODEL_" };
    format!("{lead}{name}_{what}")
}

/// Makes a host's name out of a name.
pub(super) fn dns_label(name: &str) -> String {
    let label: String = pool_name(name)
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    let label = label.trim_matches('-').to_owned();
    if label.is_empty() { "model".to_owned() } else { label }
}
