//! Products of rounded operands in single precision, on any CPU.

use half::bf16;

use super::{Bf16Rows, Bf16Weights};
use crate::panel_rounding::{PanelLevels, dequantize_panel};
use crate::panel16::{GroupZero, PANEL_ROWS, QuantPanels};
use crate::scratch::Scratch;
use crate::shared::SharedOut;
use crate::{Onto, PlainRows, ThreadPool, gemm_back, gemm_plain};

/// `x · w`, onto what there is: a part of `x` for each of `w`.
pub(super) fn multiply_all(
    pool: &ThreadPool,
    x: &Bf16Rows,
    w: &[Bf16Weights<'_>],
    n: usize,
    onto: Onto<'_>,
    out: &mut [f32],
) {
    let m = x.rows;
    for (part, w) in w.iter().enumerate() {
        let (k, x) = (x.columns[part], &x.scratch.as_floats()[x.place(part)]);
        let onto = if part == 0 { onto } else { Onto::Out };
        let mut scratch = Scratch::take(n * k * size_of::<f32>());
        let rounded = &mut scratch.vectors().as_flattened_mut()[..n * k];
        match w {
            Bf16Weights::Outputs(values) | Bf16Weights::Inputs(values) => {
                round(pool, values, rounded);
            }
            Bf16Weights::OutputPanels(panels) | Bf16Weights::InputPanels(panels) => {
                dequantize(pool, panels, rounded);
            }
        }
        match w {
            Bf16Weights::Outputs(_) | Bf16Weights::OutputPanels(_) => {
                gemm_plain(pool, x, m, k, PlainRows::F32(rounded), n, onto, out);
            }
            Bf16Weights::Inputs(_) | Bf16Weights::InputPanels(_) => {
                gemm_back(pool, x, m, k, rounded, n, onto, out);
            }
        }
    }
}

/// Writes the nearest brain floats, as single precision.
pub(super) fn round(pool: &ThreadPool, values: &[f32], nearest: &mut [f32]) {
    /// Values of a task.
    const PART: usize = 1 << 15;
    let shared = SharedOut::new(nearest);
    let parts = values.len().div_ceil(PART);
    pool.paying(size_of_val(values)).run(parts, |part| {
        let values = &values[part * PART..values.len().min((part + 1) * PART)];
        // SAFETY: a part has one task.
        let nearest = unsafe { shared.part(part * PART, values.len()) };
        for (nearest, &value) in nearest.iter_mut().zip(values) {
            *nearest = rounded(value);
        }
    });
}

fn rounded(value: f32) -> f32 {
    bf16::from_f32(value).to_f32()
}

/// Writes the weights, `[n, k]`, rounded.
fn dequantize(pool: &ThreadPool, w: &QuantPanels<'_>, out: &mut [f32]) {
    let (groups, bytes) = (w.groups(), w.bits.panel_bytes(w.k));
    let width = if w.group_size == 0 { w.k } else { w.group_size };
    let shared = SharedOut::new(out);
    pool.paying(w.bytes()).run(w.panels(), |panel| {
        let rows = (w.n - panel * PANEL_ROWS).min(PANEL_ROWS);
        // SAFETY: a panel has one task.
        let out = unsafe { shared.part(panel * PANEL_ROWS * w.k, rows * w.k) };
        let lanes = |at: &dyn Fn(usize) -> f32| -> Vec<[f32; PANEL_ROWS]> {
            let first = |group| (panel * groups + group) * PANEL_ROWS;
            let of_group = |group| std::array::from_fn(|lane| at(first(group) + lane));
            (0..groups).map(of_group).collect()
        };
        let scale = lanes(&|at| w.scales.get(at));
        let offset = lanes(&|at| match w.zero {
            GroupZero::Middle => f32::from(w.bits.middle()),
            GroupZero::U8(zeros) => f32::from(zeros[at]),
            GroupZero::MinF16(minima) => half::f16::from_bits(minima[at]).to_f32(),
        });
        let levels = PanelLevels {
            scale: &scale,
            offset: &offset,
            is_minimum: matches!(w.zero, GroupZero::MinF16(_)),
        };
        let codes = &w.codes[panel * bytes..][..bytes];
        dequantize_panel(codes, w.k, width, levels, w.bits, out);
        for value in out {
            *value = rounded(*value);
        }
    });
}
