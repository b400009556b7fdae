//! Integer dot products of activations and the codes of panels: what every quantised product adds up.

use std::ops::Range;

use crate::panel16::STEP_BYTES;
use crate::simd::{Simd, prefetch};

/// How far ahead of a few rows their weights are asked for: the processor's own prefetching ends with every page of
/// 4 KiB.
pub(crate) const PREFETCH_BYTES: usize = 160 * STEP_BYTES;

/// Four signed bytes as the operand of a dot-product instruction.
///
/// # Safety
/// `4 * step + 4 <= acts.len()`.
#[inline(always)]
unsafe fn four(acts: &[i8], step: usize) -> i32 {
    // SAFETY: in bounds by contract, and unaligned reads are allowed.
    i32::from_le(unsafe { acts.as_ptr().add(4 * step).cast::<i32>().read_unaligned() })
}

/// Writes the codes of stored steps as steps of eight bits.
#[inline(always)]
pub(crate) fn unpack<S: Simd, const WIDTH: usize>(
    s: S,
    stored: &[[u8; 64]],
    unpacked: &mut [[u8; 64]],
) {
    let per_byte = 8 / WIDTH;
    for (step, fields) in stored.iter().zip(unpacked.chunks_exact_mut(per_byte)) {
        let step = s.load_bytes(step);
        for (index, field) in fields.iter_mut().enumerate() {
            s.store_bytes(s.field(step, WIDTH, index), field);
        }
    }
}

/// `R` rows against stored steps of one panel. If `PREFETCH`, as many from `ahead` on are asked for.
#[inline(always)]
pub(crate) fn dot_part<S: Simd, const WIDTH: usize, const R: usize, const PREFETCH: bool>(
    s: S,
    codes: &[[u8; 64]],
    ahead: *const u8,
    acts: [&[i8]; R],
    steps: Range<usize>,
    start: [[S::I; 1]; R],
) -> [[S::I; 1]; R] {
    let per_byte = 8 / WIDTH;
    assert!(steps.end <= codes.len());
    assert!(
        acts.iter()
            .all(|acts| 4 * per_byte * steps.end <= acts.len())
    );
    // As many sums as hide the latency of the dot product.
    let ways = match R {
        1 => 4,
        2 | 3 => 2,
        _ => 1,
    };
    let mut sums = [[s.splat_i32(0); 4]; R];
    for r in 0..R {
        sums[r][0] = start[r][0];
    }
    let at_once = if ways > per_byte { ways / per_byte } else { 1 };
    let mut step = steps.start;
    macro_rules! add {
        ($steps:expr) => {
            for on in 0..$steps {
                if PREFETCH {
                    prefetch(ahead.wrapping_add((step + on) * STEP_BYTES));
                }
                // SAFETY: `step + on < steps.end`, which the assertion bounds.
                let code = s.load_bytes(unsafe { codes.get_unchecked(step + on) });
                for index in 0..per_byte {
                    let field = if WIDTH == 8 {
                        code
                    } else {
                        s.field(code, WIDTH, index)
                    };
                    for r in 0..R {
                        // SAFETY: as above.
                        let act = unsafe { four(acts[r], (step + on) * per_byte + index) };
                        let sum = &mut sums[r][(on * per_byte + index) % ways];
                        *sum = dot_width::<S, WIDTH>(s, *sum, field, act);
                    }
                }
            }
            step += $steps;
        };
    }
    while step + at_once <= steps.end {
        add!(at_once);
    }
    while step < steps.end {
        add!(1);
    }
    let mut dots = start;
    for r in 0..R {
        let [a, b, c, d] = sums[r];
        dots[r][0] = match ways {
            1 => a,
            2 => s.add_i32(a, b),
            _ => s.add_i32(s.add_i32(a, b), s.add_i32(c, d)),
        };
    }
    dots
}

#[inline(always)]
fn dot_width<S: Simd, const WIDTH: usize>(s: S, sum: S::I, codes: S::B, acts: i32) -> S::I {
    if WIDTH == 8 {
        s.dot::<false>(sum, codes, acts)
    } else {
        s.dot::<true>(sum, codes, acts)
    }
}

/// `R` rows against unpacked steps of `P` panels.
#[inline(always)]
pub(crate) fn dot_tile<S: Simd, const WIDTH: usize, const P: usize, const R: usize>(
    s: S,
    codes: [&[[u8; 64]]; P],
    acts: [&[i8]; R],
    steps: Range<usize>,
    start: [[S::I; P]; R],
) -> [[S::I; P]; R] {
    assert!(codes.iter().all(|codes| steps.end <= codes.len()));
    assert!(acts.iter().all(|acts| 4 * steps.end <= acts.len()));
    let mut sums = start;
    for step in steps {
        // SAFETY: `step < steps.end`, which the assertions bound.
        let mut step_codes = [s.load_bytes(unsafe { codes[0].get_unchecked(step) }); P];
        for p in 1..P {
            // SAFETY: as above.
            step_codes[p] = s.load_bytes(unsafe { codes[p].get_unchecked(step) });
        }
        for r in 0..R {
            // SAFETY: as above.
            let act = unsafe { four(acts[r], step) };
            for p in 0..P {
                sums[r][p] = dot_width::<S, WIDTH>(s, sums[r][p], step_codes[p], act);
            }
        }
    }
    sums
}
