//! Owns the reading of what engines publish of their KV caches: vLLM's batches of events in `MessagePack`, as of 0.8 to 0.32.
//! Refuses to know how they come here.
//!
//! Lenient: events are arrays or maps, hashes numbers or bytes, fields that follow the known ones are left alone, and events
//! that are not known say nothing.

use crate::balance::{KvEvent, KvTier, StoredBlocks, salt_key};
use rmpv::Value;
use xxhash_rust::xxh3::xxh3_64;

/// How deep values may be nested.
const MAX_DEPTH: usize = 16;

/// Reads a batch; `None` where it is none.
pub(super) fn events(payload: &[u8]) -> Option<Vec<KvEvent>> {
    let mut rest = payload;
    let batch = rmpv::decode::read_value_with_max_depth(&mut rest, MAX_DEPTH).ok()?;
    let events = field(&batch, 1, "events")?.as_array()?;
    Some(events.iter().filter_map(event).collect())
}

/// A field of an array by its place, of a map by its name; null is none.
fn field<'a>(value: &'a Value, place: usize, name: &str) -> Option<&'a Value> {
    let found = match value {
        Value::Array(fields) => fields.get(place),
        Value::Map(fields) => {
            fields.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
        }
        _ => None,
    };
    found.filter(|value| !value.is_nil())
}

fn event(value: &Value) -> Option<KvEvent> {
    match field(value, 0, "type")?.as_str()? {
        "BlockStored" => stored(value).map(KvEvent::Stored),
        "BlockRemoved" => {
            let is_prefix = is_prefix_group(field(value, 3, "group_idx"));
            let names = names(field(value, 1, "block_hashes")?)?;
            let tier = tier(field(value, 2, "medium"), field(value, 4, "locality"));
            is_prefix.then_some(KvEvent::Removed { names, tier })
        }
        "AllBlocksCleared" => Some(KvEvent::Cleared),
        _ => None,
    }
}

fn stored(value: &Value) -> Option<StoredBlocks> {
    let names = names(field(value, 1, "block_hashes")?)?;
    let tokens = field(value, 3, "token_ids")?.as_array()?;
    let tokens: Option<Vec<u64>> = tokens.iter().map(Value::as_u64).collect();
    let block_tokens =
        u32::try_from(field(value, 4, "block_size")?.as_u64()?).ok().filter(|size| *size > 0)?;
    let name = field(value, 7, "lora_name").and_then(Value::as_str).map(str::to_owned);
    // An adapter without a name is one that no request names.
    let adapter = name.or_else(|| Some(format!("#{}", field(value, 5, "lora_id")?)));
    let extra =
        field(value, 8, "extra_keys").and_then(Value::as_array).map_or(&[][..], |keys| keys.as_slice());
    let extra = extra.iter().map(|keys| extra_key(keys, adapter.as_deref())).collect();
    let parent = match field(value, 2, "parent_block_hash") {
        Some(parent) => Some(name_of(parent)?),
        None => None,
    };
    let tier = tier(field(value, 6, "medium"), field(value, 12, "locality"));
    let is_prefix = is_prefix_group(field(value, 9, "group_idx"));
    is_prefix.then_some(StoredBlocks { names, parent, tokens: tokens?, block_tokens, adapter, extra, tier })
}

/// Whether a block is of the first group of layers: a model with several kinds of attention stores each block once a group.
fn is_prefix_group(group: Option<&Value>) -> bool {
    group.is_none_or(|group| group.as_u64() == Some(0))
}

fn names(hashes: &Value) -> Option<Vec<u64>> {
    hashes.as_array()?.iter().map(name_of).collect()
}

fn name_of(hash: &Value) -> Option<u64> {
    match hash {
        Value::Integer(number) => number.as_u64().or_else(|| number.as_i64().map(i64::cast_unsigned)),
        Value::Binary(bytes) => Some(xxh3_64(bytes)),
        Value::String(text) => Some(xxh3_64(text.as_bytes())),
        _ => None,
    }
}

fn tier(medium: Option<&Value>, locality: Option<&Value>) -> KvTier {
    if locality.and_then(Value::as_str).is_some_and(|locality| locality.eq_ignore_ascii_case("remote")) {
        return KvTier::Disk;
    }
    match medium.and_then(Value::as_str).map(str::to_ascii_lowercase).as_deref() {
        None | Some("gpu" | "device" | "hbm") => KvTier::Device,
        Some("cpu" | "host" | "dram") => KvTier::Host,
        Some(_) => KvTier::Disk,
    }
}

/// What tells a block apart beside its tokens and its adapter; one text alone is a salt.
fn extra_key(keys: &Value, adapter: Option<&str>) -> u64 {
    let keys = keys.as_array().map_or(&[][..], |keys| keys.as_slice());
    let others: Vec<&Value> =
        keys.iter().filter(|key| key.as_str().is_none() || key.as_str() != adapter).collect();
    match others[..] {
        [] => 0,
        [only] if only.is_str() => salt_key(only.as_str().unwrap_or_default()),
        _ => {
            let mut bytes = Vec::new();
            for key in others {
                // Writing into a vector cannot fail.
                let _ = rmpv::encode::write_value(&mut bytes, key);
            }
            xxh3_64(&bytes).max(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};

    fn encoded(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).unwrap();
        bytes
    }

    fn list(items: &[Value]) -> Value {
        Value::Array(items.to_vec())
    }

    fn batch(events: &[Value]) -> Vec<u8> {
        encoded(&list(&[Value::F64(1.5), list(events), Value::from(0)]))
    }

    fn numbers(numbers: &[u64]) -> Value {
        Value::Array(numbers.iter().map(|number| Value::from(*number)).collect())
    }

    #[test]
    fn events_of_every_age_are_read() {
        let old =
            list(&["BlockStored".into(), numbers(&[7]), Value::Nil, numbers(&[1, 2]), 2.into(), Value::Nil]);
        let new = list(&[
            "BlockStored".into(),
            list(&[Value::Binary(vec![1; 32])]),
            7.into(),
            numbers(&[3, 4]),
            2.into(),
            Value::Nil,
            "CPU".into(),
            "style".into(),
            list(&[list(&["style".into(), "salt".into()])]),
            0.into(),
            "full_attention".into(),
            Value::Nil,
            "LOCAL".into(),
            Value::Nil,
            "session".into(),
            "whatever comes next".into(),
        ]);
        let pair = |key: &str, value: Value| (Value::from(key), value);
        let map = Value::Map(vec![
            pair("type", "BlockRemoved".into()),
            pair("block_hashes", list(&[Value::from(-3)])),
            pair("medium", "GPU".into()),
        ]);
        let cleared = list(&["AllBlocksCleared".into()]);
        let other = list(&["SomethingNew".into(), 1.into()]);
        let plain =
            StoredBlocks { names: vec![7], tokens: vec![1, 2], block_tokens: 2, ..StoredBlocks::default() };
        let styled = StoredBlocks {
            names: vec![xxh3_64(&[1; 32])],
            parent: Some(7),
            tokens: vec![3, 4],
            block_tokens: 2,
            adapter: Some("style".to_owned()),
            extra: vec![salt_key("salt")],
            tier: KvTier::Host,
        };
        let read = events(&batch(&[old, new, map, cleared, other])).unwrap();
        let removed = KvEvent::Removed { names: vec![(-3_i64).cast_unsigned()], tier: KvTier::Device };
        assert_eq!(read, [KvEvent::Stored(plain), KvEvent::Stored(styled), removed, KvEvent::Cleared]);
    }

    #[test]
    fn blocks_of_other_groups_of_layers_and_broken_events_say_nothing() {
        let of_group = |group: u64| list(&["BlockRemoved".into(), numbers(&[1]), Value::Nil, group.into()]);
        let broken = list(&["BlockStored".into(), numbers(&[1]), Value::Nil, "tokens".into(), 16.into()]);
        let no_size = list(&["BlockStored".into(), numbers(&[1]), Value::Nil, numbers(&[1]), 0.into()]);
        let read =
            events(&batch(&[of_group(0), of_group(1), broken, no_size, Value::Nil, 5.into()])).unwrap();
        assert_eq!(read, [KvEvent::Removed { names: vec![1], tier: KvTier::Device }]);
        for bad in
            [&b""[..], b"\xc1", b"hello", &encoded(&Value::Nil), &encoded(&list(&[1.into(), 2.into()]))]
        {
            assert_eq!(events(bad), None, "{bad:?}");
        }
        let deep = (0..100).fold(Value::Nil, |inner, _| list(&[inner]));
        assert_eq!(events(&encoded(&deep)), None);
    }

    proptest! {
        #[test]
        fn nothing_that_is_published_breaks_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            events(&bytes);
        }
    }
}
