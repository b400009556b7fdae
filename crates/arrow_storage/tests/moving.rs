//! While a log is moved into a segment, commits go on, readers follow, and nothing is in two places.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use arrow_storage::{Durability, Options, Store, Vfs};
use common::{FaultFs, Known, Model, Step, Survivors, content, memory, moving_workload, open};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn dir() -> &'static Path {
    Path::new("/store")
}

fn reader(fs: &FaultFs) -> Store {
    let options = Options {
        vfs: Arc::new(fs.clone()),
        read_only: true,
        ..Options::default()
    };
    Store::open(dir(), options, &mut || Ok(())).unwrap()
}

/// Logs that are on the disk.
fn logs(fs: &FaultFs) -> usize {
    let names = fs.list(dir()).unwrap();
    names.iter().filter(|name| name.starts_with("log-")).count()
}

#[test]
fn readers_follow_from_one_log_to_the_next() {
    let fs = FaultFs::default();
    let store = open(Arc::new(fs.clone()), dir()).unwrap();
    let following = reader(&fs);
    let mut known = Known::of(Model::new(), Durability::Commit);
    let mut seen = 0;
    for step in moving_workload() {
        let (long, beside) = match &step {
            Step::Beside(long, steps) => (long.as_ref().clone(), steps.clone()),
            step => (step.clone(), Vec::new()),
        };
        if matches!(step, Step::Close) {
            break;
        }
        let mut beside = beside.into_iter();
        let mut expected = known.last().unwrap().clone();
        long.change(&mut expected);
        let mut between = || {
            for step in beside.by_ref() {
                step.change(&mut expected);
                step.run_alone(&store)?;
                seen = seen.max(logs(&fs));
                // One that was there before the second log, and one that comes now.
                assert_eq!(content(&following).unwrap(), expected);
                assert_eq!(content(&reader(&fs)).unwrap(), expected);
            }
            Ok(())
        };
        long.run(&store, &mut between).unwrap();
        assert_eq!(content(&following).unwrap(), expected, "{step:?}");
        assert_eq!(content(&store).unwrap(), expected, "{step:?}");
        assert_eq!(logs(&fs), 1);
        known = Known::of(expected, Durability::Commit);
    }
    assert_eq!(seen, 2, "no step met two logs");
}

#[test]
fn a_log_that_another_follows_may_not_be_cut() {
    let fs = FaultFs::default();
    let store = open(Arc::new(fs.clone()), dir()).unwrap();
    let save = |id| Step::Save(vec![(id, "text")]);
    save("a").run_alone(&store).unwrap();
    save("b").run_alone(&store).unwrap();
    let mut moved = None;
    let stopped = store.flush(&mut || {
        if moved.is_none() {
            save("c").run_alone(&store)?;
            moved = Some(fs.next_process(&[]));
        }
        Ok(())
    });
    stopped.unwrap();
    let fs = moved.unwrap();
    let names = fs.list(dir()).unwrap();
    let first = names.iter().find(|name| name.starts_with("log-")).unwrap();
    let path = dir().join(first);
    let whole = content(&open(Arc::new(fs.next_process(&[])), dir()).unwrap()).unwrap();
    assert_eq!(whole.len(), 3);
    // The last commit of the first log is damaged: behind it there would be a gap.
    let bytes = fs.read(&path).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    fs.flip(&path, end);
    let error = open(Arc::new(fs.next_process(&[])), dir())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(first) && error.contains("damaged"),
        "{error}"
    );
}

/// Saves of several threads while the log is moved again and again, also by itself.
#[test]
fn saves_of_many_threads_and_moves_end_in_one_content() {
    let fs = FaultFs::default();
    let store = open(Arc::new(fs.clone()), dir()).unwrap();
    let text = "t".repeat(100_000);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|thread| {
                let (store, text) = (&store, &text);
                scope.spawn(move || {
                    for i in 0..150 {
                        let id = format!("m{thread}-{}", i % 100);
                        let memories = vec![memory(&id, &text[i..])];
                        store.save(memories, false, &mut || Ok(())).unwrap();
                        if i % 10 == 9 {
                            let gone = format!("m{thread}-{}", i % 100 - 5);
                            store.delete(&[gone], &mut || Ok(())).unwrap();
                        }
                    }
                })
            })
            .collect();
        let (store, done) = (&store, &done);
        scope.spawn(move || {
            while !done.load(Ordering::SeqCst) {
                store.flush(&mut || Ok(())).unwrap();
                store.compact(&mut || Ok(())).unwrap();
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
    let mut expected = Model::new();
    for thread in 0..3 {
        for i in 0..150 {
            expected.insert(format!("m{thread}-{}", i % 100), text[i..].to_owned());
            if i % 10 == 9 {
                expected.remove(&format!("m{thread}-{}", i % 100 - 5));
            }
        }
    }
    assert!(content(&store).unwrap() == expected);
    assert!(store.verify(&mut || Ok(())).unwrap().is_empty());
    let lost = Arc::new(fs.after_power_loss(Survivors::Nothing));
    assert!(content(&open(lost, dir()).unwrap()).unwrap() == expected);
    store.close(&mut || Ok(())).unwrap();
    assert!(content(&reader(&fs)).unwrap() == expected);
}
