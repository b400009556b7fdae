//! Buffers, kept from one pass to the next, and work on their rows, shared out over the threads.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kernels::{SharedOut, ThreadPool};

/// Runs per thread: enough to even out threads of different speed.
const RUNS_PER_THREAD: usize = 4;

/// Calls `work(row, parts)` for each of `rows` rows; `parts` are the row's of `buffers`, each `[rows, width]`.
pub(crate) fn for_each_row<const N: usize>(
    pool: &ThreadPool,
    rows: usize,
    buffers: [&mut [f32]; N],
    work: impl Fn(usize, [&mut [f32]; N]) + Sync,
) {
    if rows == 0 {
        return;
    }
    let shared = buffers.map(|buffer| (buffer.len() / rows, SharedOut::new(buffer)));
    let run = rows.div_ceil(pool.threads() * RUNS_PER_THREAD);
    pool.run(rows.div_ceil(run), |task| {
        for row in task * run..((task + 1) * run).min(rows) {
            // SAFETY: rows of different tasks differ.
            let parts = shared.map(|(width, buffer)| unsafe { buffer.part(row * width, width) });
            work(row, parts);
        }
    });
}

/// Copies `[rows, width]`.
pub(crate) fn copy_rows(pool: &ThreadPool, rows: usize, from: &[f32], to: &mut [f32]) {
    for_each_row(pool, rows, [to], |row, [to]| {
        to.copy_from_slice(&from[row * to.len()..][..to.len()]);
    });
}

/// The first `len` numbers of a buffer, which holds anything.
pub(crate) fn fit(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Memory that passes leave for the next: pages that the system gives anew cost as much as much of the arithmetic.
///
/// A pass asks for what the one before it asked for, or for a little more or less, so there is hardly more of it than
/// the largest pass takes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spare(Arc<Mutex<Vec<Vec<f32>>>>);

impl Spare {
    /// A buffer that holds anything.
    pub(crate) fn take(&self, len: usize) -> Buffer {
        let mut kept = self.lock();
        let mut values = Vec::new();
        // The smallest that is large enough, and not by far; or else the largest that is too small.
        let lens = || kept.iter().map(Vec::len).enumerate();
        let fitting = lens().filter(|&(_, held)| (len..=2 * len).contains(&held));
        let smaller = lens().filter(|&(_, held)| held < len);
        let chosen = fitting.min_by_key(|&(_, held)| held);
        let chosen = chosen.or_else(|| smaller.max_by_key(|&(_, held)| held));
        if let Some((at, _)) = chosen {
            values = kept.swap_remove(at);
        }
        drop(kept);
        if values.len() < len {
            // Nothing of it is worth copying, nor held beside the new one.
            drop(std::mem::take(&mut values));
            values = vec![0.0; len];
        }
        Buffer {
            values,
            len,
            spare: self.clone(),
        }
    }

    /// A buffer of zeros.
    pub(crate) fn zeros(&self, len: usize) -> Buffer {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
    }

    /// A buffer that holds those numbers.
    pub(crate) fn copy(&self, values: &[f32]) -> Buffer {
        let mut buffer = self.take(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<f32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers whose memory goes back to where it came from.
#[derive(Debug)]
pub(crate) struct Buffer {
    values: Vec<f32>,
    len: usize,
    spare: Spare,
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        self.spare.lock().push(values);
    }
}

#[cfg(test)]
mod tests {
    use super::Spare;

    #[test]
    fn what_was_left_is_taken_again() {
        let spare = Spare::default();
        let addresses = |sizes: &[usize]| {
            let buffers: Vec<_> = sizes.iter().map(|&size| spare.zeros(size)).collect();
            for (buffer, &size) in buffers.iter().zip(sizes) {
                assert_eq!(buffer.len(), size);
                assert!(buffer.iter().all(|&x| x == 0.0));
            }
            let mut found: Vec<_> = buffers.iter().map(|one| one.as_ptr().addr()).collect();
            found.sort_unstable();
            found
        };
        let first = addresses(&[100, 3000, 200, 100]);
        assert_eq!(addresses(&[90, 2900, 90, 180]), first);
        // More than there was: as many buffers as before.
        assert_eq!(addresses(&[400, 5000, 400, 400]).len(), spare.lock().len());
    }

    #[test]
    fn what_is_small_leaves_what_is_large_alone() {
        let spare = Spare::default();
        let large = spare.take(1000).as_ptr();
        let small = spare.take(10);
        assert_ne!(small.as_ptr(), large);
        assert_eq!(spare.take(900).as_ptr(), large);
    }

    #[test]
    fn a_copy_holds_what_it_is_of() {
        let spare = Spare::default();
        drop(spare.copy(&[1.0, 2.0, 3.0]));
        assert_eq!(&spare.copy(&[4.0, 5.0])[..], &[4.0, 5.0]);
    }
}
