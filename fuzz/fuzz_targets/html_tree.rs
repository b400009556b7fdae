//! Any text as a page: parsed whole, walked to its end, every text on a line that is there.

#![no_main]

use html_tree::{Cursor, Event, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data).replace('\r', "\n");
    let last = text.matches('\n').count() + 1;
    let page = parse(&text);
    let (mut cursor, mut depth) = (Cursor::default(), 0);
    while let Some(event) = page.next(&mut cursor) {
        match event {
            Event::Open { .. } => depth += 1,
            Event::Text { line, .. } => assert!((1..=last).contains(&(line as usize))),
            Event::Close => depth -= 1,
        }
    }
    assert_eq!(depth, 0);
});
