//! Whatever a document holds, its blocks are whole lines in order, wherever it is cut, in linear time.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use markdown_blocks::{Block, Blocks, Kind, read};
use proptest::prelude::*;

fn whole(text: &str) -> Blocks {
    read(text, true, usize::MAX)
}

fn texts(text: &str) -> Vec<(Kind, &str, usize, usize)> {
    let blocks = whole(text).blocks.into_iter();
    blocks
        .map(|block| {
            (
                block.kind,
                &text[block.start..block.end],
                block.line,
                block.last_line,
            )
        })
        .collect()
}

#[test]
fn blocks_are_told_apart_with_their_lines() {
    let text = "# A *b* `c`\n\none\ntwo\n- a\n\n  > b\n- c\n\n    d\n\n***\n> # e\n\n```\nf\n\n```\n<p>\ng\n\n    h\n\
        \n| i | j |\n|---|---|\n| k |\n\n[l]: m\n[^n]: o\nTitle\n===";
    let expected = [
        (Kind::Heading(1), "# A *b* `c`", 0, 0),
        (Kind::Prose, "one\ntwo", 2, 3),
        (Kind::Prose, "- a\n\n  > b", 4, 6),
        (Kind::Prose, "- c\n\n    d", 7, 9),
        (Kind::Prose, "> # e", 12, 12),
        (Kind::Code, "```\nf\n\n```", 14, 17),
        (Kind::Html, "<p>\ng", 18, 19),
        (Kind::Code, "    h", 21, 21),
        (Kind::Row, "| i | j |", 23, 23),
        (Kind::Row, "| k |", 25, 25),
        (Kind::Footnote, "[^n]: o", 28, 28),
        (Kind::Heading(1), "Title\n===", 29, 30),
    ];
    assert_eq!(texts(text), expected);
    assert_eq!(whole(text).titles, "A b c\nTitle\n");
}

#[test]
fn words_of_titles_stand_a_blank_apart() {
    let text = "# a\t b\u{a0}&nbsp;c\u{1f}d\u{3000}\n#\n# &#32;\nx  \n y\n===\n";
    assert_eq!(whole(text).titles, "a b c d\n\n\nx y\n");
}

#[test]
fn a_piece_leaves_its_last_block_to_the_next() {
    for (text, end) in [
        ("one\n\ntwo\nthree\n", 5),
        ("- one\n- two\n", 6),
        ("# one\n[a]: b\n", 0),
        ("|a|\n|-|\n|b|\n|c|\n", 0),
        ("one\n\n---\n", 5),
        ("> one\n>\n> two\n", 0),
    ] {
        let found = read(text, false, usize::MAX);
        assert_eq!(found.end, end, "{text}");
        assert!(found.blocks.iter().all(|block| block.end <= end));
    }
}

#[test]
fn many_small_blocks_come_together() {
    let text = "- x\n".repeat(5000) + "# y\n" + &"z\n\n".repeat(5000);
    let found = read(&text, true, 10);
    assert!(found.blocks.len() < 30);
    let words: usize = found
        .blocks
        .iter()
        .map(|block| text[block.start..block.end].split_whitespace().count())
        .sum();
    assert_eq!(words, 5000 * 2 + 2 + 5000);
}

#[test]
fn nesting_costs_no_line_below_it_more_than_its_bound() {
    // Without the bound this takes hours.
    let text = "- ".repeat(500_000) + "x\n" + &"x\n".repeat(500_000);
    let found = whole(&text);
    assert_eq!(found.blocks.len(), 1);
}

fn soup(rare: &'static str) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z]{1,6}",
        "\n{1,2}",
        "(- |  - |1\\. |> |# |## |    |\t|```|~~~|\\||---|===|\\* )",
        "(<p>|<!--|-->|</p>|\\*|`|\\[|\\]|\\(|&amp;|\\\\|é|\u{a0})",
        "\\|a\\|\n\\|-\\|\n",
        rare,
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn is_apart(text: &str, blocks: &[Block]) -> bool {
    let ends = blocks.iter().map(|block| block.end);
    let begins = blocks
        .iter()
        .skip(1)
        .map(|block| block.start)
        .chain([text.len() + 1]);
    ends.zip(begins).all(|(end, begin)| end < begin)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_document_is_cut_into_whole_lines(text in soup("\\[\\^?a\\]: b")) {
        let found = whole(&text);
        prop_assert!(is_apart(&text, &found.blocks));
        prop_assert_eq!(found.end, text.len());
        let headings = found.blocks.iter().filter(|block| matches!(block.kind, Kind::Heading(_))).count();
        prop_assert_eq!(found.titles.matches('\n').count(), headings);
        for block in found.blocks {
            prop_assert!(block.start == 0 || text.as_bytes()[block.start - 1] == b'\n');
            prop_assert!(block.end == text.len() || text.as_bytes()[block.end] == b'\n');
            prop_assert_eq!(text[..block.start].matches('\n').count(), block.line);
            prop_assert_eq!(text[..block.end].matches('\n').count(), block.last_line);
        }
    }

    #[test]
    fn pieces_have_the_blocks_of_the_whole(text in soup("x"), at in 0usize..200) {
        // No targets of links, which are all that pieces do not know of each other.
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        let cut: usize = lines.iter().take(at % (lines.len() + 1)).map(|line| line.len()).sum();
        let first = read(&text[..cut], false, usize::MAX);
        let rest = read(&text[first.end..], true, usize::MAX);
        let above = text[..first.end].matches('\n').count();
        let moved = rest.blocks.into_iter().map(|block| Block {
            start: block.start + first.end,
            end: block.end + first.end,
            line: block.line + above,
            last_line: block.last_line + above,
            ..block
        });
        let joined: Vec<_> = first.blocks.into_iter().chain(moved).collect();
        prop_assert_eq!(joined, whole(&text).blocks);
    }
}
