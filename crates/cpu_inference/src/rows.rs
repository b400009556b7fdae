//! Work on the rows of buffers, shared out over the threads.

use std::marker::PhantomData;
use std::ops::Range;

use kernels::ThreadPool;

/// Fewer numbers than this cost less than waking a thread.
const SMALL: usize = 16 * 1024;

/// Runs of rows per thread: enough to even out threads of different speed.
const RUNS_PER_THREAD: usize = 4;

/// A mutable slice of which tasks take parts that do not overlap.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out parts through `part`, whose caller promises that no two overlap; sending
// such parts to other threads is what `&mut [T]: Send` allows for `T: Send`.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above; sharing the handle lends nothing without `part`.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            lifetime: PhantomData,
        }
    }

    /// The part `range`.
    ///
    /// # Safety
    /// No two parts that are alive at once may overlap.
    #[expect(clippy::mut_from_ref, reason = "the caller keeps parts apart")]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range lies inside the slice that `new` borrowed mutably for `'a`, and the caller
        // promises that no other live part overlaps it.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start)
        }
    }
}

/// Calls `work(first_row, runs)` on consecutive runs of the rows of `buffers`, each `[n, width]`.
pub(crate) fn for_each_run<const N: usize>(
    pool: &ThreadPool,
    buffers: [&mut [f32]; N],
    width: usize,
    work: impl Fn(usize, [&mut [f32]; N]) + Sync,
) {
    let len = buffers.iter().map(|buffer| buffer.len()).min().unwrap_or(0);
    let rows = len / width;
    if len <= SMALL || pool.threads() == 1 {
        work(0, buffers.map(|buffer| &mut buffer[..rows * width]));
        return;
    }
    let run = rows.div_ceil(pool.threads() * RUNS_PER_THREAD);
    let shared = buffers.map(Disjoint::new);
    pool.run(rows.div_ceil(run), |task| {
        let first = task * run;
        let last = (first + run).min(rows);
        // SAFETY: runs of different tasks cover different rows.
        let parts = shared
            .each_ref()
            .map(|buffer| unsafe { buffer.part(first * width..last * width) });
        work(first, parts);
    });
}
