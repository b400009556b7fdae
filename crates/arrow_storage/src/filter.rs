//! Conditions on metadata, in the operators of `MongoDB`.
//!
//! `{"kind": "note", "size": {"$gte": 3}}` asks for both. A name is a path into the metadata with dots;
//! `@id`, `@created_at` and `@updated_at` (seconds since the epoch) are the memory's own. As in `MongoDB`,
//! an array satisfies a condition when the array itself or one of its elements does, and `null` equals a
//! missing name. Values of different types are unequal, and neither is greater.

use crate::error::{Error, Result};
use crate::projection;
use crate::tautology;
use serde_json::{Map, Value};
use std::cmp::Ordering;
use std::collections::BTreeSet;

const MAX_DEPTH: usize = 32;

/// A parsed condition.
#[derive(Debug, Clone)]
pub struct Filter {
    condition: Condition,
    text: String,
    /// Members of the metadata that the condition looks at.
    members: Vec<String>,
    looks_at_times: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    Field(Field, Test),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    Id,
    CreatedAt,
    UpdatedAt,
    Path(Vec<String>),
}

#[derive(Debug, Clone)]
pub(crate) enum Test {
    Equals(Value),
    Order(Value, fn(Ordering) -> bool),
    In(Vec<Value>),
    Exists(bool),
    Prefix(String),
}

/// What a filter looks at.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) id: &'a str,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) metadata: &'a Value,
}

impl Filter {
    /// Parses a JSON object.
    ///
    /// # Errors
    /// `Filter`, naming the operator or value that cannot be understood.
    pub fn parse(json: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(json).map_err(|error| bad(format!("not JSON: {error}")))?;
        let condition = parse_all(&value, 0)?;
        let mut fields = Vec::new();
        condition.fields(&mut fields);
        let members: BTreeSet<&String> = fields
            .iter()
            .filter_map(|field| match field {
                Field::Path(path) => path.first(),
                _ => None,
            })
            .collect();
        Ok(Self {
            members: members.into_iter().cloned().collect(),
            looks_at_times: fields
                .iter()
                .any(|field| matches!(field, Field::CreatedAt | Field::UpdatedAt)),
            text: value.to_string(),
            condition,
        })
    }

    /// Whether it looks at metadata at all.
    pub(crate) fn looks_at_metadata(&self) -> bool {
        !self.members.is_empty()
    }

    /// Whether it looks at `@created_at` or `@updated_at`.
    pub(crate) fn looks_at_times(&self) -> bool {
        self.looks_at_times
    }

    /// One text for equal filters.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether no memory could fail it, whatever it holds.
    #[must_use]
    pub fn holds_for_all(&self) -> bool {
        tautology::holds_for_all(&self.condition)
    }

    /// Whether a memory satisfies it. One whose metadata it looks at and cannot read does not: before they
    /// were refused, stores took numbers and depths that cannot be.
    pub(crate) fn selects(&self, id: &str, times: (i64, i64), metadata: &str) -> bool {
        let metadata = if self.looks_at_metadata() {
            projection::members(metadata, &self.members)
        } else {
            Ok(Value::Null)
        };
        metadata.is_ok_and(|metadata| {
            self.condition.matches(&Subject {
                id,
                created_at: times.0,
                updated_at: times.1,
                metadata: &metadata,
            })
        })
    }
}

fn bad(what: impl Into<String>) -> Error {
    Error::Filter { what: what.into() }
}

fn object(value: &Value) -> Result<&Map<String, Value>> {
    value
        .as_object()
        .ok_or_else(|| bad(format!("expected an object, got {value}")))
}

fn array<'a>(operator: &str, value: &'a Value) -> Result<&'a Vec<Value>> {
    value
        .as_array()
        .ok_or_else(|| bad(format!("{operator} takes a list, got {value}")))
}

fn parse_all(value: &Value, depth: usize) -> Result<Condition> {
    if depth > MAX_DEPTH {
        return Err(bad(format!("more than {MAX_DEPTH} levels")));
    }
    let conditions = object(value)?
        .iter()
        .map(|(key, value)| match key.as_str() {
            "$and" => Ok(Condition::And(parse_list(key, value, depth)?)),
            "$or" => Ok(Condition::Or(parse_list(key, value, depth)?)),
            "$nor" => {
                let any = Condition::Or(parse_list(key, value, depth)?);
                Ok(Condition::Not(Box::new(any)))
            }
            "$not" => Ok(Condition::Not(Box::new(parse_all(value, depth + 1)?))),
            _ if key.starts_with('$') => Err(bad(format!("unknown operator {key}"))),
            _ => parse_field(field(key)?, value, depth),
        });
    Ok(Condition::And(conditions.collect::<Result<_>>()?))
}

fn parse_list(operator: &str, value: &Value, depth: usize) -> Result<Vec<Condition>> {
    array(operator, value)?
        .iter()
        .map(|value| parse_all(value, depth + 1))
        .collect()
}

fn field(key: &str) -> Result<Field> {
    match key {
        "@id" => Ok(Field::Id),
        "@created_at" => Ok(Field::CreatedAt),
        "@updated_at" => Ok(Field::UpdatedAt),
        _ if key.starts_with('@') => Err(bad(format!(
            "unknown field {key}; there are @id, @created_at and @updated_at"
        ))),
        _ => Ok(Field::Path(key.split('.').map(str::to_owned).collect())),
    }
}

/// `{"$gt": 1, "$lt": 5}` are operators, `{"a": 1}` is a value to equal.
fn parse_field(field: Field, value: &Value, depth: usize) -> Result<Condition> {
    if depth > MAX_DEPTH {
        return Err(bad(format!("more than {MAX_DEPTH} levels")));
    }
    let operators = value
        .as_object()
        .filter(|map| map.keys().any(|key| key.starts_with('$')));
    let Some(operators) = operators else {
        return Ok(Condition::Field(field, Test::Equals(value.clone())));
    };
    let conditions = operators
        .iter()
        .map(|(operator, value)| parse_operator(field.clone(), operator, value, depth));
    Ok(Condition::And(conditions.collect::<Result<_>>()?))
}

fn parse_operator(field: Field, operator: &str, value: &Value, depth: usize) -> Result<Condition> {
    let not = |test| Condition::Not(Box::new(Condition::Field(field.clone(), test)));
    let test = match operator {
        "$eq" => Test::Equals(value.clone()),
        "$ne" => return Ok(not(Test::Equals(value.clone()))),
        "$in" => Test::In(array(operator, value)?.clone()),
        "$nin" => return Ok(not(Test::In(array(operator, value)?.clone()))),
        "$not" => {
            return Ok(Condition::Not(Box::new(parse_field(
                field,
                value,
                depth + 1,
            )?)));
        }
        "$gt" => Test::Order(ordered(operator, value)?, Ordering::is_gt),
        "$gte" => Test::Order(ordered(operator, value)?, Ordering::is_ge),
        "$lt" => Test::Order(ordered(operator, value)?, Ordering::is_lt),
        "$lte" => Test::Order(ordered(operator, value)?, Ordering::is_le),
        "$exists" => Test::Exists(
            value
                .as_bool()
                .ok_or_else(|| bad(format!("$exists takes true or false, got {value}")))?,
        ),
        "$prefix" => {
            let text = value
                .as_str()
                .ok_or_else(|| bad(format!("$prefix takes a text, got {value}")))?;
            Test::Prefix(text.to_owned())
        }
        _ => return Err(bad(format!("unknown operator {operator}"))),
    };
    Ok(Condition::Field(field, test))
}

fn ordered(operator: &str, value: &Value) -> Result<Value> {
    if value.is_number() || value.is_string() {
        return Ok(value.clone());
    }
    Err(bad(format!(
        "{operator} takes a number or a text, got {value}"
    )))
}

impl Condition {
    /// Everything it looks at.
    fn fields<'a>(&'a self, found: &mut Vec<&'a Field>) {
        match self {
            Self::And(parts) | Self::Or(parts) => {
                for part in parts {
                    part.fields(found);
                }
            }
            Self::Not(part) => part.fields(found),
            Self::Field(field, _) => found.push(field),
        }
    }

    pub(crate) fn matches(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::And(all) => all.iter().all(|condition| condition.matches(subject)),
            Self::Or(any) => any.iter().any(|condition| condition.matches(subject)),
            Self::Not(condition) => !condition.matches(subject),
            Self::Field(Field::Path(path), test) => {
                let value = path
                    .iter()
                    .try_fold(subject.metadata, |value, name| value.get(name));
                test.holds(value)
            }
            Self::Field(Field::Id, test) => test.holds(Some(&Value::from(subject.id))),
            Self::Field(Field::CreatedAt, test) => test.holds(Some(&seconds(subject.created_at))),
            Self::Field(Field::UpdatedAt, test) => test.holds(Some(&seconds(subject.updated_at))),
        }
    }
}

fn seconds(micros: i64) -> Value {
    Value::from(micros as f64 / 1e6)
}

impl Test {
    /// The values it compares with.
    pub(crate) fn literals(&self) -> Vec<Value> {
        match self {
            Self::Equals(value) | Self::Order(value, _) => vec![value.clone()],
            Self::In(values) => values.clone(),
            Self::Prefix(prefix) => vec![Value::from(prefix.as_str())],
            Self::Exists(_) => Vec::new(),
        }
    }

    pub(crate) fn holds(&self, value: Option<&Value>) -> bool {
        match self {
            Self::Exists(wanted) => value.is_some() == *wanted,
            Self::Equals(Value::Null) if value.is_none() => true,
            Self::In(values) if value.is_none() => values.contains(&Value::Null),
            _ => value.is_some_and(|value| {
                self.holds_for(value)
                    || value.as_array().is_some_and(|elements| {
                        elements.iter().any(|element| self.holds_for(element))
                    })
            }),
        }
    }

    fn holds_for(&self, value: &Value) -> bool {
        match self {
            Self::Equals(wanted) => equal(value, wanted),
            Self::In(values) => values.iter().any(|wanted| equal(value, wanted)),
            Self::Order(bound, accepts) => compare(value, bound).is_some_and(accepts),
            Self::Prefix(prefix) => value
                .as_str()
                .is_some_and(|text| text.starts_with(prefix.as_str())),
            Self::Exists(_) => false,
        }
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => compare(a, b) == Some(Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// Whole numbers are compared exactly, others as floating point.
fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    let whole = |value: &Value| {
        value
            .as_i64()
            .map(i128::from)
            .or_else(|| value.as_u64().map(i128::from))
    };
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => match (whole(a), whole(b)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Filter;
    use serde_json::{Value, json};

    fn holds(filter: &Value, metadata: &Value) -> bool {
        let filter = Filter::parse(&filter.to_string()).unwrap();
        filter.selects("note-7", (10_500_000, 20_000_000), &metadata.to_string())
    }

    #[test]
    fn every_operator() {
        let metadata = json!({"n": 3, "f": 2.5, "s": "abc", "b": true, "tags": ["x", "y"], "a": {"b": {"c": 1}}, "nil": null});
        for (filter, expected) in [
            (json!({}), true),
            (json!({"n": 3}), true),
            (json!({"n": 3.0}), true),
            (json!({"n": "3"}), false),
            (json!({"n": 3, "s": "z"}), false),
            (json!({"n": {"$gt": 2, "$lt": 4}}), true),
            (json!({"n": {"$gte": 3.5}}), false),
            (json!({"n": {"$lte": 3}}), true),
            (json!({"s": {"$gt": "abb"}}), true),
            (json!({"s": {"$gt": 1}}), false),
            (json!({"f": {"$eq": 2.5}}), true),
            (json!({"n": {"$ne": 4}}), true),
            (json!({"missing": {"$ne": 4}}), true),
            (json!({"missing": null}), true),
            (json!({"nil": null}), true),
            (json!({"missing": {"$exists": false}}), true),
            (json!({"nil": {"$exists": true}}), true),
            (json!({"n": {"$in": [1, 3]}}), true),
            (json!({"n": {"$nin": [1, 3]}}), false),
            (json!({"missing": {"$in": [null]}}), true),
            (json!({"tags": "x"}), true),
            (json!({"tags": ["x", "y"]}), true),
            (json!({"tags": ["y", "x"]}), false),
            (json!({"tags": {"$prefix": "y"}}), true),
            (json!({"a.b.c": 1}), true),
            (json!({"a.b": {"c": 1}}), true),
            (json!({"a.b.d": {"$exists": true}}), false),
            (json!({"s": {"$prefix": "ab"}}), true),
            (json!({"s": {"$not": {"$prefix": "ab"}}}), false),
            (json!({"$or": [{"n": 1}, {"b": true}]}), true),
            (json!({"$nor": [{"n": 1}, {"b": false}]}), true),
            (json!({"$nor": [{"n": 3}, {"b": false}]}), false),
            (json!({"$and": [{"n": 3}, {"$not": {"s": "abc"}}]}), false),
            (json!({"@id": {"$prefix": "note-"}}), true),
            (json!({"@created_at": {"$lt": 10.6}}), true),
            (json!({"@updated_at": 20}), true),
        ] {
            assert_eq!(holds(&filter, &metadata), expected, "{filter}");
        }
    }

    #[test]
    fn metadata_that_cannot_be_read_satisfies_nothing_that_looks_at_it() {
        let deep = format!(
            r#"{{"a": {}1{}, "b": 1}}"#,
            "[".repeat(200),
            "]".repeat(200)
        );
        let long = format!(r#"{{"a": {}, "b": 1}}"#, "9".repeat(400));
        for json in [deep, long] {
            let selects = |filter: &str| Filter::parse(filter).unwrap().selects("x", (0, 0), &json);
            assert!(!selects(r#"{"a": {"$ne": 1}}"#));
            assert!(!selects(r#"{"a": 1}"#));
            assert!(selects(r#"{"b": 1}"#));
            assert!(selects(r#"{"@id": "x"}"#));
        }
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        for (filter, named) in [
            (r#"{"a": {"$near": 1}}"#, "unknown operator $near"),
            (r#"{"$xor": []}"#, "unknown operator $xor"),
            (r#"{"a": {"$in": 3}}"#, "$in takes a list, got 3"),
            (r#"{"a": {"$gt": [1]}}"#, "$gt takes a number or a text"),
            (r#"{"a": {"$exists": 1}}"#, "$exists takes true or false"),
            (r#"{"@size": 1}"#, "unknown field @size"),
            ("[1]", "expected an object"),
            ("{", "not JSON"),
        ] {
            let error = Filter::parse(filter).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let deep = (0..40).fold("{}".to_owned(), |inner, _| {
            format!(r#"{{"$not": {inner}}}"#)
        });
        assert!(
            Filter::parse(&deep)
                .unwrap_err()
                .to_string()
                .contains("levels")
        );
    }
}
