//! Which lines of a text are JSON, for a parser that takes microseconds to say so.

use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use serde::de::IgnoredAny;

type PyNumbers<'py> = Bound<'py, PyArray1<i64>>;
type PyLines<'py> = (PyNumbers<'py>, PyNumbers<'py>, PyNumbers<'py>, String);

/// Lines longer than this, and lists of more lists, are left to the parser, which has limits of its own.
const MAX_BYTES: usize = 4000;
const MAX_LISTS: usize = 64;

/// Lines of a text, from 0: those that may be one JSON value each, those that are none, and those that are values
/// that are written here, with these, one a line. Blank ones are nowhere.
#[pyfunction]
fn json_lines<'py>(py: Python<'py>, text: &str, most_values: usize) -> PyLines<'py> {
    let (mut likely, mut others, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    let mut written = String::new();
    py.detach(|| {
        for (number, line) in (0..).zip(text.split('\n')) {
            let line = line.trim_matches(is_space);
            if line.is_empty() {
                continue;
            }
            let is_json = serde_json::from_str::<IgnoredAny>(line).is_ok();
            if is_json && write_plain(line, most_values, &mut written) {
                plain.push(number);
            } else if is_json || has_other_number(line) {
                likely.push(number);
            } else {
                others.push(number);
            }
        }
    });
    written.pop();
    (
        likely.into_pyarray(py),
        others.into_pyarray(py),
        plain.into_pyarray(py),
        written,
    )
}

/// What `str.strip` of Python removes: the separators of ASCII too.
fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

/// Python's parser takes numbers that are none in JSON; nothing else that JSON refuses.
fn has_other_number(line: &str) -> bool {
    line.contains("NaN") || line.contains("Infinity")
}

/// Appends a value of JSON as Python writes it, and a line feed; false where reading and writing may change more
/// of it than its white space: objects, escapes, floats, lists of many values, and what says nothing.
fn write_plain(line: &str, most_values: usize, written: &mut String) -> bool {
    let before = written.len();
    let is_written = line.len() <= MAX_BYTES
        && !line.contains(['\\', '{'])
        && match line.as_bytes() {
            [b'[', ..] => write_list(line, most_values, written) && &written[before..] != "[]",
            [b'"', inner @ .., b'"'] if !inner.is_empty() => {
                written.push_str(line[1..line.len() - 1].trim_matches(is_space));
                written.len() > before
            }
            [b'0'..=b'9' | b'-', ..] => {
                written.push_str(line);
                true
            }
            _ => false,
        };
    if is_written {
        written.push('\n');
    } else {
        written.truncate(before);
    }
    is_written
}

/// Appends a list with one space behind each comma.
fn write_list(line: &str, most_values: usize, written: &mut String) -> bool {
    let (mut lists, mut values) = (0, 1);
    let mut rest = line;
    while let Some(first) = rest.bytes().next() {
        let length = match first {
            b'"' => rest[1..].find('"').map_or(rest.len(), |end| end + 2),
            b'-' | b'0'..=b'9' => rest
                .find(|next: char| !matches!(next, '-' | '+' | '.' | 'e' | 'E' | '0'..='9'))
                .unwrap_or(rest.len()),
            b't' | b'f' | b'n' => rest
                .find(|next: char| !next.is_ascii_lowercase())
                .unwrap_or(rest.len()),
            b'[' | b']' | b',' | b' ' | b'\t' | b'\r' => 1,
            _ => return false,
        };
        let (token, after) = rest.split_at(length);
        match first {
            b' ' | b'\t' | b'\r' => {}
            b',' => {
                values += 1;
                written.push_str(", ");
            }
            // Zero loses its sign, and a float is rounded.
            b'-' | b'0'..=b'9' if token == "-0" || token.contains(['.', 'e', 'E']) => return false,
            _ => written.push_str(token),
        }
        lists += usize::from(first == b'[');
        if lists > MAX_LISTS {
            return false;
        }
        rest = after;
    }
    values <= most_values
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(json_lines, module)?)
}
