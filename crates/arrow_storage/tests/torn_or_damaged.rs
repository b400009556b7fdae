//! The end of a log that was not closed: what a loss of power tore is cut off, and what the disk damaged is named.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use arrow_storage::{Durability, Error, Memory, Options, Store, Vfs};
use common::{Dice, Fault, FaultFs, Survivors};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Contents = BTreeMap<String, String>;

const HEADER_BYTES: usize = 32;

fn dir() -> &'static Path {
    Path::new("/store")
}

fn none() -> impl FnMut() -> arrow_storage::Result<()> {
    || Ok(())
}

fn open_as(fs: &FaultFs, options: Options) -> arrow_storage::Result<Store> {
    let vfs = Arc::new(fs.clone());
    Store::open(dir(), Options { vfs, ..options }, &mut none())
}

fn open(fs: &FaultFs, durability: Durability) -> arrow_storage::Result<Store> {
    let options = Options {
        durability,
        ..Options::default()
    };
    open_as(fs, options)
}

fn read(fs: &FaultFs, skip_damaged: bool) -> arrow_storage::Result<Store> {
    let options = Options {
        read_only: true,
        skip_damaged,
        ..Options::default()
    };
    open_as(fs, options)
}

/// A vector with one number that is not zero.
fn one_hot(dimension: usize, content: &str) -> Vec<f32> {
    let mut vector = vec![0.0; dimension];
    vector[content.len() % dimension] = 1.0;
    vector
}

fn save(store: &Store, id: &str, content: &str, dimension: usize) -> arrow_storage::Result<()> {
    let vector = one_hot(dimension, content);
    let memory = Memory::new(id.into(), content.into(), "{}".into(), vector);
    store.save(vec![memory], false, &mut none())
}

fn delete(store: &Store, ids: &[&str]) {
    let ids: Vec<String> = ids.iter().map(|&id| id.into()).collect();
    store.delete(&ids, &mut none()).unwrap();
}

fn contents(store: &Store) -> Contents {
    let snapshot = store.snapshot().unwrap();
    let mut scan = snapshot.scan(None).unwrap();
    let mut found = Contents::new();
    loop {
        let batch = scan.next_batch(100).unwrap();
        if batch.is_empty() {
            return found;
        }
        for memory in batch {
            let vector = one_hot(memory.embedding.len(), &memory.content);
            assert_eq!(memory.embedding, vector, "{}", memory.id);
            found.insert(memory.id.clone(), memory.content.clone());
        }
    }
}

fn log_of(fs: &FaultFs) -> PathBuf {
    let names = fs.list(dir()).unwrap();
    let mut logs = names.iter().filter(|name| name.starts_with("log-"));
    dir().join(logs.next_back().unwrap())
}

/// Where the frames of a log begin, and where the last one ends.
fn frames(log: &[u8]) -> Vec<usize> {
    let mut starts = vec![HEADER_BYTES];
    while let Some(b"FRM2") = log
        .get(starts[starts.len() - 1]..)
        .and_then(|rest| rest.get(..4))
    {
        let at = starts[starts.len() - 1];
        let len = u32::from_le_bytes(log[at + 4..at + 8].try_into().unwrap());
        starts.push(at + HEADER_BYTES + len as usize);
    }
    starts
}

/// The last commits of a log, by what they do.
const LASTS: [&str; 6] = [
    "adds",
    "adds much",
    "replaces",
    "deletes one",
    "deletes a few",
    "deletes many",
];

/// A writer that was killed behind a commit; returns what was there before and is there after it.
fn killed(dimension: usize, last: &str) -> (FaultFs, Contents, Contents) {
    let fs = FaultFs::default();
    let store = open(&fs, Durability::Commit).unwrap();
    for i in 0..30 {
        save(&store, &format!("segment {i}"), "in a segment", dimension).unwrap();
    }
    store.flush(&mut none()).unwrap();
    for (id, len) in [("a", 3), ("b", 700), ("c", 40)] {
        save(&store, id, &"x".repeat(len), dimension).unwrap();
    }
    delete(&store, &["segment 0"]);
    let before = contents(&store);
    match last {
        "adds" => save(&store, "new", "y", dimension).unwrap(),
        "adds much" => save(&store, "new", &"y\0\0".repeat(900), dimension).unwrap(),
        "replaces" => save(&store, "b", "another", dimension).unwrap(),
        "deletes one" => delete(&store, &["segment 3"]),
        "deletes a few" => delete(&store, &["a", "segment 4", "c"]),
        _ => {
            let ids: Vec<String> = (2..30).map(|i| format!("segment {i}")).collect();
            delete(&store, &ids.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
    let after = contents(&store);
    let disk = fs.next_process(&[]).after_power_loss(Survivors::Nothing);
    (disk, before, after)
}

/// Damage is named by whoever opens or verifies the store. Around it is shown what `rest` allows.
fn is_named(fs: &FaultFs, log: &Path, told: &str, rest: impl FnOnce(&Contents) -> bool) {
    for opened in [
        read(fs, false),
        open(&fs.next_process(&[]), Durability::Commit),
    ] {
        match opened {
            Err(Error::Corrupted { path, .. }) => assert_eq!(path, log, "{told}"),
            other => panic!("{told}: {other:?}"),
        }
    }
    let store = read(fs, true).unwrap_or_else(|error| panic!("{told}: {error}"));
    let damage = store.verify(&mut none()).unwrap();
    let named = |error: &Error| matches!(error, Error::Corrupted { path, .. } if path == log);
    assert!(damage.iter().any(named), "{told}: {damage:?}");
    let found = contents(&store);
    assert!(rest(&found), "{told}: {:?}", found.keys());
}

#[test]
fn a_bit_that_flips_in_the_last_commit_is_named_wherever_it_is() {
    let mut flips = 0;
    for dimension in [2, 300] {
        for last in LASTS {
            let (fs, before, after) = killed(dimension, last);
            let log = log_of(&fs);
            let starts = frames(&fs.read(&log).unwrap());
            let [.., start, end] = starts[..] else {
                panic!("{starts:?}")
            };
            // What the commit added may be missing, and what it removed never comes back.
            let kept: Contents = after
                .iter()
                .filter(|(id, content)| before.get(*id) == Some(content))
                .map(|(id, content)| (id.clone(), content.clone()))
                .collect();
            for at in start..end {
                // All bits of head and footer, and of the rest one a byte.
                let is_framing = at < start + 48 || at + 48 > end;
                let bits = if is_framing { 0..8 } else { at % 8..at % 8 + 1 };
                for bit in bits {
                    let damaged = fs.next_process(&[]);
                    damaged.damage(&log, |bytes| bytes[at] ^= 1 << bit);
                    let told = format!(
                        "{dimension} dimensions, {last}: byte {} bit {bit}",
                        at - start
                    );
                    is_named(&damaged, &log, &told, |found| {
                        *found == after
                            || *found == kept
                            || last == "deletes many" && found.is_empty()
                    });
                    flips += 1;
                }
            }
        }
    }
    println!("{flips} flipped bits");
}

#[test]
fn a_run_of_foreign_bytes_in_the_last_commit_is_named() {
    let mut dice = Dice::new(1);
    for last in LASTS {
        let (fs, before, after) = killed(5, last);
        let log = log_of(&fs);
        let starts = frames(&fs.read(&log).unwrap());
        let [.., start, end] = starts[..] else {
            panic!("{starts:?}")
        };
        for _ in 0..300 {
            let damaged = fs.next_process(&[]);
            let at = start + dice.below((end - start) as u64) as usize;
            // Where length and end are both gone, nothing tells that the commit was whole.
            let until = if at < start + 8 { end - 48 } else { end };
            let len = (1 + dice.below(600) as usize).min(until - at);
            let salt = dice.below(1 << 40);
            damaged.damage(&log, |bytes| {
                let mut dice = Dice::new(salt);
                // Not as a power loss leaves it.
                bytes[at..at + len].fill_with(|| 1 + dice.below(255) as u8);
            });
            let told = format!(
                "{last}: {len} bytes from byte {} of {}",
                at - start,
                end - start
            );
            let removed = |id: &String| before.contains_key(id) && before.get(id) != after.get(id);
            is_named(&damaged, &log, &told, |found| {
                !found
                    .iter()
                    .any(|(id, content)| removed(id) && after.get(id) != Some(content))
            });
        }
    }
}

#[test]
fn damage_to_the_last_commit_is_named_though_a_later_one_is_torn() {
    let (fs, _, after) = killed(300, "adds");
    let log = log_of(&fs);
    let bytes = fs.read(&log).unwrap();
    let starts = frames(&bytes);
    let [.., start, end] = starts[..] else {
        panic!("{starts:?}")
    };
    for at in start..end {
        if (at - start) / 4 == 1 {
            // The length: with two faults at once, nothing tells where the first of the commits ends.
            continue;
        }
        let damaged = fs.next_process(&[]);
        damaged.damage(&log, |log| {
            let torn = bytes[start..end - 300].to_vec();
            log.resize(log.len().max(end + torn.len()), 0);
            log[end..end + torn.len()].copy_from_slice(&torn);
            log[at] ^= 1;
        });
        let told = format!("byte {}", at - start);
        is_named(&damaged, &log, &told, |found| {
            found
                .iter()
                .all(|(id, content)| after.get(id) == Some(content))
        });
    }
}

/// The log as it was written before frames had footers.
fn without_footers(log: &[u8]) -> Vec<u8> {
    let salt = u32::from_le_bytes(log[12..16].try_into().unwrap());
    let starts = frames(log);
    let mut older = log[..HEADER_BYTES].to_vec();
    for frame in starts.windows(2).map(|ends| &log[ends[0]..ends[1]]) {
        let footer = u16::from_le_bytes([frame[14], frame[15]]) as usize;
        // The vectors of these end in a byte that is no zero.
        let padded = &frame[HEADER_BYTES..frame.len() - footer];
        let len = padded.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        let mut frame = [&frame[..HEADER_BYTES], padded].concat();
        frame[..4].copy_from_slice(b"FRM1");
        frame[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        frame[14..16].fill(0);
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(salt, &frame[..8]), &frame[12..]);
        frame[8..12].copy_from_slice(&crc.to_le_bytes());
        older.extend(frame);
    }
    older.resize(older.len().next_multiple_of(4096), 0);
    older
}

#[test]
fn a_log_without_footers_is_read_and_its_damage_named_where_that_can_be_told() {
    let fs = FaultFs::default();
    let store = open(&fs, Durability::Commit).unwrap();
    let full = |content: &str| {
        let vector = vec![1.5, content.len() as f32 + 0.3];
        let memory = Memory::new(content[..1].into(), content.into(), "{}".into(), vector);
        store.save(vec![memory], false, &mut none()).unwrap();
    };
    full("a first");
    full(&"b second ".repeat(300));
    full(&"c third ".repeat(300));
    let disk = fs.after_power_loss(Survivors::Nothing);
    let log = log_of(&disk);
    let older = without_footers(&disk.read(&log).unwrap());
    disk.damage(&log, |bytes| *bytes = older.clone());
    let count = |store: &Store| store.snapshot().unwrap().count();
    assert_eq!(count(&read(&disk, false).unwrap()), 3);
    let start = older
        .windows(4)
        .rposition(|bytes| bytes == b"FRM1")
        .unwrap();
    let end = older.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    for at in start..end {
        let damaged = disk.next_process(&[]);
        damaged.damage(&log, |bytes| bytes[at] ^= 1 << (at % 8));
        if (at - start) / 4 == 1 {
            // The length: nothing else tells it.
            continue;
        }
        is_named(&damaged, &log, &format!("byte {}", at - start), |found| {
            found.is_empty()
        });
    }
    for end in start..end {
        let cut = disk.next_process(&[]);
        cut.damage(&log, |bytes| bytes.truncate(end));
        assert_eq!(count(&read(&cut, false).unwrap()), 2, "{end}");
        cut.damage(&log, |bytes| bytes.resize(older.len(), 0));
        assert_eq!(count(&read(&cut, false).unwrap()), 2, "{end}, and zeros");
    }
    // A writer goes on behind it.
    let next = disk.next_process(&[]);
    let store = open(&next, Durability::Commit).unwrap();
    assert_eq!(
        (count(&store), store.verify(&mut none()).unwrap().len()),
        (3, 0)
    );
}

#[test]
fn a_commit_that_is_being_written_is_no_damage() {
    let (fs, before, _) = killed(300, "adds much");
    let log = log_of(&fs);
    let starts = frames(&fs.read(&log).unwrap());
    let [.., start, end] = starts[..] else {
        panic!("{starts:?}")
    };
    for written in start..end {
        let seen = fs.next_process(&[]);
        seen.damage(&log, |bytes| bytes[written..end].fill(0));
        let store =
            read(&seen, false).unwrap_or_else(|error| panic!("{}: {error}", written - start));
        assert_eq!(contents(&store), before, "{}", written - start);
        seen.damage(&log, |bytes| bytes.truncate(written));
        assert_eq!(
            contents(&read(&seen, false).unwrap()),
            before,
            "{}",
            written - start
        );
    }
}

/// Lengths of texts, so that commits are shorter than a sector, as long, and longer.
const LENGTHS: [usize; 9] = [1, 30, 2000, 411, 0, 900, 5000, 7, 60];

/// What a writer made of its commits.
struct Life {
    /// Contents behind each commit that did not fail.
    states: Vec<Contents>,
    /// Contents if one that failed is there all the same.
    uncertain: Vec<Contents>,
}

/// Commits of which any may fail; the writer goes on with the next. The power goes before it closes the store.
fn live_through(fs: &FaultFs, dimension: usize, durability: Durability) -> Life {
    let mut life = Life {
        states: vec![Contents::new()],
        uncertain: Vec::new(),
    };
    let Ok(store) = open(fs, durability) else {
        return life;
    };
    for (i, len) in LENGTHS.into_iter().enumerate() {
        let (id, content) = (format!("m{}", i % 6), "z".repeat(len));
        let saved = save(&store, &id, &content, dimension);
        let mut next = life.states[life.states.len() - 1].clone();
        next.insert(id, content);
        match saved {
            Ok(()) => life.states.push(next),
            Err(_) => life.uncertain.push(next),
        }
    }
    std::mem::forget(store);
    life
}

#[test]
fn power_lost_behind_a_commit_that_failed_is_no_damage() {
    let seeds = std::env::var("AIOS_CRASH_SEEDS").ok();
    let seeds: u64 = seeds.and_then(|text| text.parse().ok()).unwrap_or(12);
    let mut disks = 0;
    for (dimension, durability) in [
        (2, Durability::None),
        (400, Durability::None),
        (2, Durability::Commit),
        (400, Durability::Commit),
    ] {
        let whole = FaultFs::default();
        live_through(&whole, dimension, durability);
        for at in 0..=whole.operations() {
            let fs = FaultFs::with(&[Fault::Once(at, ErrorKind::StorageFull)]);
            let life = live_through(&fs, dimension, durability);
            let durable = match durability {
                Durability::Commit => life.states.len() - 1,
                _ => 0,
            };
            for seed in 0..seeds {
                let disk = fs.after_power_loss(Survivors::Some(seed * 7919 + at as u64));
                let told = format!(
                    "{dimension} dimensions, {durability:?}, operation {at} failed, disk {seed}"
                );
                let store = open(&disk, Durability::Commit)
                    .unwrap_or_else(|error| panic!("{told}: {error}"));
                let found = contents(&store);
                let known =
                    life.states[durable..].contains(&found) || life.uncertain.contains(&found);
                assert!(known, "{told}: {:?}", found.keys());
                disks += 1;
            }
        }
    }
    println!("{disks} simulated disks behind failed commits");
}
