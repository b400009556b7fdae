//! Whether a filter asks for anything at all: one that no memory could fail selects the whole store.
//!
//! A memory that fails it is looked for. The condition is taken apart into the ways in which it fails, each a
//! list of tests with the outcome they must have; values with these outcomes are tried for each field; and
//! the memory that they make is shown to the filter itself.

use crate::filter::{Condition, Field, Subject, Test};
use crate::memory::{MAX_ID_BYTES, TIMES};
use serde_json::{Map, Value, json};

/// Ways of failing that are tried. What fails in none of so many is taken to hold for all.
const MOST_WAYS: usize = 10_000;
/// Values that are tried for a field: whether one fits may depend on a field inside of it.
const VALUES: usize = 4;

/// Whether every possible memory satisfies a condition.
pub(crate) fn holds_for_all(condition: &Condition) -> bool {
    let mut search = Search {
        condition,
        ways: 0,
        tests: Vec::new(),
    };
    !search.fails(vec![(condition, false)])
}

struct Search<'a> {
    condition: &'a Condition,
    ways: usize,
    /// The tests met so far and the outcomes they must have.
    tests: Vec<(&'a Field, &'a Test, bool)>,
}

impl<'a> Search<'a> {
    /// Whether some memory gives all conditions the outcomes wanted, and fails the filter.
    fn fails(&mut self, mut wanted: Vec<(&'a Condition, bool)>) -> bool {
        let known = self.tests.len();
        while let Some((condition, outcome)) = wanted.pop() {
            match condition {
                Condition::Not(condition) => wanted.push((condition, !outcome)),
                Condition::Field(field, test) => self.tests.push((field, test, outcome)),
                Condition::And(parts) if outcome => wanted.extend(parts.iter().map(|p| (p, true))),
                Condition::Or(parts) if !outcome => wanted.extend(parts.iter().map(|p| (p, false))),
                Condition::And(parts) | Condition::Or(parts) => {
                    let found = parts.iter().any(|part| {
                        self.ways += 1;
                        let mut wanted = wanted.clone();
                        wanted.push((part, outcome));
                        self.ways <= MOST_WAYS && self.fails(wanted)
                    });
                    self.tests.truncate(known);
                    return found;
                }
            }
        }
        let found = self.some_memory_fails();
        self.tests.truncate(known);
        found
    }

    fn some_memory_fails(&self) -> bool {
        let mut fields: Vec<&Field> = self.tests.iter().map(|(field, ..)| *field).collect();
        // A field comes before those inside of it.
        fields.sort();
        fields.dedup();
        let values: Option<Vec<Vec<Option<Value>>>> = fields
            .iter()
            .map(|field| Some(self.values(field)).filter(|values| !values.is_empty()))
            .collect();
        let Some(values) = values else {
            return false;
        };
        (0..VALUES).any(|choice| {
            let chosen = values
                .iter()
                .map(|values| values[choice.min(values.len() - 1)].as_ref());
            self.memory_fails(fields.iter().copied().zip(chosen))
        })
    }

    /// Some values of a field that give its tests the outcomes wanted; `None` is a missing one.
    fn values(&self, field: &Field) -> Vec<Option<Value>> {
        let tests: Vec<(&Test, bool)> = self
            .tests
            .iter()
            .filter(|(of, ..)| *of == field)
            .map(|(_, test, outcome)| (*test, *outcome))
            .collect();
        let fits = |value: &Option<Value>| {
            let holds = |(test, outcome): &(&Test, bool)| test.holds(value.as_ref()) == *outcome;
            tests.iter().all(holds)
        };
        let mut near: Vec<Value> = tests.iter().flat_map(|(test, _)| test.literals()).collect();
        near = near.iter().flat_map(neighbours).collect();
        let found = match field {
            Field::Id => ids(&near),
            Field::CreatedAt | Field::UpdatedAt => times(&near),
            Field::Path(_) => paths(near, &tests),
        };
        found.into_iter().filter(fits).take(VALUES).collect()
    }

    fn memory_fails<'b>(
        &self,
        chosen: impl Iterator<Item = (&'b Field, Option<&'b Value>)>,
    ) -> bool {
        let mut metadata = json!({});
        let (mut id, mut created_at, mut updated_at) = ("any".to_owned(), 0, 0);
        for (field, value) in chosen {
            let Some(value) = value else {
                continue;
            };
            match field {
                Field::Id => value.as_str().unwrap_or_default().clone_into(&mut id),
                Field::CreatedAt => created_at = micros(value),
                Field::UpdatedAt => updated_at = micros(value),
                Field::Path(path) => place(&mut metadata, path, value),
            }
        }
        !self.condition.matches(&Subject {
            id: &id,
            created_at,
            updated_at,
            metadata: &metadata,
        })
    }
}

/// Values at which a test with this literal may change its outcome.
fn neighbours(literal: &Value) -> Vec<Value> {
    let mut found = vec![literal.clone()];
    if let Some(number) = literal.as_f64() {
        let steps = [-1.0, -0.5, -1e-6, 1e-6, 0.5, 1.0];
        found.extend(steps.map(|step| Value::from(number + step)));
    }
    if let Some(text) = literal.as_str() {
        found.push(Value::from(format!("{text}\0")));
        let mut shorter = text.to_owned();
        shorter.pop();
        found.push(Value::from(shorter));
    }
    found
}

/// Ids are texts and not empty.
fn ids(near: &[Value]) -> Vec<Option<Value>> {
    let near = near.iter().filter_map(Value::as_str);
    ["any", "\0", "\u{10ffff}"]
        .into_iter()
        .chain(near)
        .filter(|id| (1..=MAX_ID_BYTES).contains(&id.len()))
        .map(|id| Some(Value::from(id)))
        .collect()
}

/// Times are seconds within bounds.
fn times(near: &[Value]) -> Vec<Option<Value>> {
    let seconds = |micros: i64| micros as f64 / 1e6;
    let bounds = [seconds(*TIMES.start()), 0.0, seconds(*TIMES.end())];
    let near = near.iter().filter_map(Value::as_f64);
    near.chain(bounds)
        .filter(|time| (bounds[0]..=bounds[2]).contains(time))
        .map(|time| Some(Value::from(time)))
        .collect()
}

/// Metadata may be anything, or not be there.
fn paths(near: Vec<Value>, tests: &[(&Test, bool)]) -> Vec<Option<Value>> {
    let fixed = [
        json!({}),
        Value::Null,
        json!(true),
        json!(false),
        json!(0),
        json!(""),
        json!("\u{10ffff}"),
        json!([]),
    ];
    let scalars: Vec<Value> = fixed.into_iter().chain(near).collect();
    // An array satisfies several tests at once, each by another element.
    let refused = |value: &Value| {
        let mut unwanted = tests.iter().filter(|(_, outcome)| !outcome);
        unwanted.any(|(test, _)| test.holds(Some(value)))
    };
    let wanted = tests.iter().filter(|(_, outcome)| *outcome);
    let elements = wanted.filter_map(|(test, _)| {
        let mut fitting = scalars.iter().filter(|value| test.holds(Some(value)));
        fitting.find(|value| !refused(value)).cloned()
    });
    let array = Value::Array(elements.collect());
    let mut found = vec![None, Some(array)];
    found.extend(scalars.into_iter().map(Some));
    found
}

fn micros(seconds: &Value) -> i64 {
    let micros = seconds.as_f64().unwrap_or_default() * 1e6;
    (micros.round() as i64).clamp(*TIMES.start(), *TIMES.end())
}

/// Puts a value at a path, unless something else than an object is in its way.
fn place(metadata: &mut Value, path: &[String], value: &Value) {
    let Some((last, above)) = path.split_last() else {
        return;
    };
    let mut at = metadata;
    for name in above {
        let Value::Object(object) = at else {
            return;
        };
        at = object
            .entry(name.clone())
            .or_insert_with(|| Value::Object(Map::new()));
    }
    if let Value::Object(object) = at {
        object.insert(last.clone(), value.clone());
    }
}

#[cfg(test)]
mod tests {
    use crate::Filter;
    use serde_json::{Value, json};

    fn holds_for_all(filter: &Value) -> bool {
        Filter::parse(&filter.to_string()).unwrap().holds_for_all()
    }

    #[test]
    fn what_no_memory_fails_is_seen_however_it_is_written() {
        for filter in [
            json!({}),
            json!({"$and": []}),
            json!({"$and": [{}, {"$and": [{}]}]}),
            json!({"$or": [{}, {"a": 1}]}),
            json!({"$not": {"$or": []}}),
            json!({"$nor": []}),
            json!({"$not": {"$not": {}}}),
            json!({"$not": {"a": {"$in": []}}}),
            json!({"a": {"$nin": []}}),
            json!({"a": {"$not": {"$in": []}}}),
            json!({"a": {"$nin": []}, "b.c": {"$nin": []}}),
            json!({"$or": [{"a": 1}, {"$not": {"a": 1}}]}),
            json!({"$or": [{"a": 1}, {"a": {"$ne": 1}}]}),
            json!({"$or": [{"a": {"$exists": true}}, {"a": {"$exists": false}}]}),
            json!({"$or": [{"a": {"$exists": true}}, {"a.b": {"$exists": false}}]}),
            json!({"$or": [{"a": null}, {"a": {"$exists": true}}]}),
            json!({"$nor": [{"a": 1, "$not": {"a": 1}}]}),
            json!({"$not": {"a": {"$exists": false}, "a.b": 1}}),
            json!({"@id": {"$exists": true}}),
            json!({"@id": {"$prefix": ""}}),
            json!({"@id": {"$gte": ""}}),
            json!({"@id": {"$ne": ""}}),
            json!({"@id": {"$ne": 7}}),
            json!({"@id": {"$not": {"$exists": false}}}),
            json!({"@created_at": {"$gt": -1e18}}),
            json!({"@created_at": {"$lt": 1e18}}),
            json!({"@updated_at": {"$ne": null}}),
            json!({"$or": [{"@created_at": {"$gt": 5}}, {"@created_at": {"$lte": 5}}]}),
            json!({"$or": [{"@id": {"$gt": "m"}}, {"@id": {"$lte": "m"}}]}),
        ] {
            assert!(holds_for_all(&filter), "{filter}");
        }
    }

    #[test]
    fn what_some_memory_fails_is_a_condition() {
        for filter in [
            json!({"a": 1}),
            json!({"a": null}),
            json!({"a": {"$ne": 1}}),
            json!({"a": {"$ne": null}}),
            json!({"a": {"$ne": [1, 2]}}),
            json!({"a": {"$ne": {"b": 1}}}),
            json!({"a": {"$nin": [1, "x"]}}),
            json!({"a": {"$exists": false}}),
            json!({"a": {"$exists": true}}),
            json!({"a": {"$not": {"$gt": 5, "$lt": 5.1}}}),
            json!({"a": {"$not": {"$gt": 5, "$lt": 3}}}),
            json!({"a": {"$not": {"$prefix": ""}}}),
            json!({"$or": [{"a": {"$gt": 1}}, {"a": {"$lte": 1}}]}),
            json!({"$or": [{"a": {"$exists": false}}, {"a.b": {"$exists": false}}]}),
            json!({"$nor": [{"a": 1, "a.b": 1}, {"c": 2}]}),
            json!({"$not": {"a.b.c": 1, "a.d": 2}}),
            json!({"$or": []}),
            json!({"$not": {}}),
            json!({"a": {"$in": []}}),
            json!({"@id": {"$ne": "x"}}),
            json!({"@id": {"$nin": ["x", "y"]}}),
            json!({"@id": {"$not": {"$prefix": "note-"}}}),
            json!({"@id": {"$gt": "\0"}}),
            json!({"@created_at": {"$lt": 2e9}}),
            json!({"@created_at": {"$ne": 5}}),
            json!({"@updated_at": {"$gte": 0}}),
            json!({"$and": [{}, {"a": 1}]}),
        ] {
            assert!(!holds_for_all(&filter), "{filter}");
        }
        let many: Vec<Value> = (0..2000)
            .map(|i| json!({"source": format!("{i}.md")}))
            .collect();
        assert!(!holds_for_all(&json!({"$or": many})));
        assert!(!holds_for_all(&json!({"$nor": many})));
        let pairs: Vec<Value> = (0..40)
            .map(|i| json!({"$or": [{format!("a{i}"): 1}, {format!("b{i}"): 1}]}))
            .collect();
        assert!(!holds_for_all(&json!({"$and": pairs})));
        assert!(!holds_for_all(&json!({"$nor": pairs})));
    }
}
