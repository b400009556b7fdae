//! Any text as Markdown, whole and in two pieces: every block is lines of the text, in order.

#![no_main]

use libfuzzer_sys::fuzz_target;
use markdown_blocks::read;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data).replace('\r', "\n");
    for is_whole in [true, false] {
        let found = read(&text, is_whole, 8);
        let mut end = 0;
        for block in &found.blocks {
            assert!(block.start >= end && block.end > block.start);
            assert!(block.start == 0 || text.as_bytes()[block.start - 1] == b'\n');
            assert_eq!(text[..block.start].matches('\n').count(), block.line);
            end = block.end + 1;
        }
        assert!(found.end <= text.len());
        read(&text[found.end..], true, usize::MAX);
    }
});
