//! Reading the parts of a JSON object that are asked for, and passing over the others.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Parses the members `names` of a JSON object. Of equal names the last one counts, as in whole parsing.
pub(crate) fn members(json: &str, names: &[String]) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let found = Members(names).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Value::Object(found))
}

struct Members<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = Map::new();
        while let Some(name) = members.next_key_seed(Name(self.0))? {
            if let Some(name) = name {
                found.insert(name.to_owned(), members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// A member's name, when it is among those asked for.
struct Name<'a>(&'a [String]);

impl<'de, 'a> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<&'a str>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Name<'a> {
    type Value = Option<&'a str>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self
            .0
            .iter()
            .find(|asked| *asked == name)
            .map(String::as_str))
    }

    fn visit_bytes<E: serde::de::Error>(self, name: &[u8]) -> Result<Self::Value, E> {
        let name = std::str::from_utf8(name).map_err(E::custom)?;
        self.visit_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::members;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn only_what_is_asked_for_is_read() {
        let names = ["a".to_owned(), "\u{fc}".to_owned()];
        let read = |json: &str| members(json, &names);
        let all = r#"{"b": [1, {"a": 2}], "a": {"b": null}, "\u00fc": "x"}"#;
        assert_eq!(read(all).unwrap(), json!({"a": {"b": null}, "\u{fc}": "x"}));
        assert_eq!(read(r#"{"a": 1, "a": 2}"#).unwrap(), json!({"a": 2}));
        assert_eq!(read("{}").unwrap(), json!({}));
        for bad in ["[1]", r#"{"b": }"#, r#"{"a": 1} x"#, r#"{"a": 1"#, ""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn it_is_what_whole_parsing_gives(
            pairs in prop::collection::vec(("[a-d\"\\\\]{1,2}", "[a-z\"]{0,3}"), 0..6),
            names in prop::collection::vec("[a-d\"\\\\]{1,2}", 0..3),
        ) {
            let whole: serde_json::Map<String, Value> =
                pairs.into_iter().map(|(name, text)| (name, json!([text]))).collect();
            let json = Value::Object(whole.clone()).to_string();
            let mut expected = whole;
            expected.retain(|name, _| names.contains(name));
            prop_assert_eq!(members(&json, &names).unwrap(), Value::Object(expected));
        }
    }
}
