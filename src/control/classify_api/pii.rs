//! Owns `/api/v1/classify/pii`: which personal data a text holds, and the text without it.
//!
//! Says what was found never in its own words unless the client asks for that.

use super::envelope::{ApiError, JsonBody};
use super::{Admin, ask, ensure_text, millis_since};
use crate::classify::{Classifier, ClassifyHeads, Entity, Findings, PiiFindings, Unknown, pii_kinds};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// What stands for an entity's text.
const HIDDEN: &str = "[DETECTED]";

/// Short names that the API's own documentation uses.
const SHORT: &[(&str, &[&str])] = &[
    ("EMAIL", &["EMAIL_ADDRESS"]),
    ("PHONE", &["PHONE_NUMBER"]),
    ("SSN", &["US_SSN"]),
    ("IBAN", &["IBAN_CODE"]),
    ("LOCATION", &["GPE", "STREET_ADDRESS", "ZIP_CODE"]),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PiiRequest {
    #[serde(default)]
    text: String,
    options: Option<PiiOptions>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PiiOptions {
    /// Only these types; all where there are none.
    entity_types: Vec<String>,
    /// Only what is at least that sure; what is below the policy's threshold is not found in the first place.
    confidence_threshold: Option<f32>,
    /// Whether to say where, in characters.
    return_positions: bool,
    /// Whether to give the text with placeholders.
    mask_entities: bool,
    /// Whether to repeat what was found.
    reveal_entity_text: bool,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct PiiResponse {
    has_pii: bool,
    entities: Vec<PiiEntity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    masked_text: Option<String>,
    security_recommendation: &'static str,
    processing_time_ms: u64,
}

#[derive(Debug, PartialEq, Serialize)]
struct PiiEntity {
    #[serde(rename = "type")]
    kind: String,
    value: String,
    confidence: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_position: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_position: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    masked_value: Option<String>,
}

pub(super) async fn pii(
    State(admin): State<Admin>,
    JsonBody(request): JsonBody<PiiRequest>,
) -> Result<Json<PiiResponse>, ApiError> {
    let (began, live) = (Instant::now(), admin.live.load());
    ensure_text(&request.text)?;
    let options = request.options.unwrap_or_default();
    let wanted = EntityFilter::of(&options, &live.classifier)?;
    let findings = ask(&live, &request.text, ClassifyHeads { pii: true, ..ClassifyHeads::NONE }).await;
    respond(&request.text, &options, &wanted, findings, began).map(Json)
}

/// Which types are asked for; none named are all.
pub(super) struct EntityFilter(Option<BTreeSet<String>>);

impl EntityFilter {
    /// Refuses types that no model finds: that none of them is there would be no news.
    pub(super) fn of(options: &PiiOptions, classifier: &Classifier) -> Result<Self, ApiError> {
        Self::among(&options.entity_types, &pii_kinds(&classifier.models()))
    }

    fn among(asked: &[String], known: &BTreeSet<String>) -> Result<Self, ApiError> {
        let mut wanted = BTreeSet::new();
        for name in asked {
            let name = name.to_ascii_uppercase();
            if name == "ALL" {
                return Ok(Self(None));
            }
            let short = SHORT.iter().find(|(short, _)| *short == name);
            let kinds = short.map_or(vec![name.as_str()], |(_, kinds)| kinds.to_vec());
            // Where no model finds any, that is what there is to say.
            if !known.is_empty() && !kinds.iter().any(|kind| known.contains(*kind)) {
                let known: Vec<_> = known.iter().map(String::as_str).collect();
                let message = format!("entity type {name:?} is none of {}", known.join(", "));
                return Err(ApiError::invalid(message));
            }
            wanted.extend(kinds.into_iter().map(str::to_owned));
        }
        Ok(Self(Some(wanted).filter(|wanted| !wanted.is_empty())))
    }

    fn has(&self, kind: &str) -> bool {
        self.0.as_ref().is_none_or(|wanted| wanted.contains(kind))
    }
}

/// Puts an answer together from what was found in `text`.
pub(super) fn respond(
    text: &str,
    options: &PiiOptions,
    wanted: &EntityFilter,
    findings: Findings,
    began: Instant,
) -> Result<PiiResponse, ApiError> {
    let found = findings.pii.ok_or(Unknown::Unsupported).and_then(PiiFindings::complete);
    let mut found = found.map_err(ApiError::unknown)?;
    let least = options.confidence_threshold.unwrap_or(0.0);
    found.retain(|entity| entity.confidence >= least && wanted.has(&entity.kind));
    let has_pii = !found.is_empty();
    let masks = options.mask_entities.then(|| placeholders(text, &found));
    let entities = found.iter().enumerate().map(|(place, entity)| PiiEntity {
        kind: entity.kind.to_string(),
        value: if options.reveal_entity_text { inside(text, entity) } else { HIDDEN }.to_owned(),
        confidence: entity.confidence,
        start_position: options.return_positions.then_some(entity.chars.start),
        end_position: options.return_positions.then_some(entity.chars.end),
        masked_value: masks.as_ref().and_then(|masks| masks.get(place).cloned()),
    });
    Ok(PiiResponse {
        has_pii,
        entities: entities.collect(),
        masked_text: masks.as_ref().filter(|_| has_pii).map(|masks| masked(text, &found, masks)),
        security_recommendation: if has_pii { "block" } else { "allow" },
        processing_time_ms: millis_since(began),
    })
}

fn inside<'a>(text: &'a str, entity: &Entity) -> &'a str {
    text.get(entity.bytes.clone()).unwrap_or(HIDDEN)
}

/// A placeholder for each entity, the same one wherever the same text of the same type stands.
fn placeholders(text: &str, found: &[Entity]) -> Vec<String> {
    let (mut numbers, mut counts) = (HashMap::new(), HashMap::<&str, usize>::new());
    let each = found.iter().map(|entity| {
        let kind = &*entity.kind;
        let number = numbers.entry((kind, inside(text, entity))).or_insert_with(|| {
            let count = counts.entry(kind).or_default();
            *count += 1;
            *count - 1
        });
        format!("[{kind}_{number}]")
    });
    each.collect()
}

/// The text with its entities replaced; of two that overlap, the first.
fn masked(text: &str, found: &[Entity], masks: &[String]) -> String {
    let mut places: Vec<_> = found.iter().zip(masks).collect();
    places.sort_by_key(|(entity, _)| entity.bytes.start);
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    for (entity, mask) in places {
        if entity.bytes.start < from {
            // Whatever of it sticks out is hidden with what it overlaps.
            from = from.max(entity.bytes.end);
            continue;
        }
        out.push_str(text.get(from..entity.bytes.start).unwrap_or_default());
        out.push_str(mask);
        from = entity.bytes.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::EntitySource;

    fn entity(text: &str, part: &str, kind: &str) -> Entity {
        let start = text.find(part).unwrap();
        let chars = text[..start].chars().count();
        Entity {
            kind: kind.into(),
            bytes: start..start + part.len(),
            chars: chars..chars + part.chars().count(),
            confidence: 0.9,
            by: EntitySource::Model,
        }
    }

    fn respond_to(text: &str, found: Vec<Entity>, options: &PiiOptions) -> PiiResponse {
        let wanted = EntityFilter::among(&options.entity_types, &BTreeSet::new()).unwrap();
        let findings = Findings { pii: Some(PiiFindings::known(found)), ..Findings::default() };
        respond(text, options, &wanted, findings, Instant::now()).unwrap()
    }

    #[test]
    fn values_and_places_are_told_only_when_asked_for() {
        let text = "Ä writes to ann@b.example";
        let found = vec![entity(text, "ann@b.example", "EMAIL_ADDRESS")];
        let quiet = respond_to(text, found.clone(), &PiiOptions::default());
        assert_eq!((quiet.has_pii, quiet.security_recommendation), (true, "block"));
        assert!(!serde_json::to_string(&quiet).unwrap().contains("ann"));
        assert_eq!((quiet.entities[0].start_position, &quiet.masked_text), (None, &None));
        let options =
            PiiOptions { reveal_entity_text: true, return_positions: true, ..PiiOptions::default() };
        let open = respond_to(text, found, &options);
        assert_eq!(open.entities[0].value, "ann@b.example");
        assert_eq!((open.entities[0].start_position, open.entities[0].end_position), (Some(12), Some(25)));
    }

    #[test]
    fn the_same_entity_has_the_same_placeholder() {
        let text = "Ann met Bob; Ann is 30.";
        let mut found = vec![entity(text, "Ann", "PERSON"), entity(text, "Bob", "PERSON")];
        let again = text.rfind("Ann").unwrap();
        found.push(Entity { bytes: again..again + 3, chars: again..again + 3, ..found[0].clone() });
        found.push(entity(text, "30", "AGE"));
        let options = PiiOptions { mask_entities: true, ..PiiOptions::default() };
        let response = respond_to(text, found, &options);
        assert_eq!(response.masked_text.unwrap(), "[PERSON_0] met [PERSON_1]; [PERSON_0] is [AGE_0].");
        assert_eq!(response.entities[1].masked_value.as_deref(), Some("[PERSON_1]"));
        let none = respond_to("nothing", Vec::new(), &options);
        assert_eq!((none.masked_text, none.security_recommendation), (None, "allow"));
    }

    #[test]
    fn nothing_of_overlapping_entities_is_left_in_a_masked_text() {
        let text = "at 12 High Street, Leeds today";
        let found =
            vec![entity(text, "12 High Street", "STREET_ADDRESS"), entity(text, "Street, Leeds", "GPE")];
        let options = PiiOptions { mask_entities: true, ..PiiOptions::default() };
        assert_eq!(respond_to(text, found, &options).masked_text.unwrap(), "at [STREET_ADDRESS_0] today");
    }

    #[test]
    fn types_and_confidence_narrow_what_is_told() {
        let text = "Ann, 30, ann@b.example";
        let mut found = vec![
            entity(text, "Ann", "PERSON"),
            entity(text, "30", "AGE"),
            entity(text, "ann@b.example", "EMAIL_ADDRESS"),
        ];
        found[1].confidence = 0.6;
        let kinds = |types: &[&str], least: Option<f32>| {
            let entity_types = types.iter().map(ToString::to_string).collect();
            let options = PiiOptions { entity_types, confidence_threshold: least, ..PiiOptions::default() };
            let response = respond_to(text, found.clone(), &options);
            response.entities.into_iter().map(|entity| entity.kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&["email"], None), ["EMAIL_ADDRESS"]);
        assert_eq!(kinds(&["AGE", "PERSON"], Some(0.7)), ["PERSON"]);
        assert_eq!(kinds(&["ALL"], None).len(), 3);
    }

    #[test]
    fn a_type_that_no_model_finds_is_refused() {
        let known = BTreeSet::from(["EMAIL_ADDRESS", "GPE"].map(str::to_owned));
        let among = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            EntityFilter::among(&names, &known)
        };
        assert!(among(&["EMAIL", "LOCATION"]).is_ok());
        let error = among(&["email_adress"]).err().unwrap();
        assert_eq!(error, ApiError::invalid("entity type \"EMAIL_ADRESS\" is none of EMAIL_ADDRESS, GPE"));
    }
}
