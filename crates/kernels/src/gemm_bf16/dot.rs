//! Dot products of pairs: AVX-512 BF16.

use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps};
use std::mem::transmute;

use super::pack::Line;
use crate::simd::LANES;

/// Rows of a tile: sixteen sums hide the latency, and as many registers are left.
pub(super) const ROWS: usize = 8;

/// Adds to `sums[r][p]` the products of row `r` of `x` and panel `p`. A step has sixteen lines in `x`, of which the
/// first eight count, and sixteen of each panel in `w`.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn multiply(x: &[Line], w: &[Line], steps: usize, sums: &mut [[__m512; 2]; ROWS]) {
    if steps == 0 {
        return;
    }
    assert!((steps - 1) * LANES + ROWS <= x.len());
    assert!(steps * 2 * LANES <= w.len());
    let mut y = *sums;
    for step in 0..steps {
        for i in 0..LANES {
            let mut panels = [pairs(&w[0]); 2];
            for p in 0..2 {
                // SAFETY: the assertions bound every line of `w`.
                panels[p] = pairs(unsafe { w.get_unchecked((2 * step + p) * LANES + i) });
            }
            for r in 0..ROWS {
                // SAFETY: the assertions bound every line of `x`.
                let x = pairs(&[unsafe { x.get_unchecked(step * LANES + r) }[i]; LANES]);
                for p in 0..2 {
                    y[r][p] = _mm512_dpbf16_ps(y[r][p], x, panels[p]);
                }
            }
        }
    }
    *sums = y;
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(line: &Line) -> __m512bh {
    // SAFETY: both are 64 plain bytes, and any bits are a value of either.
    unsafe { transmute::<Line, __m512bh>(*line) }
}
