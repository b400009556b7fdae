//! Every task of a run is done once, whoever runs what beside it, whatever panics, in forked children too.

#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use threads::ThreadPool;

fn counts(pool: &ThreadPool, tasks: usize) -> Vec<usize> {
    let counts: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
    pool.run(tasks, |task| {
        counts[task].fetch_add(1, Ordering::Relaxed);
    });
    counts.into_iter().map(AtomicUsize::into_inner).collect()
}

#[test]
fn every_task_runs_once() {
    for threads in [0, 1, 2, 5] {
        let pool = ThreadPool::new(threads);
        assert_eq!(pool.threads(), threads.max(1));
        for tasks in [0, 1, 2, 3, 100, 1000].repeat(20) {
            assert!(counts(&pool, tasks).iter().all(|&count| count == 1));
        }
    }
}

#[test]
fn sleeping_workers_wake_and_tasks_really_run_in_parallel() {
    let pool = ThreadPool::new(2);
    thread::sleep(Duration::from_millis(2));
    let barrier = std::sync::Barrier::new(2);
    // Both tasks wait for each other: this ends only if a worker takes one.
    pool.run(2, |_| {
        barrier.wait();
    });
}

#[test]
fn runs_nest_and_come_from_several_threads() {
    let pool = ThreadPool::new(3);
    let total = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    pool.run(7, |_| {
                        pool.run(3, |_| {
                            total.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                }
            });
        }
    });
    assert_eq!(total.into_inner(), 4 * 200 * 7 * 3);
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
    let pool = ThreadPool::new(2);
    let run = catch_unwind(AssertUnwindSafe(|| {
        pool.run(50, |task| assert!(task != 17, "task seventeen"));
    }));
    assert_eq!(run.unwrap_err().downcast_ref(), Some(&"task seventeen"));
    assert!(counts(&pool, 10).iter().all(|&count| count == 1));
}

#[test]
fn what_pays_is_a_part_of_the_share_and_whole_runs_come_of_it() {
    for share in [1, 2, 3, 8] {
        let pool = ThreadPool::new(share);
        for bytes in [0, 1, 40_000, 3_000_000, usize::MAX] {
            for _ in 0..100 {
                let paying = pool.paying(bytes);
                assert!((1..=share).contains(&paying.threads()));
                assert!(counts(&paying, 9).iter().all(|&count| count == 1));
            }
        }
    }
    assert_eq!(ThreadPool::new(2).paying(0).threads(), 2);
}

#[test]
fn no_more_threads_take_part_than_the_share_has() {
    // Wider than what is asked of it, so that there are workers that are not meant.
    let _wide = ThreadPool::new(6);
    for threads in 1..=4 {
        let pool = ThreadPool::new(threads);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let seen = std::sync::Mutex::new(std::collections::HashSet::new());
                        pool.run(20, |_| {
                            thread::sleep(Duration::from_micros(20));
                            seen.lock().unwrap().insert(thread::current().id());
                        });
                        let seen = seen.into_inner().unwrap().len();
                        assert!((1..=threads).contains(&seen), "{seen} of {threads}");
                    }
                });
            }
        });
    }
}
