//! Counts the attributes of a tag that is still being read.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a name or between names.
    Name,
    AfterEquals,
    Unquoted,
    Quoted(u8),
}

/// html5ever compares the name of every attribute with all before it, and hands a tag over when it is
/// whole; so they are counted beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TagScan {
    /// About how many attributes have begun.
    pub attributes: usize,
    state: State,
    is_between: bool,
}

impl TagScan {
    pub fn new() -> Self {
        Self {
            attributes: 0,
            state: State::Name,
            is_between: false,
        }
    }

    /// The quote that is open.
    pub fn quote(&self) -> Option<char> {
        match self.state {
            State::Quoted(quote) => Some(char::from(quote)),
            _ => None,
        }
    }

    /// Read on; where the `>` stands that ends the tag.
    pub fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, &byte) in bytes.iter().enumerate() {
            let is_gap = byte.is_ascii_whitespace();
            match self.state {
                State::Quoted(quote) => {
                    if byte == quote {
                        self.state = State::Name;
                        self.is_between = false;
                        self.gap();
                    }
                }
                _ if byte == b'>' => return Some(at),
                State::AfterEquals => match byte {
                    _ if is_gap => {}
                    b'"' | b'\'' => self.state = State::Quoted(byte),
                    _ => self.state = State::Unquoted,
                },
                State::Unquoted if is_gap => {
                    self.state = State::Name;
                    self.gap();
                }
                State::Unquoted => {}
                State::Name if is_gap || byte == b'/' => self.gap(),
                State::Name => {
                    self.is_between = false;
                    if byte == b'=' {
                        self.state = State::AfterEquals;
                    }
                }
            }
        }
        None
    }

    fn gap(&mut self) {
        if !self.is_between {
            self.attributes += 1;
        }
        self.is_between = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(tag: &str) -> (usize, Option<usize>) {
        let mut scan = TagScan::new();
        let end = scan.advance(tag.as_bytes());
        (scan.attributes, end)
    }

    #[test]
    fn attributes_are_counted_and_quotes_hide_the_end() {
        assert_eq!(scanned("<a>"), (0, Some(2)));
        assert_eq!(scanned("<a   b\n c>"), (2, Some(9)));
        assert_eq!(scanned("<a/b/c"), (2, None));
        assert_eq!(scanned("<a b='x > y / z' c=\"d\"e=f>"), (3, Some(25)));
        assert_eq!(
            scanned("<img src=data:image/png;base64,a/b/c>"),
            (1, Some(36))
        );
    }
}
