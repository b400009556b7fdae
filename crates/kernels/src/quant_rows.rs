//! Activations as signed bytes: what the integer products multiply.

use crate::panel16::groups;

/// Rows of activations quantised per row and group. The buffers are reused from call to call.
#[derive(Debug, Default, Clone)]
pub struct QuantRows {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) group_size: usize,
    /// Bytes of a row: `k` rounded up to 64 so that no step of any width runs past it; zeros beyond `k`.
    pub(crate) stride: usize,
    /// `[m, stride]`, each in `[-127, 127]`.
    pub(crate) codes: Vec<i8>,
    /// `[m, groups]`.
    pub(crate) scales: Vec<f32>,
    /// `[m, groups]`: sums of the codes, which carry the weights' zeros.
    pub(crate) sums: Vec<i32>,
}

impl QuantRows {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows held.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.m
    }

    /// Columns held.
    #[must_use]
    pub const fn columns(&self) -> usize {
        self.k
    }

    pub(crate) const fn groups(&self) -> usize {
        groups(self.k, self.group_size)
    }

    /// Replaces the contents by `x`, `[m, k]`: `x ≈ scale * code`, symmetric, the largest magnitude of a
    /// group at 127. `group_size` is that of the weights; 0 is the whole row. A value that is not finite
    /// makes its group not finite rather than silently wrong.
    ///
    /// # Panics
    /// If `x.len() != m * k`.
    pub fn quantize(&mut self, x: &[f32], m: usize, k: usize, group_size: usize) {
        assert_eq!(x.len(), m * k, "x is [m, k]");
        self.m = m;
        self.k = k;
        self.group_size = group_size;
        self.stride = k.next_multiple_of(64);
        let groups = self.groups();
        self.codes.clear();
        self.codes.resize(m * self.stride, 0);
        self.scales.clear();
        self.scales.resize(m * groups, 0.0);
        self.sums.clear();
        self.sums.resize(m * groups, 0);
        let width = if group_size == 0 {
            k.max(1)
        } else {
            group_size
        };
        for row in 0..m {
            let values = &x[row * k..(row + 1) * k];
            let codes = &mut self.codes[row * self.stride..][..k];
            for (group, (values, codes)) in values
                .chunks(width)
                .zip(codes.chunks_mut(width))
                .enumerate()
            {
                let (scale, sum) = quantize_group(values, codes);
                self.scales[row * groups + group] = scale;
                self.sums[row * groups + group] = sum;
            }
        }
    }
}

/// Returns the group's scale and the sum of its codes.
fn quantize_group(values: &[f32], codes: &mut [i8]) -> (f32, i32) {
    let largest = values.iter().fold(0.0_f32, |largest, value| {
        if value.abs() <= largest {
            largest
        } else {
            value.abs()
        }
    });
    if !largest.is_finite() {
        codes.fill(1);
        return (f32::NAN, codes.len() as i32);
    }
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    let mut sum = 0;
    for (value, code) in values.iter().zip(codes) {
        let rounded = (value * inverse).round_ties_even() as i8;
        *code = rounded;
        sum += i32::from(rounded);
    }
    (largest / 127.0, sum)
}
