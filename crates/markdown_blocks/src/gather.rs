//! The parser's events on their way to blocks.

use std::ops::Range;

use pulldown_cmark::{Event, Tag};

use crate::{Block, Blocks, Kind};

/// Blocks that come together are not longer than this.
const TOGETHER_BYTES: usize = 4096;

/// What had been read when a block began.
#[derive(Clone, Copy, Default)]
struct Mark {
    start: usize,
    blocks: usize,
    last: Option<Block>,
    titles: usize,
}

pub(crate) struct Gather<'a> {
    text: &'a str,
    apart: usize,
    found: Blocks,
    /// Elements that are open.
    depth: usize,
    /// Whether the outermost one is a list or table, whose parts are blocks.
    is_container: bool,
    is_heading: bool,
    /// What the heading that is open says.
    title: String,
    /// The byte up to which lines were taken or passed by.
    passed: usize,
    /// How far lines have been counted: a byte, and the line breaks before it.
    counted: (usize, usize),
    /// The last place at which the text could have been cut.
    cut: Mark,
}

impl<'a> Gather<'a> {
    pub fn new(text: &'a str, apart: usize) -> Self {
        Self {
            text,
            apart,
            found: Blocks::default(),
            depth: 0,
            is_container: false,
            is_heading: false,
            title: String::new(),
            passed: 0,
            counted: (0, 0),
            cut: Mark::default(),
        }
    }

    pub fn event(&mut self, event: Event<'_>, range: Range<usize>) {
        match event {
            Event::Start(tag) => {
                if self.depth == 0 {
                    self.begin(&tag, range);
                } else if self.depth == 1 && self.is_container {
                    self.part(&tag, range);
                }
                self.depth += 1;
            }
            Event::End(_) => {
                self.depth -= 1;
                if self.depth == 0 && std::mem::take(&mut self.is_heading) {
                    self.end_title();
                }
            }
            Event::Rule if self.depth == 0 => self.mark(range.start),
            Event::Text(words) | Event::Code(words) if self.is_heading => {
                self.title.push_str(&words);
            }
            Event::SoftBreak | Event::HardBreak if self.is_heading => self.title.push(' '),
            _ => {}
        }
    }

    /// All blocks, or those before the last place where the text can be cut.
    pub fn finish(mut self, is_whole: bool) -> Blocks {
        if is_whole {
            self.pass(self.text.len());
            self.found.end = self.text.len();
        } else {
            self.found.blocks.truncate(self.cut.blocks);
            if let (Some(last), Some(kept)) = (self.found.blocks.last_mut(), self.cut.last) {
                *last = kept;
            }
            self.found.titles.truncate(self.cut.titles);
            self.found.end = self.cut.start;
        }
        self.found
    }

    fn begin(&mut self, tag: &Tag<'_>, range: Range<usize>) {
        self.is_container = matches!(tag, Tag::List(_) | Tag::Table(_));
        self.mark(range.start);
        let kind = match tag {
            Tag::List(_) | Tag::Table(_) => return,
            Tag::Heading { level, .. } => {
                self.is_heading = true;
                Kind::Heading(*level as u8)
            }
            Tag::CodeBlock(_) => Kind::Code,
            Tag::HtmlBlock => Kind::Html,
            _ => Kind::Prose,
        };
        self.take(kind, range);
    }

    /// Write down the words of a title, a blank between them.
    fn end_title(&mut self) {
        let mut words = self.title.split(is_white).filter(|word| !word.is_empty());
        if let Some(first) = words.next() {
            self.found.titles.push_str(first);
        }
        for word in words {
            self.found.titles.push(' ');
            self.found.titles.push_str(word);
        }
        self.found.titles.push('\n');
        self.title.clear();
    }

    /// An item of a list, or a row of a table.
    fn part(&mut self, tag: &Tag<'_>, range: Range<usize>) {
        if matches!(tag, Tag::Item) {
            // An item begins a list as well as it goes on with one; a row without its head is none.
            self.mark(range.start);
            self.take(Kind::Prose, range);
        } else {
            self.take(Kind::Row, range);
        }
    }

    /// Note that the text can be cut before the line of a place.
    fn mark(&mut self, place: usize) {
        let start = self.line_start(place);
        self.pass(start);
        self.cut = Mark {
            start,
            blocks: self.found.blocks.len(),
            last: self.found.blocks.last().copied(),
            titles: self.found.titles.len(),
        };
    }

    fn take(&mut self, kind: Kind, range: Range<usize>) {
        let start = self.line_start(range.start).max(self.passed);
        self.pass(start);
        let length = self.text[start..range.end.max(start)].trim_end().len();
        if length == 0 {
            return;
        }
        let end = self.line_end(start + length);
        self.add(kind, start, end);
        self.passed = end;
    }

    fn add(&mut self, kind: Kind, start: usize, end: usize) {
        let line = self.line(start);
        let last_line = self.line(end);
        let is_small = self.found.blocks.len() >= self.apart;
        if let Some(last) = self.found.blocks.last_mut()
            && is_small
            && last.kind == kind
            && matches!(kind, Kind::Prose | Kind::Code | Kind::Row)
            && end - last.start <= TOGETHER_BYTES
            && self.text[last.end..start].trim().is_empty()
        {
            (last.end, last.last_line) = (end, last_line);
            return;
        }
        self.found.blocks.push(Block {
            kind,
            start,
            end,
            line,
            last_line,
        });
    }

    /// Pass by lines that are no block of `CommonMark`, up to the beginning of one.
    fn pass(&mut self, start: usize) {
        while self.passed < start {
            let end = self.line_end(self.passed);
            if is_footnote(&self.text[self.passed..end]) {
                self.add(Kind::Footnote, self.passed, end);
            }
            self.passed = self.text.len().min(end + 1);
        }
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |end| end + 1)
    }

    fn line_end(&self, at: usize) -> usize {
        self.text[at..]
            .find('\n')
            .map_or(self.text.len(), |end| at + end)
    }

    /// The line breaks before a place that is not before the last one asked for.
    fn line(&mut self, at: usize) -> usize {
        let (before, lines) = self.counted;
        let more = self.text.as_bytes()[before..at]
            .iter()
            .filter(|byte| **byte == b'\n');
        self.counted = (at, lines + more.count());
        self.counted.1
    }
}

/// Whether a letter parts words, to Python as well, which counts the separators of ASCII.
fn is_white(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\x1c'..='\x1f')
}

/// Whether a line is `[^name]: ...`.
fn is_footnote(line: &str) -> bool {
    line.trim_start().strip_prefix("[^").is_some_and(|rest| {
        let name = rest.find([']', ' ', '\t']).unwrap_or(0);
        name > 0 && rest[name..].starts_with("]:")
    })
}
