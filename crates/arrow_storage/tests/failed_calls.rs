//! A call of the system that fails is told, once and until it is made good, and leaves a usable store.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use arrow_storage::{Durability, Store, Vfs};
use common::{Fault, FaultFs, Model, Step, Survivors, content, open, open_as, workload};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const DIR: &str = "/store";

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn save(id: &'static str) -> Step {
    Step::Save(vec![(id, "text")])
}

fn open_with(fs: &FaultFs, durability: Durability) -> Store {
    open_as(Arc::new(fs.clone()), dir(), durability).unwrap()
}

fn close(store: &Store) -> arrow_storage::Result<()> {
    store.close(&mut || Ok(()))
}

/// What is there after the power is lost, of what was not synced nothing.
fn on_disk(fs: &FaultFs) -> Model {
    let disk = Arc::new(fs.after_power_loss(Survivors::Nothing));
    content(&open(disk, dir()).unwrap()).unwrap()
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed().as_secs() < 60, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The operation that is the first sync behind a batched commit.
fn batched_sync() -> usize {
    let fs = FaultFs::default();
    let store = open_with(&fs, Durability::Batch);
    save("a").run_alone(&store).unwrap();
    let sync = fs.operations();
    // It is not closed, which would sync as well.
    wait("nothing is synced", || fs.operations() > sync);
    sync
}

#[test]
fn one_failing_call_leaves_a_usable_store() {
    let steps = [workload(), common::moving_workload()].concat();
    let whole = FaultFs::default();
    survive(&whole, &steps, "nothing fails");
    // What kind it is makes no difference to the store; each operation meets one.
    let kinds = [
        ErrorKind::Other,
        ErrorKind::StorageFull,
        ErrorKind::PermissionDenied,
        ErrorKind::Interrupted,
    ];
    for at in 0..whole.operations() {
        let kind = kinds[at % kinds.len()];
        let fs = FaultFs::with(&[Fault::Once(at, kind)]);
        survive(&fs, &steps, &format!("{kind:?} at operation {at}"));
    }
}

/// Runs the calls through a failure: a failed call has happened or not, every other one has.
fn survive(fs: &FaultFs, steps: &[Step], told: &str) {
    let reopen = || {
        // The one failure may be met while opening; then the next attempt works.
        let opened =
            open(Arc::new(fs.clone()), dir()).or_else(|_| open(Arc::new(fs.clone()), dir()));
        opened.unwrap_or_else(|error| panic!("{told}: {error}"))
    };
    let mut store = reopen();
    let mut expected = Model::new();
    for step in steps {
        let mut known = common::Known::of(expected.clone(), Durability::Commit);
        let failed = known.run(step, &store).is_err();
        if failed || matches!(step, Step::Close) {
            drop(store);
            store = reopen();
        }
        let found = content(&store)
            .or_else(|_| content(&store))
            .unwrap_or_else(|error| panic!("{told}: {error}"));
        assert!(known.allows(&found), "{told} in {step:?}: {found:?}");
        if !failed {
            assert_eq!(Some(&found), known.last(), "{told} in {step:?}");
        }
        expected = found;
    }
    drop(store);
    let store = open(Arc::new(fs.next_process(&[])), dir()).unwrap();
    assert_eq!(content(&store).unwrap(), expected, "{told}");
    assert!(store.verify(&mut || Ok(())).unwrap().is_empty(), "{told}");
}

#[test]
fn nothing_is_acknowledged_after_a_failed_sync() {
    let fs = FaultFs::default();
    let store = open(Arc::new(fs.clone()), dir()).unwrap();
    save("a").run_alone(&store).unwrap();
    let sync = fs.operations() - 1;
    let fs = FaultFs::with(&[Fault::Once(sync, ErrorKind::Other)]);
    let store = open(Arc::new(fs.clone()), dir()).unwrap();
    let error = save("a").run_alone(&store).unwrap_err().to_string();
    assert!(error.contains("sync"), "{error}");
    for verb in [
        save("b"),
        Step::Flush,
        Step::Compact,
        Step::TakeModel("m"),
        Step::Close,
        Step::Close,
    ] {
        let error = verb.run_alone(&store).unwrap_err().to_string();
        assert!(error.contains("stopped writing"), "{verb:?}: {error}");
        assert!(error.contains("sync"), "{verb:?}: {error}");
        if matches!(verb, Step::Save(_)) {
            assert!(on_disk(&fs).is_empty());
        }
    }
}

#[test]
fn a_batched_commit_becomes_durable_without_another() {
    let fs = FaultFs::default();
    let store = open_with(&fs, Durability::Batch);
    for (id, held) in [("a", 1), ("b", 2)] {
        save(id).run_alone(&store).unwrap();
        wait("it waits for ever", || on_disk(&fs).len() == held);
    }
}

#[test]
fn a_failed_sync_of_a_batch_is_told_by_the_next_call() {
    let sync = batched_sync();
    let fs = FaultFs::with(&[Fault::Once(sync, ErrorKind::Other)]);
    let store = open_with(&fs, Durability::Batch);
    save("a").run_alone(&store).unwrap();
    wait("nothing is synced", || fs.operations() > sync);
    wait("the failure goes unnoticed", || {
        save("a").run_alone(&store).is_err()
    });
    for verb in [save("a"), Step::Flush, Step::Close] {
        let error = verb.run_alone(&store).unwrap_err().to_string();
        assert!(error.contains("stopped writing"), "{error}");
    }
}

#[test]
fn a_failed_sync_of_a_batch_is_told_by_closing_each_time() {
    let sync = batched_sync();
    let fs = FaultFs::with(&[Fault::Once(sync, ErrorKind::Other)]);
    let store = open_with(&fs, Durability::Batch);
    save("a").run_alone(&store).unwrap();
    wait("nothing is synced", || fs.operations() > sync);
    for _ in 0..3 {
        assert!(close(&store).is_err());
    }
    assert!(on_disk(&fs).is_empty());
    // Opened again, it is made good.
    drop(store);
    let fs = fs.next_process(&[]);
    let store = open(Arc::new(fs.clone()), dir()).unwrap();
    assert_eq!(content(&store).unwrap(), on_disk(&fs));
    assert_eq!(content(&store).unwrap().len(), 1);
}

/// Whatever fails while closing, of any durability: when it says yes, all is there; it says the same twice.
#[test]
fn closing_says_yes_when_all_is_durable_and_only_then() {
    for durability in [Durability::Commit, Durability::Batch, Durability::None] {
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            let mut failing = 0;
            loop {
                let fs = FaultFs::default();
                let store = damaged_vectors(&fs, durability);
                fs.set_faults(&[Fault::Once(failing, kind)]);
                let (first, second) = (close(&store), close(&store));
                let done = fs.operations() <= failing;
                let told = format!("{durability:?}, {kind:?} at {failing}: {first:?}, {second:?}");
                assert_eq!(first.is_ok(), second.is_ok(), "{told}");
                assert!(first.is_err() || on_disk(&fs).len() == 3, "{told}");
                if done {
                    assert!(first.is_ok(), "{told}");
                    break;
                }
                failing += 1;
            }
            assert!(failing > 10, "{failing}");
        }
    }
}

/// A store with two memories in a segment, whose vectors were made again in memory, and one in the log.
fn damaged_vectors(fs: &FaultFs, durability: Durability) -> Store {
    let store = open_with(fs, durability);
    save("a").run_alone(&store).unwrap();
    save("b").run_alone(&store).unwrap();
    close(&store).unwrap();
    drop(store);
    let store = open_with(fs, durability);
    let names = fs.list(dir()).unwrap();
    let vectors = names.iter().find(|name| name.contains(".vec")).unwrap();
    drop(store);
    fs.flip(&dir().join(vectors), 70);
    let store = open_with(fs, durability);
    save("c").run_alone(&store).unwrap();
    assert_eq!(content(&store).unwrap().len(), 3);
    store
}

#[test]
fn a_full_disk_recovers_without_reopening() {
    let whole = FaultFs::default();
    let store = open(Arc::new(whole.clone()), dir()).unwrap();
    let first = whole.operations();
    save("a").run_alone(&store).unwrap();
    let last = whole.operations() - 1;
    // All that the first save does but for the sync of the log: a sync that fails is another matter.
    for at in first..last {
        let fs = FaultFs::with(&[Fault::Once(at, ErrorKind::StorageFull)]);
        let store = open(Arc::new(fs), dir()).unwrap();
        let mut held = 0;
        for i in 0..10 {
            let memory = common::memory(&format!("m{i}"), "text");
            match store.save(vec![memory], false, &mut || Ok(())) {
                Ok(()) => held += 1,
                Err(error) => assert!(error.to_string().contains("free some space"), "{error}"),
            }
        }
        assert!(held >= 9, "{held} of 10 saved, {at}");
        assert_eq!(content(&store).unwrap().len(), held);
    }
}
