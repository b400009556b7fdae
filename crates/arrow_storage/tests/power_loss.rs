//! Whenever the power goes, and whatever the disk kept of what no sync covered: every acknowledged commit is
//! there, and of the one under way all or nothing. Simulated, on a file system in memory.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use arrow_storage::Vfs;
use common::{Fault, FaultFs, Model, Survivors, content, open, workload};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

/// Runs the workload until something fails; returns what is acknowledged and what was under way.
fn run(fs: &FaultFs) -> (Model, Model) {
    let path = Path::new("/store");
    let mut acknowledged = Model::new();
    let Ok(mut store) = open(Arc::new(fs.clone()), path) else {
        return (acknowledged.clone(), acknowledged);
    };
    for step in workload() {
        let mut next = acknowledged.clone();
        step.change(&mut next);
        if step.run_on(&store, fs).is_err() {
            return (acknowledged, next);
        }
        acknowledged = next;
        if matches!(step, common::Step::Reopen) {
            match open(Arc::new(fs.clone()), path) {
                Ok(opened) => store = opened,
                Err(_) => return (acknowledged.clone(), acknowledged),
            }
        }
    }
    // The store is dropped here without an acknowledged close.
    (acknowledged.clone(), acknowledged)
}

#[test]
fn the_acknowledged_prefix_survives_every_loss_of_power() {
    let seeds: u64 = std::env::var("AIOS_CRASH_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(10);
    let whole = FaultFs::default();
    run(&whole);
    let mut states = 0;
    for at in 0..=whole.operations() {
        let fs = FaultFs::with(Some(Fault::PowerLoss(at)));
        let (acknowledged, under_way) = run(&fs);
        let random = (0..seeds).map(|seed| Survivors::Some(seed * 1_000_003 + at as u64));
        for survivors in [Survivors::Nothing, Survivors::Everything]
            .into_iter()
            .chain(random)
        {
            states += 1;
            let disk = fs.after_power_loss(survivors);
            let told = format!("power lost at operation {at}, {survivors:?}");
            whole_tables(&disk, &told);
            let store = open(Arc::new(disk.clone()), Path::new("/store"))
                .unwrap_or_else(|error| panic!("{told}: {error}"));
            let found = content(&store).unwrap_or_else(|error| panic!("{told}: {error}"));
            assert!(
                found == acknowledged || found == under_way,
                "{told}: {found:?} is neither {acknowledged:?} nor {under_way:?}"
            );
            assert!(store.verify(&mut || Ok(())).unwrap().is_empty(), "{told}");
            let names = disk.list(Path::new("/store")).unwrap();
            assert!(
                !names.iter().any(|name| name.contains(".draft")),
                "{told}: {names:?}"
            );
            let mut after = found;
            let step = common::Step::Save(vec![("later", "a commit after the power came back")]);
            step.change(&mut after);
            step.run(&store).unwrap();
            drop(store);
            let disk = disk.after_power_loss(Survivors::Nothing);
            assert_eq!(
                content(&open(Arc::new(disk), Path::new("/store")).unwrap()).unwrap(),
                after,
                "{told}"
            );
        }
    }
    println!(
        "{states} simulated states after {} operations",
        whole.operations()
    );
    assert!(states >= 2_000, "{states}");
}

/// What bears the name of a table is one: whoever lists the folder may read it.
fn whole_tables(fs: &FaultFs, told: &str) {
    for name in fs.list(Path::new("/store")).unwrap() {
        if name.ends_with(".parquet") {
            let bytes = fs.read(&Path::new("/store").join(&name)).unwrap();
            assert!(
                bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1") && bytes.len() > 12,
                "{told}: {name} is no whole table"
            );
        }
    }
}

#[test]
fn tables_are_whole_at_every_moment() {
    let whole = FaultFs::default();
    run(&whole);
    for at in 0..=whole.operations() {
        let fs = FaultFs::with(Some(Fault::PowerLoss(at)));
        run(&fs);
        whole_tables(&fs.healed(), &format!("seen after operation {at}"));
    }
}

#[test]
fn one_failing_call_leaves_a_usable_store() {
    let whole = FaultFs::default();
    run(&whole);
    for kind in [
        ErrorKind::StorageFull,
        ErrorKind::Other,
        ErrorKind::PermissionDenied,
        ErrorKind::Interrupted,
    ] {
        for at in 0..whole.operations() {
            let fs = FaultFs::with(Some(Fault::Once(at, kind)));
            let told = format!("{kind:?} at operation {at}");
            survive(&fs, &told);
        }
    }
}

/// Runs the workload through a failure: a failed call has happened or not, every other one has.
fn survive(fs: &FaultFs, told: &str) {
    let path = Path::new("/store");
    let reopen = || {
        // The one failure may be met while opening; then the next attempt works.
        let opened = open(Arc::new(fs.clone()), path).or_else(|_| open(Arc::new(fs.clone()), path));
        opened.unwrap_or_else(|error| panic!("{told}: {error}"))
    };
    let mut store = reopen();
    let mut expected = Model::new();
    for step in workload() {
        let mut next = expected.clone();
        step.change(&mut next);
        let failed = step.run_on(&store, fs).is_err();
        if failed || matches!(step, common::Step::Reopen) {
            drop(store);
            store = reopen();
        }
        let found = content(&store)
            .or_else(|_| content(&store))
            .unwrap_or_else(|error| panic!("{told}: {error}"));
        if failed {
            assert!(
                found == expected || found == next,
                "{told} in {step:?}: {found:?}"
            );
        } else {
            assert_eq!(found, next, "{told} in {step:?}");
        }
        expected = found;
    }
    drop(store);
    let store = open(Arc::new(fs.healed()), path).unwrap();
    assert_eq!(content(&store).unwrap(), expected, "{told}");
    assert!(store.verify(&mut || Ok(())).unwrap().is_empty(), "{told}");
}

#[test]
fn nothing_is_acknowledged_after_a_failed_sync() {
    let path = Path::new("/store");
    let step = common::Step::Save(vec![("a", "one")]);
    let fs = FaultFs::default();
    let store = open(Arc::new(fs.clone()), path).unwrap();
    let before = fs.operations();
    step.run(&store).unwrap();
    let last = fs.operations() - 1;
    assert!(last > before);
    drop(store);

    let fs = FaultFs::with(Some(Fault::Once(last, ErrorKind::Other)));
    let store = open(Arc::new(fs.clone()), path).unwrap();
    assert!(step.run(&store).unwrap_err().to_string().contains("sync"));
    let error = common::Step::Save(vec![("b", "two")])
        .run(&store)
        .unwrap_err();
    assert!(error.to_string().contains("stopped writing"), "{error}");
    assert!(store.flush(&mut || Ok(())).is_err());
    drop(store);
    let store = open(Arc::new(fs.after_power_loss(Survivors::Nothing)), path).unwrap();
    assert!(content(&store).unwrap().is_empty());
}

#[test]
fn a_batched_commit_becomes_durable_without_another() {
    let path = Path::new("/store");
    let fs = FaultFs::default();
    let options = arrow_storage::Options {
        vfs: Arc::new(fs.clone()),
        durability: arrow_storage::Durability::Batch,
        ..Default::default()
    };
    let store = arrow_storage::Store::open(path, options, &mut || Ok(())).unwrap();
    for (id, held) in [("a", 1), ("b", 2)] {
        common::Step::Save(vec![(id, "text")]).run(&store).unwrap();
        let begun = std::time::Instant::now();
        loop {
            let disk = Arc::new(fs.after_power_loss(Survivors::Nothing));
            if content(&open(disk, path).unwrap()).unwrap().len() == held {
                break;
            }
            assert!(begun.elapsed().as_secs() < 60, "{id} waits for ever");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[test]
fn a_failed_sync_of_a_batch_stops_the_writer() {
    let path = Path::new("/store");
    let save = |store: &arrow_storage::Store| common::Step::Save(vec![("a", "text")]).run(store);
    let batched = |fs: &FaultFs| {
        let options = arrow_storage::Options {
            vfs: Arc::new(fs.clone()),
            durability: arrow_storage::Durability::Batch,
            ..Default::default()
        };
        arrow_storage::Store::open(path, options, &mut || Ok(())).unwrap()
    };
    let whole = FaultFs::default();
    let store = batched(&whole);
    save(&store).unwrap();
    let sync = whole.operations();
    drop(store);
    let fs = FaultFs::with(Some(Fault::Once(sync, ErrorKind::Other)));
    let store = batched(&fs);
    save(&store).unwrap();
    let begun = std::time::Instant::now();
    let patience = |what: &str| {
        assert!(begun.elapsed().as_secs() < 60, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    while fs.operations() <= sync {
        patience("nothing is synced");
    }
    while save(&store).is_ok() {
        patience("the failure goes unnoticed");
    }
    let error = save(&store).unwrap_err().to_string();
    assert!(error.contains("stopped writing"), "{error}");
}

#[test]
fn a_full_disk_recovers_without_reopening() {
    let path = Path::new("/store");
    let whole = FaultFs::default();
    let opened = open(Arc::new(whole.clone()), path).unwrap();
    let first = whole.operations();
    drop(opened);
    // From the first write on: allocating ahead and the frame itself. The sync is the next operation.
    for at in 0..2 {
        let fs = FaultFs::with(Some(Fault::Once(first + at, ErrorKind::StorageFull)));
        let store = open(Arc::new(fs), path).unwrap();
        let mut held = 0;
        for i in 0..10 {
            match store.save(
                vec![common::memory(&format!("m{i}"), "text")],
                false,
                &mut || Ok(()),
            ) {
                Ok(()) => held += 1,
                Err(error) => assert!(error.to_string().contains("free some space"), "{error}"),
            }
        }
        assert!(held >= 9, "{held} of 10 saved");
        assert_eq!(content(&store).unwrap().len(), held);
    }
}
