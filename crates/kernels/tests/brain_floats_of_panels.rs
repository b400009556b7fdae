//! Products of brain floats with quantised weights, and of rows in two parts.

mod common;

use common::{Matrix, Random, ZeroKind, assert_same_bits};
use half::bf16;
use kernels::{
    Bf16Rows, Bf16Unit, Bf16Weights, CodeBits, Isa, Onto, ThreadPool, gemm_bf16, gemm_bf16_rows,
};
use proptest::prelude::*;

/// Calls `f` with every unit, and the portable one on every instruction set.
fn on_every_unit(f: impl Fn(&str)) {
    for isa in Isa::available() {
        isa.scope(|| Bf16Unit::Portable.scope(|| f(&format!("portable on {isa}"))));
    }
    for unit in Bf16Unit::available() {
        unit.scope(|| f(&unit.to_string()));
    }
}

/// The weights in single precision, as they are dequantised, `[n, k]`.
fn weights(matrix: &Matrix) -> Vec<f32> {
    let groups = if matrix.group_size == 0 {
        1
    } else {
        matrix.k.div_ceil(matrix.group_size)
    };
    let cell = |cell: usize| {
        let (row, column) = (cell / matrix.k, cell % matrix.k);
        let at = row * groups + column.checked_div(matrix.group_size).unwrap_or(0);
        let (code, scale) = (f32::from(matrix.codes[cell]), matrix.scales[at]);
        match matrix.kind {
            ZeroKind::Middle => scale * (code - f32::from(matrix.bits.middle())),
            ZeroKind::U8 => scale * (code - f32::from(matrix.zeros[at])),
            ZeroKind::Min => scale * code + matrix.mins[at],
        }
    };
    (0..matrix.n * matrix.k).map(cell).collect()
}

fn matrix() -> impl Strategy<Value = Matrix> {
    let bits = prop_oneof![
        Just(CodeBits::Int8),
        Just(CodeBits::Int4),
        Just(CodeBits::Int2)
    ];
    let kind = prop_oneof![
        Just(ZeroKind::Middle),
        Just(ZeroKind::U8),
        Just(ZeroKind::Min)
    ];
    let sizes = (1_usize..90, 1_usize..150, 0_usize..7);
    (bits, kind, sizes, any::<(bool, u64)>()).prop_map(
        |(bits, kind, (n, k, steps), (half_scales, seed))| {
            let group = steps * bits.step_columns();
            let kind = (kind, half_scales);
            Matrix::random(&mut Random(seed), (n, k), bits, group, kind)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn codes_give_the_bits_of_the_weights_that_they_stand_for(matrix in matrix(), m in 1_usize..70, seed: u64) {
        let (n, k) = (matrix.n, matrix.k);
        let mut random = Random(seed);
        let (forth, back) = (random.vector(m * k, 3.0), random.vector(m * n, 3.0));
        let w = weights(&matrix);
        let run = |x: &[f32], w, (k, n)| {
            let mut out = vec![1.0; m * n];
            gemm_bf16(&ThreadPool::new(2), x, m, k, w, n, Onto::Out, &mut out);
            out
        };
        on_every_unit(|unit| {
            let [codes, plain] = [Bf16Weights::OutputPanels(matrix.panels()), Bf16Weights::Outputs(&w)]
                .map(|w| run(&forth, w, (k, n)));
            assert_same_bits(&codes, &plain, &format!("{unit}: forth"));
            let [codes, plain] = [Bf16Weights::InputPanels(matrix.panels()), Bf16Weights::Inputs(&w)]
                .map(|w| run(&back, w, (n, k)));
            assert_same_bits(&codes, &plain, &format!("{unit}: back"));
        });
    }

    /// The sum of two products in one, and the first alone of the same rows.
    #[test]
    fn parts_of_rows_add_up(
        m in 1_usize..70, n in 1_usize..70, k in 0_usize..100, beside in 0_usize..40, seed: u64,
    ) {
        let mut random = Random(seed);
        let (x, y) = (random.vector(m * k, 3.0), random.vector(m * beside, 3.0));
        let (v, w) = (random.vector(n * k, 1.0), random.vector(n * beside, 1.0));
        let start = random.vector(m * n, 2.0);
        let pool = ThreadPool::new(2);
        on_every_unit(|unit| {
            let mut rows = Bf16Rows::new(&pool, &x, m, k, beside);
            let mut alone = start.clone();
            let weights = [Bf16Weights::Outputs(&v), Bf16Weights::Inputs(&w)];
            gemm_bf16_rows(&pool, &rows, &weights[..1], n, Onto::Out, &mut alone);
            let mut wanted = start.clone();
            gemm_bf16(&pool, &x, m, k, weights[0], n, Onto::Out, &mut wanted);
            assert_same_bits(&alone, &wanted, &format!("{unit}: the first part"));
            // Twice: what was there before is replaced.
            for y in [vec![f32::NAN; y.len()], y.clone()] {
                rows.put_beside(&pool, &y, beside);
            }
            let mut both = start.clone();
            gemm_bf16_rows(&pool, &rows, &weights, n, Onto::Out, &mut both);
            let rounded = |value: f32| bf16::from_f32(value).to_f64();
            for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let first = (0..k).map(|at| rounded(x[i * k + at]) * rounded(v[j * k + at]));
                let second = (0..beside).map(|at| rounded(y[i * beside + at]) * rounded(w[at * n + j]));
                let before = f64::from(start[i * n + j]);
                let terms = first.chain(second);
                let (want, magnitude) = terms.fold((before, before.abs()), |(sum, all), term| {
                    (sum + term, all + term.abs())
                });
                let error = (f64::from(both[i * n + j]) - want).abs();
                let tolerance = (k + beside + 1) as f64 * magnitude / f64::from(1 << 22);
                assert!(error <= tolerance, "{unit}: {error:e} at {i}, {j}");
            }
        });
    }
}

/// Scales of rows that do not exist are never multiplied with.
#[test]
fn what_pads_a_panel_is_not_read() {
    let mut random = Random(3);
    let kind = (ZeroKind::Min, false);
    let matrix = Matrix::random(&mut random, (5, 32), CodeBits::Int4, 32, kind);
    let mut scales = kernels::pack_groups(&matrix.scales, 5, 1);
    scales[5..].fill(f32::NAN);
    let panels = kernels::QuantPanels {
        scales: kernels::GroupScales::F32(&scales),
        ..matrix.panels()
    };
    let x = random.vector(3 * 5, 1.0);
    on_every_unit(|unit| {
        let mut out = vec![0.0; 3 * 32];
        let w = Bf16Weights::InputPanels(panels);
        gemm_bf16(
            &ThreadPool::new(1),
            &x,
            3,
            5,
            w,
            32,
            Onto::Nothing,
            &mut out,
        );
        assert!(out.iter().all(|x| x.is_finite()), "{unit}");
    });
}
