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
        let b: [S::F; P] = std::array::from_fn(|p| {
            // SAFETY: the assertions bound every row of `a` and of `b`.
            s.load(unsafe { &*b.as_ptr().add(j * b_stride + p * LANES).cast() })
        });
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            let a = s.splat(unsafe { *a.data.get_unchecked(r * a.stride + j) });
            for p in 0..P {
                sums[p] = s.fma(a, b[p], sums[p]);
            }
        }
    }
    *y = sums;
}

/// Writes `columns` columns of sixteen rows as vectors, column `j` at `packed[j * step + offset]`.
/// `vector(r, j)` loads sixteen columns of row `r` from `j`, `value(r, j)` a single one.
#[inline(always)]
pub(crate) fn pack_columns<S: Simd>(
    s: S,
    columns: usize,
    vector: impl Fn(usize, usize) -> S::F,
    value: impl Fn(usize, usize) -> f32,
    packed: &mut [[f32; LANES]],
    (step, offset): (usize, usize),
) {
    let whole = columns / LANES * LANES;
    for j in (0..whole).step_by(LANES) {
        let block = s.transpose(std::array::from_fn(|r| vector(r, j)));
        for (i, column) in block.into_iter().enumerate() {
            s.store(column, &mut packed[(j + i) * step + offset]);
        }
    }
    for j in whole..columns {
        for (r, lane) in packed[j * step + offset].iter_mut().enumerate() {
            *lane = value(r, j);
        }
    }
}
