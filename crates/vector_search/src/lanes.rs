//! Dot products and squared distances of one vector with four rows at a time.
//!
//! A sum runs in sixteen lanes of fused multiply-adds that are then added as a tree. Every instruction
//! set follows that order exactly, so results are equal to the last bit on every CPU. Four rows share
//! each load of the query and hide the latency of the additions.

use std::sync::OnceLock;

const LANES: usize = 16;

type Tile = fn(&[f32], [&[f32]; 4]) -> [f32; 4];

#[derive(Clone, Copy)]
struct Tiles {
    dot: Tile,
    squared_distance: Tile,
}

fn tiles() -> Tiles {
    static CHOSEN: OnceLock<Tiles> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        if let Some(tiles) = x86::tiles() {
            return tiles;
        }
        SCALAR
    })
}

const SCALAR: Tiles = Tiles {
    dot: scalar::<false>,
    squared_distance: scalar::<true>,
};

/// Dot product of two vectors of equal length.
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    dot_4(a, [b; 4])[0]
}

/// Squared Euclidean distance of two vectors of equal length.
#[must_use]
pub fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    squared_distance_4(a, [b; 4])[0]
}

/// Euclidean length.
#[must_use]
pub fn norm(a: &[f32]) -> f32 {
    dot(a, a).sqrt()
}

pub(crate) fn dot_4(query: &[f32], rows: [&[f32]; 4]) -> [f32; 4] {
    (tiles().dot)(query, rows)
}

pub(crate) fn squared_distance_4(query: &[f32], rows: [&[f32]; 4]) -> [f32; 4] {
    (tiles().squared_distance)(query, rows)
}

/// Adds the lanes as a balanced tree: lane i meets lane i + 8, then i + 4, i + 2, i + 1.
#[inline]
fn reduce(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

fn scalar<const DISTANCE: bool>(query: &[f32], rows: [&[f32]; 4]) -> [f32; 4] {
    rows.map(|row| {
        assert_eq!(query.len(), row.len(), "vectors of equal length");
        let mut sums = [0.0f32; LANES];
        for (a, b) in query.chunks(LANES).zip(row.chunks(LANES)) {
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                let (x, y) = if DISTANCE { (a - b, a - b) } else { (a, b) };
                *sum = x.mul_add(y, *sum);
            }
        }
        reduce(sums)
    })
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LANES, Tiles, reduce};
    use std::arch::x86_64::{
        __m256, __m512, __mmask16, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps,
        _mm256_storeu_ps, _mm256_sub_ps, _mm512_fmadd_ps, _mm512_maskz_loadu_ps, _mm512_setzero_ps,
        _mm512_storeu_ps, _mm512_sub_ps,
    };

    pub(super) fn tiles() -> Option<Tiles> {
        let forced = std::env::var("AIOS_ISA").unwrap_or_default();
        let allows = |name: &str| forced.is_empty() || forced == name;
        if allows("avx512") && is_x86_feature_detected!("avx512f") {
            return Some(Tiles {
                dot: |query, rows| {
                    check(query, rows);
                    // SAFETY: avx512f was just detected, and the lengths are equal.
                    unsafe { avx512::<false>(query, rows) }
                },
                squared_distance: |query, rows| {
                    check(query, rows);
                    // SAFETY: as above.
                    unsafe { avx512::<true>(query, rows) }
                },
            });
        }
        if forced != "scalar" && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
        {
            return Some(Tiles {
                dot: |query, rows| {
                    check(query, rows);
                    // SAFETY: avx2 and fma were just detected, and the lengths are equal.
                    unsafe { avx2::<false>(query, rows) }
                },
                squared_distance: |query, rows| {
                    check(query, rows);
                    // SAFETY: as above.
                    unsafe { avx2::<true>(query, rows) }
                },
            });
        }
        None
    }

    #[inline]
    fn check(query: &[f32], rows: [&[f32]; 4]) {
        assert!(
            rows.iter().all(|row| row.len() == query.len()),
            "vectors of equal length"
        );
    }

    /// # Safety
    /// The CPU has avx512f; every row is as long as the query.
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512<const DISTANCE: bool>(query: &[f32], rows: [&[f32]; 4]) -> [f32; 4] {
        let mut sums: [__m512; 4] = [_mm512_setzero_ps(); 4];
        let mut at = 0;
        while at < query.len() {
            let left = query.len() - at;
            let mask: __mmask16 = if left >= LANES {
                u16::MAX
            } else {
                (1 << left) - 1
            };
            // SAFETY: the mask keeps the load within the query.
            let a = unsafe { _mm512_maskz_loadu_ps(mask, query.as_ptr().add(at)) };
            for (sum, row) in sums.iter_mut().zip(rows) {
                // SAFETY: the row is as long as the query.
                let b = unsafe { _mm512_maskz_loadu_ps(mask, row.as_ptr().add(at)) };
                *sum = if DISTANCE {
                    let d = _mm512_sub_ps(a, b);
                    _mm512_fmadd_ps(d, d, *sum)
                } else {
                    _mm512_fmadd_ps(a, b, *sum)
                };
            }
            at += LANES;
        }
        sums.map(|sum| {
            let mut lanes = [0.0; LANES];
            // SAFETY: `lanes` holds sixteen floats.
            unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), sum) };
            reduce(lanes)
        })
    }

    /// # Safety
    /// The CPU has avx2 and fma; every row is as long as the query.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<const DISTANCE: bool>(query: &[f32], rows: [&[f32]; 4]) -> [f32; 4] {
        let mut sums: [[__m256; 2]; 4] = [[_mm256_setzero_ps(); 2]; 4];
        let whole = query.len() / LANES * LANES;
        let mut at = 0;
        while at < whole {
            // SAFETY: sixteen floats from `at` lie within every vector.
            unsafe {
                step::<DISTANCE>(
                    query.as_ptr().add(at),
                    rows.map(|row| row.as_ptr().add(at)),
                    &mut sums,
                );
            };
            at += LANES;
        }
        if whole < query.len() {
            let pad = |vector: &[f32]| {
                let mut lanes = [0.0; LANES];
                lanes[..vector.len() - whole].copy_from_slice(&vector[whole..]);
                lanes
            };
            let (query, rows) = (pad(query), rows.map(pad));
            // SAFETY: the padded copies hold sixteen floats.
            unsafe {
                step::<DISTANCE>(
                    query.as_ptr(),
                    rows.each_ref().map(|row| row.as_ptr()),
                    &mut sums,
                );
            };
        }
        sums.map(|[low, high]| {
            let mut lanes = [0.0; LANES];
            // SAFETY: `lanes` holds sixteen floats.
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), low);
                _mm256_storeu_ps(lanes.as_mut_ptr().add(8), high);
            }
            reduce(lanes)
        })
    }

    /// # Safety
    /// The CPU has avx2 and fma; every pointer is followed by sixteen floats.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn step<const DISTANCE: bool>(
        query: *const f32,
        rows: [*const f32; 4],
        sums: &mut [[__m256; 2]; 4],
    ) {
        for half in 0..2 {
            // SAFETY: eight floats from `8 * half` lie within the sixteen.
            let a = unsafe { _mm256_loadu_ps(query.add(8 * half)) };
            for (sum, row) in sums.iter_mut().zip(rows) {
                // SAFETY: as above.
                let b = unsafe { _mm256_loadu_ps(row.add(8 * half)) };
                sum[half] = if DISTANCE {
                    let d = _mm256_sub_ps(a, b);
                    _mm256_fmadd_ps(d, d, sum[half])
                } else {
                    _mm256_fmadd_ps(a, b, sum[half])
                };
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::super::{SCALAR, scalar};
        use super::{avx2, avx512};
        use proptest::prelude::*;

        proptest! {
            #[test]
            fn every_instruction_set_equals_scalar_to_the_last_bit(
                vectors in (1usize..130).prop_flat_map(|n| prop::collection::vec(prop::collection::vec(-1e3f32..1e3, n), 5))
            ) {
                let rows: [&[f32]; 4] = std::array::from_fn(|i| vectors[i + 1].as_slice());
                let dot = (SCALAR.dot)(&vectors[0], rows);
                let distance = scalar::<true>(&vectors[0], rows);
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: detected; the vectors are equally long.
                    prop_assert_eq!(unsafe { (avx2::<false>(&vectors[0], rows), avx2::<true>(&vectors[0], rows)) }, (dot, distance));
                }
                if is_x86_feature_detected!("avx512f") {
                    // SAFETY: detected; the vectors are equally long.
                    prop_assert_eq!(unsafe { (avx512::<false>(&vectors[0], rows), avx512::<true>(&vectors[0], rows)) }, (dot, distance));
                }
            }
        }
    }
}
