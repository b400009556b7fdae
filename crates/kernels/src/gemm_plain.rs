//! Products with weights stored as floats.

use half::{bf16, f16};

use crate::{ThreadPool, shared::SharedOut};

/// Row-major weights `[n, k]`.
#[derive(Debug, Clone, Copy)]
pub enum PlainRows<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision bits.
    F16(&'a [u16]),
    /// Brain float bits.
    Bf16(&'a [u16]),
}

impl PlainRows<'_> {
    fn len(self) -> usize {
        match self {
            Self::F32(data) => data.len(),
            Self::F16(data) | Self::Bf16(data) => data.len(),
        }
    }

    fn get(self, index: usize) -> f32 {
        match self {
            Self::F32(data) => data[index],
            Self::F16(data) => f16::from_bits(data[index]).to_f32(),
            Self::Bf16(data) => bf16::from_bits(data[index]).to_f32(),
        }
    }
}

/// `out[m, n] = x[m, k] · wᵀ + bias`.
///
/// Every output is one chain of fused multiply-adds along `k`, so the result depends neither on the CPU,
/// nor on `m`, nor on the number of threads.
///
/// # Panics
/// If the lengths of `x`, `w`, `bias` and `out` do not follow from `m`, `n` and `k`.
#[expect(
    clippy::too_many_arguments,
    reason = "the operands of a matrix product with their shape"
)]
pub fn gemm_plain(
    pool: &ThreadPool,
    x: &[f32],
    m: usize,
    k: usize,
    w: PlainRows<'_>,
    n: usize,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    assert_eq!(x.len(), m * k, "x is [m, k]");
    assert_eq!(w.len(), n * k, "w is [n, k]");
    assert_eq!(out.len(), m * n, "out is [m, n]");
    assert!(bias.is_none_or(|bias| bias.len() == n), "bias is [n]");
    let shared = SharedOut::new(out);
    pool.run(n, |row| {
        for i in 0..m {
            let y = (0..k).fold(0.0_f32, |y, j| x[i * k + j].mul_add(w.get(row * k + j), y));
            // SAFETY: a task owns its column.
            unsafe { shared.write(i * n + row, y + bias.map_or(0.0, |bias| bias[row])) };
        }
    });
}
