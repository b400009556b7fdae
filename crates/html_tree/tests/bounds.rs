//! Whatever a page holds, its text is read with its lines, in bounded depth and linear size.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use html_tree::{Cursor, Event, Limit, MAX_DEPTH, parse};
use proptest::prelude::*;

/// The text of a page with the line of each piece, and the deepest nesting.
fn read(page: &str) -> (Vec<(String, u32)>, usize) {
    let page = parse(page);
    let (mut texts, mut depth, mut deepest) = (Vec::new(), 0usize, 0);
    let mut cursor = Cursor::default();
    while let Some(event) = page.next(&mut cursor) {
        match event {
            Event::Open { .. } => depth += 1,
            Event::Text { text, line } => texts.push((text.to_owned(), line)),
            Event::Close => depth -= 1,
        }
        deepest = deepest.max(depth);
    }
    assert_eq!(depth, 0);
    (texts, deepest)
}

fn words(page: &str) -> Vec<(String, u32)> {
    let (texts, _) = read(page);
    let words = texts.into_iter().flat_map(|(text, line)| {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        words.into_iter().map(move |word| (word, line))
    });
    words.collect()
}

fn limits(page: &str) -> Vec<Limit> {
    parse(page).limits.iter().map(|(limit, _)| *limit).collect()
}

#[test]
fn every_word_knows_its_line() {
    let page = "<!doctype html>\n<title>a\nb</title>\n<p\n class=x>c\nd &amp; <pre>\ne\n\nf</pre><!--\n\n-->g";
    let expected = [
        ("a", 2),
        ("b", 3),
        ("c", 5),
        ("d", 6),
        ("&", 6),
        ("e", 7),
        ("f", 9),
        ("g", 11),
    ];
    let found = words(page);
    let found: Vec<_> = found
        .iter()
        .map(|(word, line)| (word.as_str(), *line))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn nesting_is_bounded_and_the_text_below_is_kept() {
    let page = format!(
        "{}deep{}<p>after",
        "<div>".repeat(50_000),
        "</div>".repeat(50_000)
    );
    let (texts, deepest) = read(&page);
    let all: String = texts.into_iter().map(|(text, _)| text).collect();
    assert!(all.contains("deep") && all.contains("after"));
    assert!(deepest <= MAX_DEPTH as usize + 2);
    assert_eq!(limits(&page), [Limit::Depth]);
}

#[test]
fn attributes_are_bounded_whatever_stands_in_their_quotes() {
    let many: Vec<_> = (0..5000).map(|n| format!(" a{n}=\"x > y\"")).collect();
    let many = many.concat();
    for end in [">", "/>", " '>"] {
        let page = format!("<p>one <a{many}{end}two</a> three");
        assert!(limits(&page).contains(&Limit::Attributes), "{end}");
        assert!(
            words(&page).iter().any(|(word, _)| word == "three"),
            "{end}"
        );
    }
    let picture = format!(
        "<img alt=one src='data:image/png;base64,{}'>two",
        "a/b ".repeat(50_000)
    );
    assert_eq!(limits(&picture), []);
    let comment = format!("<!-- {} -->two", "<a b c ".repeat(50_000));
    assert_eq!(limits(&comment), []);
    let script = format!("<script>{}</script>two", "if (a<b c d) ".repeat(50_000));
    assert_eq!(limits(&script), []);
}

#[test]
fn nodes_are_bounded_and_the_text_beyond_is_kept() {
    let (texts, _) = read(&("x\n".repeat(1_500_000) + "<p>last"));
    assert!(texts.len() <= 1_000_100);
    let all: usize = texts
        .iter()
        .map(|(text, _)| text.matches('x').count())
        .sum();
    assert_eq!(all, 1_500_000);
    assert!(texts.iter().any(|(text, _)| text.ends_with("last")));
    assert!(texts.iter().all(|(text, _)| text.len() <= 1 << 16));
    assert_eq!(
        texts
            .last()
            .map(|(text, line)| line + text.matches('\n').count() as u32),
        Some(1_500_001)
    );
    assert_eq!(
        limits(&("x\n".repeat(1_500_000) + "<p>last")),
        [Limit::Nodes]
    );
}

#[test]
fn nothing_is_added_to_a_full_tree() {
    const TIMES: usize = 700_000;
    for piece in [
        "x</p>",
        "x</br>",
        "<p>x</p>",
        "x<br>",
        "<b>x</b>",
        "x<!-- -->",
    ] {
        let page = parse(&(piece.repeat(TIMES) + "<div hidden>y</div>last"));
        let (mut nodes, mut text, mut cursor) = (0, String::new(), Cursor::default());
        while let Some(event) = page.next(&mut cursor) {
            nodes += usize::from(!matches!(event, Event::Close));
            if let Event::Text { text: more, .. } = event {
                text.push_str(more);
            }
        }
        assert!(nodes <= 1_000_100, "{piece}: {nodes} nodes");
        assert_eq!(text.matches('x').count(), TIMES, "{piece}");
        assert!(text.ends_with("last"), "{piece}");
        let is_full = page.limits.iter().any(|(limit, _)| *limit == Limit::Nodes);
        assert_eq!(is_full, !piece.contains('!'), "{piece}");
    }
}

#[test]
fn attributes_of_elements_that_are_opened_again_are_bounded() {
    // Without the bound this takes forty gigabytes.
    let page = format!(
        "<p><b class='{}'>{}last",
        "x".repeat(1_000_000),
        "<p>y".repeat(40_000)
    );
    let (texts, _) = read(&page);
    let all: String = texts.into_iter().map(|(text, _)| text).collect();
    assert_eq!(all.matches('y').count(), 40_000);
    assert!(all.ends_with("last"));
    assert_eq!(limits(&page), [Limit::Nodes]);
}

/// Pieces of markup that parsers stumble over.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z]{1,6}",
        Just("\n".to_owned()),
        "</?(p|b|a|table|td|tr|div|svg|math|select|option|template|form|script|title|li|frameset|mi)( x='1')?>",
        "(<!--|-->|<!\\[CDATA\\[|\\]\\]>|<!|<\\?|&|&amp;|&#0;|<|>|\"|'|=|/|\0)",
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_page_is_parsed(page in soup()) {
        let last = page.matches('\n').count() as u32 + 1;
        let (texts, _) = read(&page);
        for (_, line) in texts {
            prop_assert!((1..=last).contains(&line));
        }
    }
}
