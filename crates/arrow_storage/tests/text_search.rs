//! Whatever was saved, deleted, replaced, moved and merged: a search by words finds what a naive BM25 over the memories
//! that are there finds, with the same scores.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use arrow_storage::{
    Bm25, Filter, IndexState, Memory, Metric, Options, SearchOptions, Snapshot, Store, TextOptions,
};
use common::{
    Dice, Fault, FaultFs, Known, Model, Step as Call, Survivors, content, moving_workload, open,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Words without endings in several scripts, so that the oracle needs no stems.
const WORDS: [&str; 15] = [
    "ab12", "zz9", "q7", "k8s", "x86", "11", "2026", "猫", "東京", "é1", "пи3", "ab", "no", "w2v",
    "AB",
];

fn text(words: &[usize]) -> String {
    let words: Vec<&str> = words.iter().map(|&word| WORDS[word]).collect();
    words.join(" ")
}

/// The scores of all memories that hold a word of the query, by the definition.
fn oracle(
    memories: &BTreeMap<String, Vec<usize>>,
    query: &[usize],
    bm25: Bm25,
) -> BTreeMap<String, f64> {
    let n = memories.len() as f64;
    let mean = memories.values().map(Vec::len).sum::<usize>() as f64 / n.max(1.0);
    let folded = |word: usize| match WORDS[word] {
        "é1" => "e1",
        "AB" => "ab",
        other => other,
    };
    let rarity = |holding: f64| (1.0 + (n - holding + 0.5) / (holding + 0.5)).ln();
    let holding = |is_it: &dyn Fn(usize) -> bool| {
        memories
            .values()
            .filter(|words| words.iter().any(|&word| is_it(word)))
            .count() as f64
    };
    let mut scores = BTreeMap::new();
    for (id, words) in memories {
        let norm = f64::from(bm25.k1)
            * (1.0 - f64::from(bm25.b) + f64::from(bm25.b) * words.len() as f64 / mean.max(1.0));
        let mut score = 0.0;
        for &asked in query {
            let any_form = |word: usize| folded(word) == folded(asked);
            let this_form = |word: usize| word == asked && WORDS[word] != folded(word);
            let of_all = rarity(holding(&any_form));
            let more = (rarity(holding(&this_form)) - of_all).max(0.0);
            for (is_it, weight) in [
                (&any_form as &dyn Fn(usize) -> bool, of_all),
                (&this_form, more),
            ] {
                let count = words.iter().filter(|&&word| is_it(word)).count() as f64;
                score += weight * count / (count + norm);
            }
        }
        if score > 0.0 {
            scores.insert(id.clone(), score);
        }
    }
    scores
}

fn memory(id: &str, content: &str) -> Memory {
    let group = id.bytes().map(u64::from).sum::<u64>() % 3;
    let embedding = vec![1.0, content.len() as f32, group as f32 - 0.5];
    Memory::new(
        id.to_owned(),
        content.to_owned(),
        format!(r#"{{"group":{group}}}"#),
        embedding,
    )
}

fn options(top_k: usize) -> TextOptions<'static> {
    TextOptions {
        top_k,
        filter: None,
        bm25: Bm25::default(),
    }
}

fn compare(found: &[(Arc<Memory>, f32)], expected: &BTreeMap<String, f64>, top_k: usize) {
    let mut expected: Vec<(&String, &f64)> = expected.iter().collect();
    expected.sort_by(|a, b| b.1.total_cmp(a.1).then(a.0.cmp(b.0)));
    assert_eq!(found.len(), expected.len().min(top_k));
    for ((memory, score), (id, exact)) in found.iter().zip(&expected) {
        assert!(
            (f64::from(*score) - **exact).abs() < 1e-4 * exact.max(1.0),
            "{id}: {score}, not {exact}"
        );
        let of_found = expected.iter().find(|(id, _)| **id == memory.id).unwrap().1;
        assert!(
            (f64::from(*score) - of_found).abs() < 1e-4 * of_found.max(1.0),
            "{}",
            memory.id
        );
    }
}

#[derive(Debug, Clone)]
enum Step {
    Save(Vec<(u8, Vec<usize>)>),
    Delete(Vec<u8>),
    Flush,
    Compact,
    Reopen,
    Ask(Vec<usize>, usize, Option<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let words = || prop::collection::vec(0..WORDS.len(), 0..7);
    prop_oneof![
        3 => prop::collection::vec((0u8..40, words()), 1..9).prop_map(Step::Save),
        2 => prop::collection::vec(0u8..40, 1..6).prop_map(Step::Delete),
        1 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        4 => (words(), 1usize..50, prop::option::of(0u8..3)).prop_map(|(words, k, group)| Step::Ask(words, k, group)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn scores_are_those_of_a_naive_bm25_wherever_a_memory_lies(steps in prop::collection::vec(step(), 1..24)) {
        let folder = tempfile::tempdir().unwrap();
        let go_on = &mut || Ok(());
        let mut store = Store::open(folder.path(), Options::default(), go_on).unwrap();
        let mut model: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Save(memories) => {
                    let saved = memories.iter().map(|(id, words)| memory(&format!("m{id}"), &text(words)));
                    store.save(saved.collect(), false, go_on).unwrap();
                    model.extend(memories.into_iter().map(|(id, words)| (format!("m{id}"), words)));
                }
                Step::Delete(ids) => {
                    let ids: Vec<String> = ids.iter().map(|id| format!("m{id}")).collect();
                    store.delete(&ids, go_on).unwrap();
                    model.retain(|id, _| !ids.contains(id));
                }
                Step::Flush => store.flush(go_on).unwrap(),
                Step::Compact => store.compact(go_on).unwrap(),
                Step::Reopen => {
                    store.close(go_on).unwrap();
                    store = Store::open(folder.path(), Options::default(), go_on).unwrap();
                }
                Step::Ask(words, top_k, group) => {
                    let filter = group.map(|group| Filter::parse(&format!(r#"{{"group": {group}}}"#)).unwrap());
                    let asked = TextOptions { filter: filter.as_ref(), ..options(top_k) };
                    let snapshot = store.snapshot().unwrap();
                    let found = snapshot.search_text(&text(&words), &asked).unwrap();
                    prop_assert_eq!(found.state, IndexState::Fresh);
                    let mut expected = oracle(&model, &words, Bm25::default());
                    let in_group = |id: &String| id.bytes().map(u64::from).sum::<u64>() % 3;
                    expected.retain(|id, _| group.is_none_or(|group| in_group(id) == u64::from(group)));
                    compare(&found.hits, &expected, top_k);
                    both_legs_tell_the_same(&snapshot, &text(&words), &asked, &expected);
                }
            }
        }
    }
}

/// Every hit of a search by both has the similarity and the score that each alone gives it.
fn both_legs_tell_the_same(
    snapshot: &Snapshot,
    query: &str,
    asked: &TextOptions<'_>,
    expected: &BTreeMap<String, f64>,
) {
    let vector = vec![1.0, 3.0, 0.2];
    let options = SearchOptions {
        top_k: asked.top_k,
        metric: Metric::Cosine,
        min_similarity: f32::NEG_INFINITY,
        filter: asked.filter,
        threads: 1,
    };
    let all = SearchOptions {
        top_k: 1000,
        ..options.clone()
    };
    let nearest = snapshot
        .search(std::slice::from_ref(&vector), &all)
        .unwrap()
        .pop()
        .unwrap();
    let both = snapshot
        .search_both(&vector, query, &options, asked.bm25)
        .unwrap();
    let alone = snapshot.search_text(query, asked).unwrap();
    let mut union: HashSet<String> = nearest
        .iter()
        .take(asked.top_k)
        .map(|hit| hit.memory.id.clone())
        .collect();
    union.extend(alone.hits.iter().map(|(memory, _)| memory.id.clone()));
    assert_eq!(
        both.hits
            .iter()
            .map(|hit| hit.memory.id.clone())
            .collect::<HashSet<_>>(),
        union
    );
    for hit in &both.hits {
        let near = nearest
            .iter()
            .find(|near| near.memory.id == hit.memory.id)
            .unwrap();
        assert_eq!(
            hit.similarity.to_bits(),
            near.similarity.to_bits(),
            "{}",
            hit.memory.id
        );
        let score = expected.get(&hit.memory.id).copied().unwrap_or(0.0);
        assert!(
            (f64::from(hit.score) - score).abs() < 1e-4 * score.max(1.0),
            "{}",
            hit.memory.id
        );
    }
}

fn filled(folder: &Path, count: usize) -> Store {
    let go_on = &mut || Ok(());
    let store = Store::open(folder, Options::default(), go_on).unwrap();
    let mut dice = Dice::new(7);
    let memories = (0..count).map(|number| {
        let words: Vec<usize> = (0..6)
            .map(|_| dice.below(WORDS.len() as u64) as usize)
            .collect();
        let mut memory = memory(&format!("m{number:06}"), &text(&words));
        memory.metadata = format!(r#"{{"number":{number}}}"#);
        memory
    });
    store.save(memories.collect(), false, go_on).unwrap();
    store
}

#[test]
fn scores_are_the_same_bits_before_and_after_moving_and_merging() {
    let folder = tempfile::tempdir().unwrap();
    let go_on = &mut || Ok(());
    let store = filled(folder.path(), 500);
    let ask = || {
        let found = store
            .snapshot()
            .unwrap()
            .search_text("東京 é1 ab zz9", &options(500))
            .unwrap();
        let hits = found
            .hits
            .iter()
            .map(|(memory, score)| (memory.id.clone(), score.to_bits()));
        hits.collect::<Vec<_>>()
    };
    let in_log = ask();
    store.flush(go_on).unwrap();
    assert_eq!(ask(), in_log);
    // What is deleted and saved again leaves dead rows, and a second segment.
    let again: Vec<Memory> = store
        .snapshot()
        .unwrap()
        .scan(None)
        .unwrap()
        .next_batch(40)
        .unwrap()
        .into_iter()
        .map(|memory| (*memory).clone())
        .collect();
    let gone: Vec<String> = again.iter().map(|memory| memory.id.clone()).collect();
    store.delete(&gone, go_on).unwrap();
    store.save(again, true, go_on).unwrap();
    assert_eq!(ask(), in_log);
    store.flush(go_on).unwrap();
    assert_eq!(ask(), in_log);
    store.compact(go_on).unwrap();
    assert_eq!(ask(), in_log);
}

#[test]
fn a_filter_of_any_selectivity_gets_as_many_hits_as_it_allows() {
    let folder = tempfile::tempdir().unwrap();
    let go_on = &mut || Ok(());
    let store = filled(folder.path(), 20_000);
    for moved in [false, true] {
        if moved {
            store.flush(go_on).unwrap();
        }
        let snapshot = store.snapshot().unwrap();
        let query = WORDS.join(" ");
        for (from, to) in [(0, 20_000), (777, 977), (19_998, 20_000), (5, 5)] {
            let filter =
                Filter::parse(&format!(r#"{{"number": {{"$gte": {from}, "$lt": {to}}}}}"#))
                    .unwrap();
            let asked = TextOptions {
                filter: Some(&filter),
                ..options(10)
            };
            let found = snapshot.search_text(&query, &asked).unwrap();
            assert_eq!(found.hits.len(), (to - from).min(10));
            let allowed = |memory: &Memory| (from..to).contains(&memory.id[1..].parse().unwrap());
            assert!(found.hits.iter().all(|(memory, _)| allowed(memory)));
        }
    }
}

#[test]
fn any_characters_are_a_query() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 50);
    store.flush(&mut || Ok(())).unwrap();
    let snapshot = store.snapshot().unwrap();
    let mut dice = Dice::new(3);
    let marks: Vec<char> =
        "\"'()[]{}<>+-*/\\|&!?^~:;,.@#$%_=`…«»„“¿¡、。「」\u{0}\t\n\u{200d}\u{feff}ab"
            .chars()
            .collect();
    for _ in 0..1000 {
        let query: String = (0..dice.below(20))
            .map(|_| marks[dice.below(marks.len() as u64) as usize])
            .collect();
        snapshot.search_text(&query, &options(5)).unwrap();
        snapshot
            .search_text(&format!("{query} 2026 {query}"), &options(5))
            .unwrap();
    }
    assert!(
        !snapshot
            .search_text("((( AND 2026 NOT\" *", &options(5))
            .unwrap()
            .hits
            .is_empty()
    );
}

#[test]
fn words_of_two_ideographs_are_found_wherever_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    let go_on = &mut || Ok(());
    let store = Store::open(folder.path(), Options::default(), go_on).unwrap();
    let texts = [
        "東京都庁の展望室は無料で利用できます。",
        "大阪城公園で花見をする。",
        "データベースの索引を作成する方法",
        "中华人民共和国的首都是北京市。",
        "研究生命起源的科学家",
        "这个数据库支持全文检索功能",
        "서울특별시는 대한민국의 수도이다",
        "機械学習による自然言語処理の研究",
        "北京大学图书馆藏书很多",
        "京都府立大学の学生",
    ];
    for (number, text) in texts.iter().enumerate() {
        store
            .save(vec![memory(&format!("t{number}"), text)], false, go_on)
            .unwrap();
        if number == 4 {
            store.flush(go_on).unwrap();
        }
    }
    let snapshot = store.snapshot().unwrap();
    let (mut asked, mut found) = (0, 0);
    for text in texts {
        let letters: Vec<char> = text.chars().filter(|c| c.is_alphanumeric()).collect();
        for pair in letters.windows(2) {
            let word: String = pair.iter().collect();
            let hits = snapshot.search_text(&word, &options(100)).unwrap().hits;
            for (number, other) in texts
                .iter()
                .enumerate()
                .filter(|(_, text)| text.contains(&word))
            {
                asked += 1;
                let id = format!("t{number}");
                let is_found = hits.iter().any(|(memory, _)| memory.id == id);
                found += usize::from(is_found);
                if !is_found {
                    println!("{word} in {other}");
                }
            }
        }
    }
    assert!(
        asked > 100 && 100 * found >= 95 * asked,
        "{found} of {asked}"
    );
}

fn index_file(folder: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .into_iter()
        .find(|path| path.extension().is_some_and(|kind| kind == "fts"))
        .unwrap()
}

fn read_only() -> Options {
    Options {
        read_only: true,
        ..Options::default()
    }
}

#[test]
fn a_missing_stale_damaged_or_other_index_is_made_again_and_never_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let go_on = &mut || Ok(());
    let ids = |store: &Store| {
        let reply = store
            .snapshot()
            .unwrap()
            .search_text("zz9 猫", &options(20))
            .unwrap();
        let hits = reply
            .hits
            .iter()
            .map(|(memory, score)| (memory.id.clone(), score.to_bits()));
        (hits.collect::<Vec<_>>(), reply.state)
    };
    let store = filled(folder.path(), 300);
    store.close(go_on).unwrap();
    let path = index_file(folder.path());
    let sound = std::fs::read(&path).unwrap();
    let reader = || Store::open(folder.path(), read_only(), &mut || Ok(())).unwrap();
    let (right, state) = ids(&reader());
    assert_eq!((right.len(), state), (20, IndexState::Fresh));
    let mut damaged: Vec<Vec<u8>> = (0..sound.len())
        .step_by(17)
        .map(|at| {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x20;
            bytes
        })
        .collect();
    damaged.extend([
        Vec::new(),
        vec![0; 64],
        sound[..sound.len() / 2].to_vec(),
        [&sound[..], b"x"].concat(),
    ]);
    // Another version, and the index of another segment: headers whose checksum holds.
    for (at, value) in [(8, 9u32), (16, 299), (24, 1), (32, 77)] {
        let mut bytes = sound.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let crc = crc32c_of(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        damaged.push(bytes);
    }
    for (number, bytes) in damaged.iter().enumerate() {
        std::fs::write(&path, bytes).unwrap();
        let reader = reader();
        let (found, state) = ids(&reader);
        assert_eq!(found, right, "case {number}");
        let told = reader.verify(go_on).unwrap();
        assert_eq!(told.len(), 1, "case {number}: {told:?}");
        assert!(told[0].to_string().contains(".fts"), "{}", told[0]);
        assert_eq!(
            state,
            IndexState::Degraded,
            "case {number}: the damage was met"
        );
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(ids(&reader()), (right.clone(), IndexState::Degraded));
    assert!(
        reader().verify(go_on).unwrap().is_empty(),
        "a store without an index is whole"
    );
    // A writer makes it for the first query and keeps it.
    let store = Store::open(folder.path(), Options::default(), go_on).unwrap();
    assert_eq!(ids(&store), (right.clone(), IndexState::Building));
    assert_eq!(ids(&store), (right.clone(), IndexState::Fresh));
    store.close(go_on).unwrap();
    assert_eq!(
        std::fs::read(&path).unwrap(),
        sound,
        "the same bytes whoever makes them"
    );
    // A rebuild needs no query.
    std::fs::write(&path, &damaged[30]).unwrap();
    let store = Store::open(folder.path(), Options::default(), go_on).unwrap();
    store.rebuild_text_index(go_on).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), sound);
    assert!(store.verify(go_on).unwrap().is_empty());
    assert_eq!(ids(&store), (right, IndexState::Fresh));
}

/// A process that makes the calls until one fails.
fn live(fs: &FaultFs, steps: &[Call]) {
    let Ok(mut store) = open(Arc::new(fs.clone()), Path::new(DIR)) else {
        return;
    };
    let mut known = Known::of(Model::new(), arrow_storage::Durability::Commit);
    for step in steps {
        if known.run(step, &store).is_err() {
            return;
        }
        if matches!(step, Call::Close) {
            match open(Arc::new(fs.clone()), Path::new(DIR)) {
                Ok(opened) => store = opened,
                Err(_) => return,
            }
        }
    }
}

const DIR: &str = "/home/user/store";

/// Every memory that holds a word is found, and no other.
fn finds_what_is_there(store: &Store, told: &str) {
    let model = content(store).unwrap();
    let snapshot = store.snapshot().unwrap();
    for word in ["again", "one", "new", "text", "segment"] {
        let found = snapshot.search_text(word, &options(100)).unwrap();
        let found: HashSet<&str> = found
            .hits
            .iter()
            .map(|(memory, _)| memory.id.as_str())
            .collect();
        let expected = model
            .iter()
            .filter(|(_, content)| content.split(' ').any(|other| other == word));
        let expected: HashSet<&str> = expected.map(|(id, _)| id.as_str()).collect();
        assert_eq!(found, expected, "{told}: {word}");
    }
}

#[test]
fn words_are_found_after_a_kill_a_failed_call_and_a_loss_of_power_at_any_moment() {
    let steps = moving_workload();
    let whole = FaultFs::default();
    live(&whole, &steps);
    let operations = whole.operations();
    assert!(operations > 100, "{operations}");
    for at in 0..=operations {
        for fault in [Fault::Dead(at), Fault::Once(at, std::io::ErrorKind::Other)] {
            let fs = FaultFs::with(&[fault]);
            live(&fs, &steps);
            for survivors in [
                Survivors::Nothing,
                Survivors::Everything,
                Survivors::Some(at as u64),
            ] {
                let told = format!("{fault:?}, {survivors:?}");
                let disk = fs.after_power_loss(survivors);
                let store = open(Arc::new(disk.clone()), Path::new(DIR)).unwrap();
                finds_what_is_there(&store, &told);
                assert!(store.verify(&mut || Ok(())).unwrap().is_empty(), "{told}");
                store.close(&mut || Ok(())).unwrap();
                let options = Options {
                    vfs: Arc::new(disk),
                    ..read_only()
                };
                let reader = Store::open(Path::new(DIR), options, &mut || Ok(())).unwrap();
                finds_what_is_there(&reader, &told);
                let found = reader
                    .snapshot()
                    .unwrap()
                    .search_text("one", &self::options(1))
                    .unwrap();
                assert_eq!(
                    found.state,
                    IndexState::Fresh,
                    "{told}: closing made what was missing"
                );
            }
        }
    }
}

fn crc32c_of(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}
