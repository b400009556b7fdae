//! Markers of lists and quotes beyond a depth, written over.

use std::borrow::Cow;

/// Deepest nesting of lists and quotes that is told apart on a line.
pub const MAX_NESTING: usize = 32;

/// Columns of white space beyond which no list is looked for.
const MAX_INDENT: usize = 8 * MAX_NESTING;

/// The text with a letter in place of every marker that would nest deeper than [`MAX_NESTING`]; no place moves.
///
/// The parser looks through all open lists and quotes at every line that does not say how deep it is.
pub(crate) fn bounded(text: &str) -> Cow<'_, str> {
    let mut kept: Option<Vec<u8>> = None;
    let mut start = 0;
    for line in text.as_bytes().split_inclusive(|byte| *byte == b'\n') {
        let mut markers = Markers { line, at: 0 };
        let (mut count, mut indent) = (0, 0);
        while let Some(marker) = markers.next() {
            count += 1;
            indent += marker.spaces;
            if count == MAX_NESTING && is_rule(line) {
                break;
            }
            if count > MAX_NESTING || indent > MAX_INDENT {
                kept.get_or_insert_with(|| text.as_bytes().to_vec())[start + marker.at] = b'x';
            }
        }
        start += line.len();
    }
    // One byte of ASCII for another: it stays UTF-8.
    kept.and_then(|bytes| String::from_utf8(bytes).ok())
        .map_or(Cow::Borrowed(text), Cow::Owned)
}

struct Marker {
    /// Where it stands in its line.
    at: usize,
    /// White space before it.
    spaces: usize,
}

/// The markers a line begins with.
struct Markers<'a> {
    line: &'a [u8],
    at: usize,
}

impl Markers<'_> {
    fn next(&mut self) -> Option<Marker> {
        let rest = &self.line[self.at..];
        let spaces = rest.iter().take_while(|byte| is_space(**byte)).count();
        let rest = &rest[spaces..];
        let digits = rest.iter().take(9).take_while(|byte| byte.is_ascii_digit());
        let length = match (rest.first()?, digits.count()) {
            (b'>', _) => 1,
            (b'-' | b'+' | b'*', _) if ends(rest, 1) => 1,
            (_, digits)
                if digits > 0
                    && matches!(rest.get(digits), Some(b'.' | b')'))
                    && ends(rest, digits + 1) =>
            {
                digits + 1
            }
            _ => return None,
        };
        let at = self.at + spaces;
        self.at = at + length;
        Some(Marker { at, spaces })
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Whether a marker of a list ends at a place.
fn ends(rest: &[u8], at: usize) -> bool {
    rest.get(at)
        .is_none_or(|byte| is_space(*byte) || *byte == b'\n')
}

/// Whether a line is a rule: three or more of one mark, and nothing else.
fn is_rule(line: &[u8]) -> bool {
    let mut marks = line.iter().filter(|byte| !byte.is_ascii_whitespace());
    marks
        .next()
        .is_some_and(|first| matches!(first, b'-' | b'*') && marks.all(|mark| mark == first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_markers_beyond_the_bound_are_written_over() {
        for text in [
            "- > 1. x\n",
            "> ".repeat(MAX_NESTING).as_str(),
            "- ".repeat(99).as_str(),
            "1.5 x",
            "-a",
            "é\n- é",
        ] {
            assert_eq!(bounded(text), text);
        }
        let deep = "> ".repeat(MAX_NESTING) + "> - 12) é - x\n> b";
        let expected = "> ".repeat(MAX_NESTING) + "x x x2) é - x\n> b";
        assert_eq!(bounded(&deep), expected);
        let indented = " ".repeat(MAX_INDENT + 1) + "- a\n- b";
        assert_eq!(bounded(&indented), indented.replacen('-', "x", 1));
    }
}
