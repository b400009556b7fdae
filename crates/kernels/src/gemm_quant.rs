//! Products of quantised activations and quantised weights.

use half::f16;

use crate::{GroupZero, QuantPanels, QuantRows, ThreadPool, shared::SharedOut};

/// `out[m, n] = x[m, k] · wᵀ + bias`, with `w` as stored.
///
/// `y = Σ_g sx_g · (sw_g · (Σ code·act − zero_g·Σ act))`, or `+ sx_g · min_g · Σ act` for weights with a
/// minimum. The integer sums are exact and the groups are added in ascending order with fused
/// multiply-adds, so the result depends neither on the CPU, nor on `m`, nor on the number of threads.
///
/// # Panics
/// If the shapes of `x`, `w`, `bias` and `out` disagree, or [`QuantPanels::check`] fails.
pub fn gemm_quant(
    pool: &ThreadPool,
    x: &QuantRows,
    w: &QuantPanels<'_>,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    check_shapes(x, w, bias, out);
    let shared = SharedOut::new(out);
    pool.run(w.panels(), |panel| {
        for row in panel * 16..(panel * 16 + 16).min(w.n) {
            for i in 0..x.m {
                let y = dot_row(x, i, w, row);
                // SAFETY: a task owns the columns of its panel.
                unsafe { shared.write(i * w.n + row, y + bias.map_or(0.0, |bias| bias[row])) };
            }
        }
    });
}

fn check_shapes(x: &QuantRows, w: &QuantPanels<'_>, bias: Option<&[f32]>, out: &[f32]) {
    if let Err(error) = w.check() {
        panic!("{error}");
    }
    assert_eq!(x.k, w.k, "activations and weights have the same k");
    assert_eq!(
        x.groups(),
        w.groups(),
        "activations are quantised with the group size of the weights"
    );
    assert_eq!(out.len(), x.m * w.n, "out is [m, n]");
    assert!(bias.is_none_or(|bias| bias.len() == w.n), "bias is [n]");
}

fn dot_row(x: &QuantRows, i: usize, w: &QuantPanels<'_>, row: usize) -> f32 {
    let width = if w.group_size == 0 {
        w.k.max(1)
    } else {
        w.group_size
    };
    let mut y = 0.0;
    for group in 0..w.groups() {
        let acts = &x.codes[i * x.stride..][group * width..((group + 1) * width).min(w.k)];
        let dot: i32 = acts
            .iter()
            .enumerate()
            .map(|(j, &act)| i32::from(w.code(row, group * width + j)) * i32::from(act))
            .sum();
        let (scale, sum) = (
            x.scales[i * x.groups() + group],
            x.sums[i * x.groups() + group],
        );
        let index = w.group_index(row, group);
        let zero = match w.zero {
            GroupZero::Middle => i32::from(w.bits.middle()),
            GroupZero::U8(zeros) => i32::from(zeros[index]),
            GroupZero::MinF16(mins) => {
                y = f16::from_bits(mins[index])
                    .to_f32()
                    .mul_add(scale * sum as f32, y);
                0
            }
        };
        y = (w.scales.get(index) * (dot - zero * sum) as f32).mul_add(scale, y);
    }
    y
}
