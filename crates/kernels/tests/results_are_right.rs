//! The scalar definition against plain formulas in double precision, with the tolerances the docs state.

mod common;

use common::{Matrix, Random, ZeroKind};
use kernels::{
    CodeBits, Onto, PlainRows, QuantProduct, QuantRows, RowProduct, Terms, ThreadPool,
    dequantize_row, gemm_quant_all,
};
use proptest::prelude::*;

fn close(got: f32, want: f64, tolerance: f64, what: &str) {
    let error = (f64::from(got) - want).abs();
    assert!(
        error <= tolerance,
        "{what}: got {got:e}, want {want:e}, error {error:e} > {tolerance:e}"
    );
}

/// Complementary error function by its continued fraction and series, good to 1e-14.
fn normal_cdf(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let erfc = if z < 2.5 {
        let mut term = z;
        let mut sum = z;
        for n in 1..120 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        1.0 - sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..=80)
            .rev()
            .fold(0.0, |f, n| f64::from(n) / 2.0 / (z + f));
        (-z * z).exp() / ((z + fraction) * std::f64::consts::PI.sqrt())
    };
    if x < 0.0 {
        erfc / 2.0
    } else {
        1.0 - erfc / 2.0
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn gemm_quant_multiplies_the_weights_that_the_codes_stand_for(
        m in 1_usize..20, n in 1_usize..50, k in 1_usize..200, seed: u64,
        group in prop_oneof![Just(0_usize), Just(32), Just(64)], kind in 0..3, width in 0..3,
    ) {
        let mut random = Random(seed);
        let kind = [ZeroKind::Middle, ZeroKind::U8, ZeroKind::Min][kind as usize];
        let bits = [CodeBits::Int8, CodeBits::Int4, CodeBits::Int2][width as usize];
        let matrix = Matrix::random(&mut random, (n, k), bits, group, (kind, true));
        let x = random.activations(m, k);
        let bias = random.vector(n, 1.0);
        let mut rows = QuantRows::new();
        rows.quantize(&x, m, k, group, Terms::ResidualWhereCoarse);
        let mut out = vec![0.0; m * n];
        kernels::gemm_quant(&ThreadPool::new(2), &rows, &matrix.panels(), Some(&bias), &mut out);
        let mut row_weights = vec![0.0; k];
        for j in 0..n {
            dequantize_row(&matrix.panels(), j, &mut row_weights);
            for (c, &weight) in row_weights.iter().enumerate() {
                close(weight, matrix.weight(j, c), 1e-6 * (1.0 + matrix.weight(j, c).abs()), "weight");
            }
            for i in 0..m {
                let (mut want, mut magnitude) = (f64::from(bias[j]), 1.0);
                for c in 0..k {
                    let product = f64::from(rows.value(i, c)) * matrix.weight(j, c);
                    want += product;
                    magnitude += product.abs();
                }
                close(out[i * n + j], want, 2e-6 * magnitude, "product");
            }
        }
        for i in 0..m {
            for c in 0..k {
                // Half a step of the coarsest scale that its group can have.
                let width = if group == 0 { k } else { group };
                let start = c / width * width;
                let peers = &x[i * k + start..i * k + (start + width).min(k)];
                let half_step = f64::from(kernels::abs_max(peers)) / 254.0;
                close(x[i * k + c], f64::from(rows.value(i, c)), 1.001 * half_step, "activation");
            }
        }
    }

    #[test]
    fn gemm_plain_is_the_product(m in 1_usize..30, n in 1_usize..50, k in 0_usize..600, seed: u64) {
        let mut random = Random(seed);
        let (x, w, bias) = (random.vector(m * k, 1.0), random.vector(n * k, 1.0), random.vector(n, 1.0));
        let mut out = vec![0.0; m * n];
        let pool = ThreadPool::new(1);
        kernels::gemm_plain(&pool, &x, m, k, PlainRows::F32(&w), n, Onto::Bias(&bias), &mut out);
        for i in 0..m {
            for j in 0..n {
                let want: f64 =
                    (0..k).map(|c| f64::from(x[i * k + c]) * f64::from(w[j * k + c])).sum::<f64>();
                close(out[i * n + j], want + f64::from(bias[j]), 1e-6 * (10 + k) as f64, "product");
            }
        }
    }

    #[test]
    fn gemm_back_is_gemm_plain_of_the_transpose(
        m in 1_usize..30, n in 1_usize..50, k in 0_usize..600, seed: u64,
    ) {
        let mut random = Random(seed);
        let (x, w, before) = (random.vector(m * k, 1.0), random.vector(n * k, 1.0), random.vector(m * n, 1.0));
        let turned: Vec<f32> = (0..k * n).map(|at| w[at % n * k + at / n]).collect();
        let pool = ThreadPool::new(2);
        for onto in [Onto::Nothing, Onto::Out] {
            let (mut out, mut back) = (before.clone(), before.clone());
            kernels::gemm_plain(&pool, &x, m, k, PlainRows::F32(&w), n, onto, &mut out);
            kernels::gemm_back(&pool, &x, m, k, &turned, n, onto, &mut back);
            common::assert_same_bits(&back, &out, "back");
        }
    }

    /// Products side by side, of some of the rows, onto what is there, give the bits that each gives alone.
    #[test]
    fn products_side_by_side_are_those_alone(
        m in 1_usize..30, n in 1_usize..50, k in 1_usize..200, split in 0_usize..30, seed: u64,
    ) {
        let mut random = Random(seed);
        let pool = ThreadPool::new(2);
        let split = split.min(m);
        let x = random.activations(m, k);
        let mut rows = QuantRows::new();
        rows.quantize(&x, m, k, 32, Terms::ResidualWhereCoarse);
        let wide = Matrix::random(&mut random, (n, k), CodeBits::Int4, 32, (ZeroKind::Min, true));
        let narrow = Matrix::random(&mut random, (3, k), CodeBits::Int8, 32, (ZeroKind::Middle, true));
        let bias = random.vector(n, 1.0);
        let (mut whole, mut few) = (vec![0.0; m * n], vec![0.0; m * 3]);
        kernels::gemm_quant(&pool, &rows, &wide.panels(), Some(&bias), &mut whole);
        kernels::gemm_quant(&pool, &rows, &narrow.panels(), None, &mut few);
        let (mut out, mut onto) = (vec![f32::NAN; m * n], random.vector((m - split) * 3, 1.0));
        let before = onto.clone();
        gemm_quant_all(&pool, &[
            QuantProduct::new(&rows, 0..m, wide.panels(), Onto::Bias(&bias), &mut out),
            QuantProduct::new(&rows, split..m, narrow.panels(), Onto::Out, &mut onto),
        ]);
        common::assert_same_bits(&out, &whole, "beside");
        let sums: Vec<f32> = before.iter().zip(&few[split * 3..]).map(|(a, b)| a + b).collect();
        common::assert_same_bits(&onto, &sums, "onto");
        let (w, mut onto) = (random.vector(n * k, 1.0), whole.clone());
        let mut alone = vec![0.0; m * n];
        kernels::gemm_plain(&pool, &x, m, k, PlainRows::F32(&w), n, Onto::Nothing, &mut alone);
        kernels::gemm_plain(&pool, &x, m, k, PlainRows::F32(&w), n, Onto::Out, &mut onto);
        for ((onto, before), alone) in onto.iter().zip(&whole).zip(&alone) {
            let magnitude = f64::from(before.abs()) + 10.0 * k as f64;
            close(*onto, f64::from(before + alone), 2e-6 * magnitude, "onto");
        }
    }

    /// What a row gets besides has the bits of a product of its own onto what it got, whatever other rows get.
    #[test]
    fn a_row_gets_a_product_of_its_own_besides(
        m in 1_usize..40, n in 1_usize..70, k in 1_usize..200, rank in 1_usize..40, few in 1_usize..4,
        has_bias: bool, has_gain: bool, half: bool, seed: u64,
    ) {
        let mut random = Random(seed);
        let pool = ThreadPool::new(2);
        let mut rows = QuantRows::new();
        rows.quantize(&random.activations(m, k), m, k, 32, Terms::ResidualWhereCoarse);
        let mut narrow = QuantRows::new();
        narrow.quantize(&random.vector(m * rank, 1.0), m, rank, 0, Terms::One);
        let w = Matrix::random(&mut random, (n, k), CodeBits::Int4, 32, (ZeroKind::U8, true));
        let owns: Vec<Matrix> = (0..few)
            .map(|_| Matrix::random(&mut random, (n, rank), CodeBits::Int8, 0, (ZeroKind::Middle, half)))
            .collect();
        let (bias, gain) = (random.vector(n, 1.0), random.vector(n, 1.0));
        let (bias, gain) = (has_bias.then_some(&bias[..]), has_gain.then_some(&gain[..]));
        // The first of every four rows gets nothing.
        let own = |row: usize| (!row.is_multiple_of(4)).then(|| &owns[row % few]);
        let besides: Vec<_> = (0..m)
            .map(|row| own(row).map(|w| RowProduct::new(&narrow, row, w.panels(), gain)))
            .collect();
        let mut got = vec![f32::NAN; m * n];
        let product = QuantProduct::new(&rows, 0..m, w.panels(), bias.into(), &mut got);
        gemm_quant_all(&pool, &[product.and(&besides)]);
        let mut want = vec![0.0; m * n];
        kernels::gemm_quant(&pool, &rows, &w.panels(), bias, &mut want);
        for (row, out) in want.chunks_exact_mut(n).enumerate() {
            let Some(w) = own(row) else { continue };
            for (at, out) in out.iter_mut().enumerate() {
                let without = *out - bias.map_or(0.0, |bias| bias[at]);
                *out += gain.map_or(0.0, |gain| gain[at]) * without;
            }
            gemm_quant_all(&pool, &[QuantProduct::new(&narrow, row..row + 1, w.panels(), Onto::Out, out)]);
        }
        common::assert_same_bits(&got, &want, "besides");
    }

    /// What a row gives does not depend on the rows beside it: the promise that a batch changes no answer.
    #[test]
    fn a_row_alone_gives_the_same_bits(m in 2_usize..40, n in 1_usize..50, k in 1_usize..500, seed: u64) {
        let mut random = Random(seed);
        let pool = ThreadPool::new(2);
        let x = random.activations(m, k);
        let w = random.vector(n * k, 1.0);
        let matrix = Matrix::random(&mut random, (n, k), CodeBits::Int4, 32, (ZeroKind::Min, true));
        let run = |x: &[f32], m: usize| {
            let mut plain = vec![0.0; m * n];
            kernels::gemm_plain(&pool, x, m, k, PlainRows::F32(&w), n, Onto::Nothing, &mut plain);
            let mut rows = QuantRows::new();
            rows.quantize_with(&pool, (m, k), 32, Terms::ResidualWhereCoarse, |row, values| values.copy_from_slice(&x[row * k..][..k]));
            let mut quant = vec![0.0; m * n];
            kernels::gemm_quant(&pool, &rows, &matrix.panels(), None, &mut quant);
            (plain, quant)
        };
        let (plain, quant) = run(&x, m);
        for i in 0..m {
            let alone = run(&x[i * k..(i + 1) * k], 1);
            common::assert_same_bits(&plain[i * n..(i + 1) * n], &alone.0, "plain");
            common::assert_same_bits(&quant[i * n..(i + 1) * n], &alone.1, "quant");
        }
    }

    #[test]
    fn softmax_sums_to_one(x in proptest::collection::vec(-40.0_f32..40.0, 1..200)) {
        let mut y = x.clone();
        kernels::softmax(&mut y);
        let top = x.iter().copied().fold(f32::MIN, f32::max);
        let total: f64 = x.iter().map(|&x| f64::from(x - top).exp()).sum();
        for (x, y) in x.iter().zip(&y) {
            let want = f64::from(x - top).exp() / total;
            close(*y, want, 4e-7 * want, "probability");
        }
    }

    #[test]
    fn norms_are_their_formulas(len in 1_usize..400, seed: u64) {
        let mut random = Random(seed);
        let (x, delta) = (random.vector(len, 3.0), random.vector(len, 3.0));
        let (gamma, beta) = (random.vector(len, 1.0), random.vector(len, 1.0));
        let (mut residual, mut out) = (x.clone(), vec![0.0; len]);
        kernels::add_layer_norm(&delta, &mut residual, &gamma, &beta, 1e-5, &mut out);
        let sum: Vec<f64> = x.iter().zip(&delta).map(|(x, d)| f64::from(x + d)).collect();
        let mean = sum.iter().sum::<f64>() / len as f64;
        let variance = sum.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / len as f64;
        for i in 0..len {
            let want = (sum[i] - mean) / (variance + 1e-5).sqrt() * f64::from(gamma[i]) + f64::from(beta[i]);
            close(residual[i], sum[i], 0.0, "residual");
            close(out[i], want, 1e-5, "layer norm");
        }
        let mut residual = x.clone();
        kernels::add_rms_norm(&delta, &mut residual, &gamma, 1e-5, &mut out);
        let square = sum.iter().map(|x| x * x).sum::<f64>() / len as f64;
        for i in 0..len {
            close(out[i], sum[i] / (square + 1e-5).sqrt() * f64::from(gamma[i]), 2e-6, "rms norm");
        }
    }
}

/// The gradient of a sum of `f` of some numbers, by steps to either side of each, must be `got`.
fn check_slopes(x: &[f32], got: &[f32], tolerance: f64, f: impl Fn(&[f64]) -> f64, what: &str) {
    const STEP: f64 = 1e-4;
    let exact: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    for (at, &got) in got.iter().enumerate() {
        let beside = |step: f64| {
            let mut moved = exact.clone();
            moved[at] += step;
            f(&moved)
        };
        let slope = (beside(STEP) - beside(-STEP)) / (2.0 * STEP);
        close(got, slope, tolerance * (1.0 + slope.abs()), what);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn ways_back_are_slopes(len in 1_usize..100, seed: u64) {
        let mut random = Random(seed);
        let [x, up, gamma, dy] = [4.0, 2.0, 1.0, 1.5].map(|size| random.vector(len, size));
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let (mut of_gate, mut of_up) = (x.clone(), up.clone());
        kernels::silu_mul_back(&mut of_gate, &mut of_up, &dy);
        let sum = |gate: &[f64], up: &[f64]| -> f64 {
            let pairs = gate.iter().zip(up).zip(&dy);
            pairs.map(|((&gate, up), &dy)| silu(gate) * up * f64::from(dy)).sum()
        };
        let exact = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let (exact_x, exact_up) = (exact(&x), exact(&up));
        check_slopes(&x, &of_gate, 1e-5, |gate| sum(gate, &exact_up), "gate");
        check_slopes(&up, &of_up, 1e-5, |up| sum(&exact_x, up), "up");

        let mut shares = x.clone();
        kernels::softmax(&mut shares);
        let mut of_scores = dy.clone();
        kernels::softmax_back(&shares, &mut of_scores);
        let attended = |x: &[f64]| -> f64 {
            let all: f64 = x.iter().map(|x| x.exp()).sum();
            x.iter().zip(&dy).map(|(x, &dy)| x.exp() / all * f64::from(dy)).sum()
        };
        check_slopes(&x, &of_scores, 1e-6, attended, "softmax_back");

        let norm = |x: &[f64]| -> f64 {
            let square = x.iter().map(|x| x * x).sum::<f64>() / len as f64;
            let along = x.iter().zip(gamma.iter().zip(&dy));
            along.map(|(x, (&g, &dy))| x * f64::from(g) * f64::from(dy)).sum::<f64>()
                / (square + 1e-3).sqrt()
        };
        let before = random.vector(len, 1.0);
        let mut of_x = before.clone();
        kernels::rms_norm_back(&x, &gamma, 1e-3, &dy, &mut of_x);
        let added: Vec<f32> = of_x.iter().zip(&before).map(|(after, before)| after - before).collect();
        check_slopes(&x, &added, 2e-5, norm, "rms_norm_back");
    }

    #[test]
    fn losses_of_logits_are_their_formulas(len in 1_usize..200, seed: u64) {
        let mut random = Random(seed);
        let [x, targets] = [random.vector(len, 9.0), random.vector(len, 9.0)];
        let logarithm = |x: &[f64]| x.iter().map(|x| x.exp()).sum::<f64>().ln();
        let exact = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let [ours, theirs] = [&x, &targets].map(|x| {
            let most = kernels::largest(x);
            assert!(x.contains(&most) && x.iter().all(|&x| x <= most));
            let all = most + kernels::sum_exp(x, most).ln();
            close(all, logarithm(&exact(x)), 1e-5, "normaliser");
            all
        });
        let mut shares = x.clone();
        kernels::scaled_exp(&mut shares, ours, 0.4);
        check_slopes(&x, &shares, 1e-6, |x| 0.4 * logarithm(x), "shares");
        let exact_targets = exact(&targets);
        let away = |x: &[f64]| -> f64 {
            let (ours, theirs) = (logarithm(x), logarithm(&exact_targets));
            let pairs = x.iter().zip(&exact_targets);
            pairs.map(|(x, t)| (t - theirs).exp() * ((t - theirs) - (x - ours))).sum()
        };
        let mut change = x.clone();
        let found = kernels::divergence(&mut change, ours, &targets, theirs, 1.5);
        close(found, away(&exact(&x)), 1e-4, "divergence");
        check_slopes(&x, &change, 1e-5, |x| 1.5 * away(x), "of the divergence");
    }
}

#[test]
fn activation_functions_keep_their_stated_errors() {
    let mut inputs: Vec<f32> = (-200_000..=200_000).map(|i| i as f32 * 1e-4).collect();
    inputs.extend([-1e30, -100.0, 100.0, 1e30, -0.0, 1e-30]);
    let (mut gelu, mut tanh, mut silu) = (inputs.clone(), inputs.clone(), inputs.clone());
    kernels::gelu(&mut gelu);
    kernels::gelu_tanh(&mut tanh);
    kernels::silu_mul(&inputs, &vec![1.0; inputs.len()], &mut silu);
    for (i, &x) in inputs.iter().enumerate() {
        let wide = f64::from(x);
        let want = wide * normal_cdf(wide);
        close(gelu[i], want, 5e-7_f64.max(6e-8 * want.abs()), "gelu");
        let sigmoid = |u: f64| 1.0 / (1.0 + (-u).exp());
        let cubic = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044_715 * wide.powi(3));
        let want = wide * sigmoid(2.0 * cubic);
        close(tanh[i], want, 1e-6 * want.abs() + 1e-6, "gelu_tanh");
        let want = wide * sigmoid(wide);
        close(
            silu[i],
            want,
            5e-7 * want.abs() + 5e-39 * wide.abs(),
            "silu",
        );
    }
}

#[test]
fn rope_turns_by_the_angle() {
    let (cos, sin) = ([0.6_f32, 1.0], [0.8_f32, 0.0]);
    let mut heads = [1.0, 2.0, 3.0, 4.0, -1.0, 0.0, 0.0, 5.0];
    kernels::rope(&mut heads, &cos, &sin);
    let want = [0.6 - 2.4, 2.0, 1.8 + 0.8, 4.0, -0.6, 0.0, -0.8, 5.0];
    for (got, want) in heads.iter().zip(want) {
        close(*got, want, 1e-6, "rope");
    }
}

/// One outlier costs its neighbours a tenth of their precision at most, not all of it.
#[test]
fn a_group_with_an_outlier_is_rounded_twice() {
    let mut x = Random(3).vector(256, 1.0);
    x[70] = 500.0;
    let mut rows = QuantRows::new();
    rows.quantize(&x, 1, 256, 32, Terms::ResidualWhereCoarse);
    for (column, &x) in x.iter().enumerate() {
        let most = if (64..96).contains(&column) {
            500.0 / 254.0 / 254.0
        } else {
            1.0 / 254.0
        };
        close(
            x,
            f64::from(rows.value(0, column)),
            1.001 * most,
            "activation",
        );
    }
    // A row whose groups are alike has no second terms, and a row without groups never has.
    let even = Random(4).vector(256, 1.0);
    rows.quantize(&even, 1, 256, 32, Terms::ResidualWhereCoarse);
    let steps = |x: f32, largest: f32| (x * 127.0 / largest).round() - x * 127.0 / largest;
    let largest = kernels::abs_max(&even[..32]);
    assert!(steps(rows.value(0, 3), largest).abs() < 1e-3);
    rows.quantize(&x, 1, 256, 0, Terms::ResidualWhereCoarse);
    assert!((0..256).all(|column| steps(rows.value(0, column), 500.0).abs() < 1e-3));
}

#[test]
fn what_is_not_finite_stays_visible() {
    let mut rows = QuantRows::new();
    let matrix = Matrix::random(
        &mut Random(1),
        (5, 70),
        CodeBits::Int8,
        32,
        (ZeroKind::Middle, false),
    );
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = vec![1.0; 70];
        x[40] = bad;
        rows.quantize(&x, 1, 70, 32, Terms::ResidualWhereCoarse);
        let mut out = [0.0; 5];
        kernels::gemm_quant(&ThreadPool::new(1), &rows, &matrix.panels(), None, &mut out);
        assert!(out.iter().all(|y| y.is_nan()));
        assert!(!kernels::abs_max(&x).is_finite());
    }
    let mut nothing = [f32::NEG_INFINITY; 20];
    kernels::softmax(&mut nothing);
    assert!(nothing.iter().all(|p| p.to_bits() == 0));
}
