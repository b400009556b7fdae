//! A page in, its tree out.

use html5ever::TokenizerResult;
use html5ever::buffer_queue::BufferQueue;
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::{Tokenizer, TokenizerOpts};
use html5ever::tree_builder::{TreeBuilder, TreeBuilderOpts, TreeSink};

use crate::arena::Arena;
use crate::guard::{Guard, Limit};
use crate::sink::Sink;
use crate::tag_scan::TagScan;

/// Most attributes of one tag.
pub const MAX_ATTRIBUTES: usize = 1024;

/// Bytes the tokenizer is fed between two looks at what it makes of them.
const PIECE_BYTES: usize = 4096;

/// A page that was parsed.
#[derive(Debug)]
pub struct Page {
    pub(crate) arena: Arena,
    /// The bounds that were met, each with the first line where it was.
    pub limits: Vec<(Limit, u32)>,
}

/// Markup whose token has not come yet.
#[derive(Clone, Copy)]
enum Pending {
    None,
    Tag(TagScan),
    /// A comment, a declaration, a character reference.
    Other,
}

/// Parse a page as a browser without scripts does.
///
/// Every text is taken, whatever is wrong with the markup. Time and memory are linear in the size; what
/// would make them grow faster is bounded, and named in [`Page::limits`].
///
/// `text` has line feeds only as line ends, and is shorter than 4 GiB.
#[must_use]
pub fn parse(text: &str) -> Page {
    let options = TreeBuilderOpts {
        scripting_enabled: false,
        ..TreeBuilderOpts::default()
    };
    let guard = Guard::new(TreeBuilder::new(Sink::new(), options), text.len());
    let mut feed = Feed {
        tokenizer: Tokenizer::new(guard, TokenizerOpts::default()),
        pending: Pending::None,
        line: 1,
    };
    feed.all(text);
    feed.tokenizer.end();
    let guard = feed.tokenizer.sink;
    Page {
        arena: guard.builder.sink.finish(),
        limits: guard.limits.into_inner(),
    }
}

struct Feed {
    tokenizer: Tokenizer<Guard>,
    pending: Pending,
    /// The line of what is fed next.
    line: u32,
}

impl Feed {
    fn all(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            if let Pending::Tag(scan) = self.pending
                && scan.attributes > MAX_ATTRIBUTES
            {
                rest = self.cut_tag(scan, rest);
                continue;
            }
            let (piece, after) = rest.split_at(piece_length(rest));
            self.piece(piece);
            rest = after;
        }
    }

    fn piece(&mut self, piece: &str) {
        if let Pending::None = self.pending {
            self.pending = match piece.as_bytes() {
                [b'<', b'/', first, ..] | [b'<', first, ..] if first.is_ascii_alphabetic() => {
                    Pending::Tag(TagScan::new())
                }
                _ => Pending::Other,
            };
        }
        self.feed(piece);
        if self.tokenizer.sink.has_token.take() {
            self.pending = Pending::None;
        } else if let Pending::Tag(scan) = &mut self.pending {
            scan.advance(piece.as_bytes());
        }
    }

    /// End a tag that has too many attributes and go on behind it.
    fn cut_tag<'a>(&mut self, mut scan: TagScan, rest: &'a str) -> &'a str {
        self.tokenizer.sink.meet(Limit::Attributes, self.line);
        let open_quote = scan.quote();
        let end = scan
            .advance(rest.as_bytes())
            .map_or(rest.len(), |at| at + 1);
        let (cut, after) = rest.split_at(end);
        // Lines keep their numbers: white space between attributes means nothing.
        let breaks = cut.bytes().filter(|byte| *byte == b'\n').count();
        let mut ending: String = open_quote.into_iter().collect();
        ending.extend(std::iter::repeat_n('\n', breaks));
        ending.push('>');
        self.feed(&ending);
        self.tokenizer.sink.has_token.set(false);
        self.pending = Pending::None;
        after
    }

    fn feed(&mut self, piece: &str) {
        self.line += piece.bytes().filter(|byte| *byte == b'\n').count() as u32;
        let queue = BufferQueue::default();
        queue.push_back(StrTendril::from_slice(piece));
        // It also stops behind scripts and declared encodings, which mean nothing here.
        while !matches!(self.tokenizer.feed(&queue), TokenizerResult::Done) {}
    }
}

/// Length of what is fed next: up to the next `<`, or a bounded piece.
fn piece_length(rest: &str) -> usize {
    let window = &rest.as_bytes()[..rest.len().min(PIECE_BYTES)];
    let next = window.iter().skip(1).position(|byte| *byte == b'<');
    if let Some(at) = next {
        return at + 1;
    }
    let mut end = window.len();
    while !rest.is_char_boundary(end) {
        end -= 1;
    }
    end
}
