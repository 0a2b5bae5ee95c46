//! Owns the policy under construction, and its completion: every model has a pool, every name is one that a policy
//! allows. Refuses to know the sources.

use std::fmt;

use indexmap::IndexMap;

use super::yaml_writer::{YamlMapping, YamlValue};

/// A policy under construction.
#[derive(Debug, Default)]
pub(super) struct PolicyDraft {
    /// The comment at the top.
    pub(super) head: Vec<String>,
    pub(super) routing: RoutingDraft,
    pub(super) flags: DraftFlags,
    pub(super) classifier: YamlMapping,
    pub(super) identity: Option<YamlMapping>,
    pub(super) guards: YamlMapping,
    pub(super) cache: YamlMapping,
    pub(super) families: YamlMapping,
    pub(super) models: IndexMap<String, ModelDraft>,
    pub(super) pools: IndexMap<String, PoolDraft>,
    /// The most attempts that a source asks for.
    pub(super) attempts: u64,
}

/// How a model is chosen for a request.
#[derive(Debug, Default)]
pub(super) struct RoutingDraft {
    pub(super) virtual_models: Vec<String>,
    pub(super) default_model: Option<String>,
    pub(super) strategy: Option<String>,
    pub(super) effort: Option<String>,
    pub(super) signals: YamlMapping,
    pub(super) decisions: Vec<YamlValue>,
    pub(super) recipes: YamlMapping,
    /// The lists of decisions of which none is left.
    pub(super) lost: Vec<LostDecisions>,
}

/// A list of decisions of which an import could take over none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostDecisions {
    /// The recipe that they are in; none for those of the configuration itself.
    pub recipe: Option<String>,
    /// Their names.
    pub decisions: Vec<String>,
}

impl fmt::Display for LostDecisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(recipe) = &self.recipe {
            write!(f, "of the recipe `{recipe}`: ")?;
        }
        f.write_str(&self.decisions.join(", "))
    }
}

/// What the sources use that decides on keys elsewhere in the policy.
#[derive(Debug, Default)]
pub(super) struct DraftFlags {
    /// A guard blocks requests.
    pub(super) blocks: bool,
    /// A decision asks for the hallucination detector.
    pub(super) detects: bool,
    /// A signal says which requests need facts.
    pub(super) checks_facts: bool,
}

/// One model of the draft.
#[derive(Debug, Default)]
pub(super) struct ModelDraft {
    pub(super) pools: Vec<String>,
    /// The model whose servers have this one as an adapter.
    pub(super) base: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) aliases: Vec<String>,
    pub(super) loras: Vec<String>,
    pub(super) family: Option<String>,
    pub(super) price: YamlMapping,
    pub(super) quality: Option<f64>,
    pub(super) guards: YamlMapping,
    pub(super) remarks: Vec<String>,
}

/// What the servers of a pool go by.
pub(super) struct ServedNames<'a> {
    /// Those that they answer to, the first one in responses.
    pub(super) own: Vec<String>,
    /// Those that clients may call the model by all the same.
    pub(super) others: Vec<String>,
    /// The one that becomes the model's, where it is one that they answer to.
    pub(super) preferred: &'a str,
}

/// One pool of the draft.
#[derive(Debug, Default)]
pub(super) struct PoolDraft {
    pub(super) endpoints: Vec<EndpointDraft>,
    pub(super) settings: YamlMapping,
    pub(super) remarks: Vec<String>,
}

impl PoolDraft {
    /// Joins endpoints of one address: their weights add up.
    fn merge_endpoints(&mut self) {
        let mut merged: Vec<EndpointDraft> = Vec::new();
        for endpoint in std::mem::take(&mut self.endpoints) {
            match merged.iter_mut().find(|known| known.address == endpoint.address) {
                Some(known) => {
                    let weights = known.weight.unwrap_or(1) + endpoint.weight.unwrap_or(1);
                    known.weight = Some(weights.min(1000));
                    let remark = format!("`{}` stands more than once in the original.", endpoint.address);
                    if !self.remarks.contains(&remark) {
                        self.remarks.push(remark);
                    }
                }
                None => merged.push(endpoint),
            }
        }
        self.endpoints = merged;
    }
}

/// One address of a pool.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EndpointDraft {
    pub(super) address: String,
    pub(super) weight: Option<u64>,
}

impl PolicyDraft {
    /// Gives a model by its name, a new one where there is none.
    pub(super) fn model(&mut self, name: &str) -> &mut ModelDraft {
        self.models.entry(name.to_owned()).or_default()
    }

    /// Has a pool serve the model that its servers' names mean: one that is known, else the preferred one.
    pub(super) fn serve(&mut self, pool: &str, names: ServedNames<'_>) {
        let ServedNames { own, others, preferred } = names;
        let known = own.iter().chain(&others).find(|name| self.models.contains_key(*name));
        let first = || own.iter().find(|name| *name == preferred).or(own.first());
        let Some(name) = known.or_else(first).cloned() else { return };
        let model = self.model(&name);
        if !model.pools.iter().any(|known| known == pool) {
            model.pools.push(pool.to_owned());
        }
        if !own.contains(&name) {
            model.upstream = own.first().cloned();
        }
        for other in own.into_iter().chain(others) {
            if other != name && !model.aliases.contains(&other) {
                model.aliases.push(other);
            }
        }
    }

    /// Finds the model that has an adapter.
    pub(super) fn base_of(&self, lora: &str) -> Option<String> {
        let has = |model: &ModelDraft| model.loras.iter().any(|known| known == lora);
        self.models.iter().find(|(_, model)| has(model)).map(|(name, _)| name.clone())
    }

    /// Whether a model has a reasoning family.
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
        let model = ModelDraft {
            pools: known.pools.clone(),
            base: Some(base.clone()),
            family: known.family.clone(),
            remarks: vec![format!("An adapter of `{base}`; a model of its own, since it is the default.")],
            ..ModelDraft::default()
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
        candidates.into_iter().find(|name| !self.routing.signals.has(name)).unwrap_or_default()
    }

    pub(super) fn text(mut self) -> String {
        self.complete();
        let mut root = YamlMapping::default();
        root.put("version", 1_u64);
        if !self.routing.virtual_models.is_empty() {
            root.put("virtual_models", std::mem::take(&mut self.routing.virtual_models));
        }
        root.maybe("default_model", self.routing.default_model.take());
        root.maybe("strategy", self.routing.strategy.take());
        root.maybe("default_effort", self.routing.effort.take());
        if self.flags.blocks {
            root.put("block_style", "vsr").remark(
                "As vSR answers what it blocks: with status 200. `error` is the honest 400 with content_filter.",
            );
        }
        root.filled("classifier", std::mem::take(&mut self.classifier));
        root.maybe("identity", self.identity.take());
        root.filled("signals", std::mem::take(&mut self.routing.signals));
        root.filled("guards", std::mem::take(&mut self.guards));
        if !self.routing.decisions.is_empty() {
            root.put("decisions", std::mem::take(&mut self.routing.decisions));
        }
        root.filled("recipes", std::mem::take(&mut self.routing.recipes));
        root.filled("cache", std::mem::take(&mut self.cache));
        root.filled("reasoning_families", std::mem::take(&mut self.families));
        root.filled("models", self.models());
        root.filled("pools", self.pools());
        if self.attempts > 0 {
            root.put("retry", YamlValue::of("attempts", self.attempts.clamp(1, 10)));
        }
        root.document(&self.head)
    }

    fn complete(&mut self) {
        self.separate_adapters();
        for pool in self.pools.values_mut() {
            pool.merge_endpoints();
        }
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
            self.pools.entry(pool).or_insert_with(|| PoolDraft {
                endpoints: vec![EndpointDraft { address, weight: None }],
                remarks: vec![format!(
                    "Nothing given says where `{name}` is served: set {variable}, or write the address here."
                )],
                ..PoolDraft::default()
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
        self.routing.virtual_models.retain(|name| !taken.contains(name));
        for index in 0..self.models.len() {
            let names: Vec<String> = taken.clone();
            if let Some((_, model)) = self.models.get_index_mut(index) {
                model.aliases.retain(|alias| !names.contains(alias));
                taken.extend(model.aliases.iter().cloned());
            }
        }
    }

    /// Of a name that is a model and an adapter of another, leaves the model: a policy has each name once.
    fn separate_adapters(&mut self) {
        let named: Vec<String> = self.models.keys().cloned().collect();
        let mut adapters = Vec::new();
        for (base, model) in &mut self.models {
            let (own, loras) =
                std::mem::take(&mut model.loras).into_iter().partition(|lora| named.contains(lora));
            model.loras = loras;
            adapters.extend(own.into_iter().map(|lora: String| (base.clone(), lora)));
        }
        for (base, lora) in adapters.into_iter().filter(|(base, lora)| base != lora) {
            let family = self.models.get(&base).and_then(|base| base.family.clone());
            let model = self.model(&lora);
            if model.pools.is_empty() && model.base.is_none() {
                model
                    .remarks
                    .push(format!("An adapter of `{base}`, and a model of its own in the original."));
                model.family = model.family.take().or(family);
                model.base = Some(base);
            }
        }
    }

    fn models(&mut self) -> YamlMapping {
        let mut models = YamlMapping::default();
        for (name, model) in std::mem::take(&mut self.models) {
            let mut out = YamlMapping::default();
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

    fn pools(&mut self) -> YamlMapping {
        let mut pools = YamlMapping::default();
        for (name, pool) in std::mem::take(&mut self.pools) {
            let endpoint = |endpoint: EndpointDraft| match endpoint.weight {
                None => YamlValue::Expanded(endpoint.address),
                Some(weight) => {
                    let mut out = YamlMapping::default();
                    out.put("address", YamlValue::Expanded(endpoint.address)).put("weight", weight.min(1000));
                    YamlValue::Map(out)
                }
            };
            let mut out = YamlMapping::default();
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
