//! Whatever fails, whenever the process is killed or the power goes, in any order, and whatever the disk kept of
//! what no sync covered: every acknowledged commit is there, and of the one under way all or nothing. Simulated,
//! on a file system in memory. `AIOS_CRASH_SEEDS` is how many disks are tried for each loss of power.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use arrow_storage::{Durability, Store, Vfs};
use common::{Fault, FaultFs, Known, Model, Step, Survivors, content, open_as};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// None of the folders above it exists at first.
const DIR: &str = "/home/user/store";

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn seeds() -> u64 {
    let given = std::env::var("AIOS_CRASH_SEEDS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// Disks after a loss of power: without and with all that was not synced, and with some of it.
fn survivors(salt: usize) -> impl Iterator<Item = Survivors> {
    let random = (0..seeds()).map(move |seed| Survivors::Some(seed * 1_000_003 + salt as u64));
    [Survivors::Nothing, Survivors::Everything]
        .into_iter()
        .chain(random)
}

/// The workloads, each as of a writer that syncs every commit and of one that syncs on closing.
fn lives() -> Vec<(Vec<Step>, Durability)> {
    let mut lives = Vec::new();
    for steps in [
        common::workload(),
        common::moving_workload(),
        common::other_workload(),
    ] {
        lives.push((steps.clone(), Durability::Commit));
        lives.push((steps, Durability::None));
    }
    lives
}

/// A process that makes the calls until one fails, and then closes the store, if it can.
fn live(fs: &FaultFs, steps: &[Step], durability: Durability) -> Known {
    let mut known = Known::of(Model::new(), durability);
    let open = || open_as(Arc::new(fs.clone()), dir(), durability);
    let Ok(mut store) = open() else { return known };
    for step in steps {
        if known.run(step, &store).is_err() {
            break;
        }
        if matches!(step, Step::Close) {
            match open() {
                Ok(opened) => store = opened,
                Err(_) => return known,
            }
        }
    }
    known.close(&store);
    known
}

/// The next process: what it is shown is there from then on, and so is what it saves. It does not end.
fn live_on(fs: &FaultFs, known: &Known, told: &str) -> (Known, Option<Store>) {
    let Ok(store) = open_as(Arc::new(fs.clone()), dir(), Durability::Commit) else {
        return (known.clone(), None);
    };
    let Ok(found) = content(&store) else {
        return (known.clone(), Some(store));
    };
    assert!(known.allows(&found), "{told}: {found:?}\nof {known:#?}");
    let mut known = Known::of(found, Durability::Commit);
    let _ = known.run(&Step::Save(vec![("after", "it is opened again")]), &store);
    (known, Some(store))
}

/// Tries every operation of every life, over all cores; returns how many disks `attempt` tried.
fn enumerate(attempt: impl Fn(&[Step], Durability, usize) -> usize + Sync) -> usize {
    let mut attempts = Vec::new();
    let lives = lives();
    for (life, (steps, durability)) in lives.iter().enumerate() {
        let whole = FaultFs::default();
        live(&whole, steps, *durability);
        attempts.extend((0..=whole.operations()).map(|at| (life, at)));
    }
    let (next, tried) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(&(life, at)) = attempts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (steps, durability) = &lives[life];
            tried.fetch_add(attempt(steps, *durability, at), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    tried.into_inner()
}

/// Loses the power, and finds nothing missing, once for each of `survivors`; returns how many these are.
fn lose_power(fs: &FaultFs, known: &Known, survivors: &[Survivors], told: &str) -> usize {
    for (index, &survivors) in survivors.iter().enumerate() {
        let disk = fs.after_power_loss(survivors);
        let told = format!("{told}, then the power is lost ({survivors:?})");
        whole_tables(&disk, &told);
        let store = open_as(Arc::new(disk.clone()), dir(), Durability::Commit)
            .unwrap_or_else(|error| panic!("{told}: {error}"));
        let found = content(&store).unwrap_or_else(|error| panic!("{told}: {error}"));
        assert!(known.allows(&found), "{told}: {found:?}\nof {known:#?}");
        if index % 2 == 0 {
            continue;
        }
        assert!(store.verify(&mut || Ok(())).unwrap().is_empty(), "{told}");
        let names = disk.list(dir()).unwrap();
        let draft = |name: &String| name.contains(".draft") || name.contains(".tmp");
        assert!(!names.iter().any(draft), "{told}: {names:?}");
        let mut known = Known::of(found, Durability::Commit);
        let step = Step::Save(vec![("later", "a commit after the power came back")]);
        known.run(&step, &store).unwrap();
        let disk = disk.after_power_loss(Survivors::Nothing);
        let store = open_as(Arc::new(disk), dir(), Durability::Commit).unwrap();
        assert!(known.allows(&content(&store).unwrap()), "{told}");
    }
    survivors.len()
}

/// What bears the name of a table is one: whoever lists the folder may read it.
fn whole_tables(fs: &FaultFs, told: &str) {
    for name in fs.list(dir()).unwrap_or_default() {
        if name.ends_with(".parquet") {
            let bytes = fs.read(&dir().join(&name)).unwrap();
            assert!(
                bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1") && bytes.len() > 12,
                "{told}: {name} is no whole table"
            );
        }
    }
}

/// The next process, without a fault and killed at each of its operations, and then a loss of power.
fn reopen_and_lose_power(fs: &FaultFs, known: &Known, salt: usize, told: &str) -> usize {
    let told = format!("{told}, then it is opened again");
    let again = fs.next_process(&[]);
    let (shown, store) = live_on(&again, known, &told);
    let store = store.unwrap_or_else(|| panic!("{told}, which fails"));
    let all: Vec<_> = survivors(salt).collect();
    let mut tried = lose_power(&again, &shown, &all, &told);
    let operations = again.operations();
    drop(store);
    for at in 0..operations {
        for fault in [Fault::Dead(at), Fault::Once(at, ErrorKind::Other)] {
            // Of the pairs of faults a short run tries a part; which one depends on the first.
            let turn = usize::from(matches!(fault, Fault::Dead(_)));
            if seeds() < 10 && (at + salt) % 16 != turn {
                continue;
            }
            let told = format!("{told} with {fault:?}");
            let again = fs.next_process(&[fault]);
            let (shown, store) = live_on(&again, known, &told);
            let some = [Survivors::Nothing, Survivors::Some((salt * 31 + at) as u64)];
            tried += lose_power(&again, &shown, &some, &told);
            drop(store);
        }
    }
    tried
}

#[test]
fn what_is_acknowledged_survives_kills_and_losses_of_power_in_any_order() {
    let tried = enumerate(|steps, durability, at| {
        let fs = FaultFs::with(&[Fault::Dead(at)]);
        let known = live(&fs, steps, durability);
        let told = format!("{durability:?}, dead at operation {at}");
        let all: Vec<_> = survivors(at).collect();
        lose_power(&fs, &known, &all, &told) + reopen_and_lose_power(&fs, &known, at, &told)
    });
    println!("{tried} simulated disks after kills");
    assert!(tried >= 10_000, "{tried}");
}

#[test]
fn what_is_acknowledged_survives_a_failed_call_and_what_follows() {
    let tried = enumerate(|steps, durability, at| {
        let fs = FaultFs::with(&[Fault::Once(at, ErrorKind::Other)]);
        let known = live(&fs, steps, durability);
        let told = format!("{durability:?}, operation {at} failed");
        let all: Vec<_> = survivors(at).collect();
        lose_power(&fs, &known, &all, &told) + reopen_and_lose_power(&fs, &known, at, &told)
    });
    println!("{tried} simulated disks after failed calls");
    assert!(tried >= 10_000, "{tried}");
}

#[test]
fn tables_are_whole_at_every_moment() {
    enumerate(|steps, durability, at| {
        let fs = FaultFs::with(&[Fault::Dead(at)]);
        live(&fs, steps, durability);
        whole_tables(&fs.next_process(&[]), &format!("seen after operation {at}"));
        1
    });
}
