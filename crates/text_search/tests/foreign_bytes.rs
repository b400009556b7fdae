//! Whatever the bytes of an index are, under checksums that fit or not: it is refused, or read without a crash.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use std::io;
use text_search::{Accumulator, Bm25, Index, Query, Stamp, Statistics, write_index};
use vector_search::{Bitmap, TopK};

const STAMP: Stamp = Stamp {
    size_bytes: 5,
    crc32c: 6,
};
const ROWS: usize = 400;
const HEADER: usize = 64;
const ENTRY: usize = 24;

fn sound() -> Vec<u8> {
    let text = |row: usize| {
        format!(
            "common word{row} {} shared{} 東京",
            "many ".repeat(row % 5),
            row % 7
        )
    };
    write_index::<_, io::Error>(Vec::new(), ROWS, STAMP, 2, &|rows| {
        Ok(rows.map(text).collect())
    })
    .unwrap()
}

/// Gives the only part, and the list of parts, the checksums that fit.
fn seal(bytes: &mut [u8]) {
    let end = bytes.len() - 4;
    let directory = end - ENTRY;
    let crc = crc32c::crc32c(&bytes[HEADER..directory]);
    bytes[directory + 16..directory + 20].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[directory..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
}

/// Opens, searches and verifies; errors are welcome. Returns whether there was none.
fn read(bytes: Vec<u8>) -> bool {
    let Ok(index) = Index::open(bytes.into(), ROWS, STAMP) else {
        return false;
    };
    let query = Query::new("common word17 many shared3 東京 none");
    let mut some = Bitmap::empty(ROWS);
    for row in (0..ROWS).step_by(3) {
        some.insert(row);
    }
    let mut is_read = true;
    for some in [None, Some(&some)] {
        let Ok(found) = index.find(&query) else {
            is_read = false;
            continue;
        };
        let mut statistics = Statistics::new(&query);
        is_read &= found.count(some, &mut statistics).is_ok();
        let scorer = statistics.scorer(Bm25::default());
        let mut best = TopK::new(7, f32::MIN_POSITIVE);
        let scored = found.score(
            &scorer,
            some,
            &[0, 399],
            &mut Accumulator::default(),
            &mut best,
        );
        is_read &= scored.is_ok();
        assert!(best.into_sorted().iter().all(|scored| scored.row < ROWS));
    }
    is_read & index.check().is_ok()
}

#[test]
fn a_sound_index_is_read_and_its_bytes_depend_on_the_texts_alone() {
    assert!(read(sound()));
    let mut sealed = sound();
    seal(&mut sealed);
    assert_eq!(sealed, sound());
}

#[test]
fn every_damaged_byte_is_noticed() {
    let sound = sound();
    // The four bytes of zeros of an entry of the list are under its checksum, too.
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        assert!(!read(bytes), "byte {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn foreign_bytes_under_fitting_checksums_are_no_crash(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = sound();
        let part = HEADER..bytes.len() - 4 - ENTRY;
        for (at, value) in edits {
            let at = part.start + at.index(part.len());
            bytes[at] = value;
        }
        seal(&mut bytes);
        read(bytes);
    }
}
