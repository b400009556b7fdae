//! The register tile of all `f32` products.

use crate::simd::{LANES, Simd};

/// Left-hand rows of a tile: row `r` starts `r * stride` values into the slice.
#[derive(Clone, Copy)]
pub(crate) struct TileRows<'a> {
    data: &'a [f32],
    stride: usize,
}

impl<'a> TileRows<'a> {
    #[inline(always)]
    pub(crate) fn new(data: &'a [f32], stride: usize) -> Self {
        Self { data, stride }
    }
}

/// `y[r][p] += Σ_j a[r][j] · b[j][p]` for `j < depth`, ascending, one fused multiply-add each. Row `j` of `b`
/// starts at `j * b_stride` and holds `P` vectors.
#[inline(always)]
pub(crate) fn fma_tile<S: Simd, const P: usize, const R: usize>(
    s: S,
    a: TileRows<'_>,
    b: &[f32],
    b_stride: usize,
    depth: usize,
    y: &mut [[S::F; P]; R],
) {
    if depth == 0 {
        return;
    }
    assert!((R - 1) * a.stride + depth <= a.data.len());
    assert!((depth - 1) * b_stride + P * LANES <= b.len());
    let mut sums = *y;
    for j in 0..depth {
        // SAFETY: the assertions bound every row of `a` and of `b`.
        let vectors = unsafe { b.as_ptr().add(j * b_stride) }.cast::<[f32; LANES]>();
        // SAFETY: as above.
        let mut b = [s.load(unsafe { &*vectors }); P];
        for p in 1..P {
            // SAFETY: as above.
            b[p] = s.load(unsafe { &*vectors.add(p) });
        }
        for r in 0..R {
            // SAFETY: as above.
            let a = s.splat(unsafe { *a.data.get_unchecked(r * a.stride + j) });
            for p in 0..P {
                sums[r][p] = s.fma(a, b[p], sums[r][p]);
            }
        }
    }
    *y = sums;
}

/// Sixteen rows of numbers that become the lanes of a panel.
pub(crate) trait SixteenRows {
    /// Columns `j..j + 16` of row `r`.
    fn vector<S: Simd>(&self, s: S, r: usize, j: usize) -> S::F;
    /// Column `j` of row `r`.
    fn value(&self, r: usize, j: usize) -> f32;
}

/// Writes the first `columns` columns as vectors, column `j` at `packed[j * step + offset]`.
#[inline(always)]
pub(crate) fn pack_columns<S: Simd>(
    s: S,
    rows: &impl SixteenRows,
    columns: usize,
    packed: &mut [[f32; LANES]],
    (step, offset): (usize, usize),
) {
    let whole = columns / LANES * LANES;
    for j in (0..whole).step_by(LANES) {
        let mut block = [s.splat(0.0); LANES];
        for r in 0..LANES {
            block[r] = rows.vector(s, r, j);
        }
        let block = s.transpose(block);
        for i in 0..LANES {
            s.store(block[i], &mut packed[(j + i) * step + offset]);
        }
    }
    for j in whole..columns {
        for (r, lane) in packed[j * step + offset].iter_mut().enumerate() {
            *lane = rows.value(r, j);
        }
    }
}

/// Sixteen values from `index`.
#[inline(always)]
pub(crate) fn lanes<T>(values: &[T], index: usize) -> &[T; LANES] {
    match values[index..].first_chunk() {
        Some(lanes) => lanes,
        None => unreachable!("lengths are checked before any kernel runs"),
    }
}

/// Sixteen places from `index`.
#[inline(always)]
pub(crate) fn lanes_mut<T>(values: &mut [T], index: usize) -> &mut [T; LANES] {
    match values[index..].first_chunk_mut() {
        Some(lanes) => lanes,
        None => unreachable!("lengths are checked before any kernel runs"),
    }
}
