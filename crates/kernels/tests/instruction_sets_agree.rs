//! Every instruction set of this CPU gives the same bits as the scalar definition, whatever the shape.

mod common;

use common::{Matrix, Random, ZeroKind, assert_same_bits};
use kernels::{
    CodeBits, Isa, Onto, PlainRows, QuantProduct, QuantRows, RowProduct, Terms, ThreadPool,
    gemm_quant_all,
};
use proptest::prelude::*;

/// Runs `f` on every instruction set and compares with the first, which is scalar.
fn compare(what: &str, f: impl Fn() -> Vec<f32>) {
    let truth = Isa::Scalar.scope(&f);
    for isa in Isa::available() {
        assert_same_bits(&isa.scope(&f), &truth, &format!("{what} on {isa}"));
    }
}

fn bits() -> impl Strategy<Value = CodeBits> {
    prop_oneof![
        Just(CodeBits::Int8),
        Just(CodeBits::Int4),
        Just(CodeBits::Int2)
    ]
}

fn zero() -> impl Strategy<Value = ZeroKind> {
    prop_oneof![
        Just(ZeroKind::Middle),
        Just(ZeroKind::U8),
        Just(ZeroKind::Min)
    ]
}

/// Lengths around the vector widths, with values that reach every branch.
fn values() -> impl Strategy<Value = Vec<f32>> {
    let special = prop_oneof![
        Just(f32::NAN),
        Just(f32::INFINITY),
        Just(f32::NEG_INFINITY),
        Just(-0.0_f32),
        Just(f32::MIN_POSITIVE),
        Just(1e-40_f32),
        Just(88.0_f32),
        Just(-87.33_f32),
        Just(f32::MAX),
    ];
    let value = prop_oneof![20 => -8.0_f32..8.0, 1 => special];
    let ordinary = proptest::collection::vec(-8.0_f32..8.0, 0..150);
    prop_oneof![ordinary, proptest::collection::vec(value, 0..150)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn gemm_quant(
        m in 1_usize..40, n in 1_usize..70, k in 1_usize..300, bits in bits(),
        group in prop_oneof![Just(0_usize), Just(32), Just(64), Just(128)],
        zero in zero(), half: bool, bias: bool, threads in 1_usize..3, seed: u64,
    ) {
        let mut random = Random(seed);
        let matrix = Matrix::random(&mut random, (n, k), bits, group, (zero, half));
        let x = random.activations(m, k);
        let b = bias.then(|| random.vector(n, 1.0));
        let pool = ThreadPool::new(threads);
        compare("gemm_quant", || {
            let mut rows = QuantRows::new();
            rows.quantize(&x, m, k, group, Terms::ResidualWhereCoarse);
            let mut out = vec![f32::NAN; m * n];
            kernels::gemm_quant(&pool, &rows, &matrix.panels(), b.as_deref(), &mut out);
            out
        });
    }

    #[test]
    fn gemm_quant_with_rows_of_their_own(
        m in 1_usize..40, n in 1_usize..70, k in 1_usize..300, rank in 1_usize..40, has_gain: bool, seed: u64,
    ) {
        let mut random = Random(seed);
        let matrix = Matrix::random(&mut random, (n, k), CodeBits::Int4, 32, (ZeroKind::Min, true));
        let own = Matrix::random(&mut random, (n, rank), CodeBits::Int8, 0, (ZeroKind::Middle, false));
        let (x, low) = (random.activations(m, k), random.vector(m * rank, 1.0));
        let gain = random.vector(n, 1.0);
        let gain = has_gain.then_some(&gain[..]);
        let pool = ThreadPool::new(2);
        compare("rows of their own", || {
            let (mut rows, mut narrow) = (QuantRows::new(), QuantRows::new());
            rows.quantize(&x, m, k, 32, Terms::ResidualWhereCoarse);
            narrow.quantize(&low, m, rank, 0, Terms::One);
            let besides: Vec<_> = (0..m)
                .map(|row| (row % 3 > 0).then(|| RowProduct::new(&narrow, row, own.panels(), gain)))
                .collect();
            let mut out = vec![f32::NAN; m * n];
            let product = QuantProduct::new(&rows, 0..m, matrix.panels(), Onto::Nothing, &mut out);
            gemm_quant_all(&pool, &[product.and(&besides)]);
            out
        });
    }

    #[test]
    fn gemm_plain(
        m in 1_usize..40, n in 1_usize..70, k in 0_usize..500, kind in 0..3, bias: bool, seed: u64,
    ) {
        let mut random = Random(seed);
        let x = random.vector(m * k, 3.0);
        let w = random.vector(n * k, 1.0);
        let b = bias.then(|| random.vector(n, 1.0));
        let f16s: Vec<u16> = w.iter().map(|&w| half::f16::from_f32(w).to_bits()).collect();
        let bf16s: Vec<u16> = w.iter().map(|&w| half::bf16::from_f32(w).to_bits()).collect();
        let weights = [PlainRows::F32(&w), PlainRows::F16(&f16s), PlainRows::Bf16(&bf16s)][kind as usize];
        let pool = ThreadPool::new(2);
        compare("gemm_plain", || {
            let mut out = vec![f32::NAN; m * n];
            kernels::gemm_plain(&pool, &x, m, k, weights, n, b.as_deref().into(), &mut out);
            out
        });
        compare("gemm_back", || {
            let mut out = vec![f32::NAN; m * n];
            kernels::gemm_back(&pool, &x, m, k, &w, n, b.as_deref().into(), &mut out);
            out
        });
    }

    #[test]
    fn functions_of_one_row(x in values(), seed: u64) {
        let mut random = Random(seed);
        let (gamma, beta) = (random.vector(x.len(), 1.0), random.vector(x.len(), 1.0));
        let in_place = |f: fn(&mut [f32])| {
            let mut y = x.clone();
            f(&mut y);
            y
        };
        compare("softmax", || in_place(kernels::softmax));
        compare("softmax_back", || {
            let mut y = beta.clone();
            kernels::softmax_back(&x, &mut y);
            y
        });
        compare("gelu", || in_place(kernels::gelu));
        compare("gelu_tanh", || in_place(kernels::gelu_tanh));
        compare("scale", || in_place(|y| kernels::scale(0.7, y)));
        compare("dot", || vec![kernels::dot_f32(&x, &gamma)]);
        compare("abs_max", || vec![kernels::abs_max(&x)]);
        let into = |f: &dyn Fn(&mut [f32])| {
            let mut y = beta.clone();
            f(&mut y);
            y
        };
        compare("axpy", || into(&|y| kernels::axpy(1.3, &x, y)));
        compare("add", || into(&|y| kernels::add(&x, y)));
        compare("silu_mul", || into(&|y| kernels::silu_mul(&x, &gamma, y)));
        compare("silu_mul_back", || {
            let (mut gate, mut up) = (x.clone(), gamma.clone());
            kernels::silu_mul_back(&mut gate, &mut up, &beta);
            [gate, up].concat()
        });
        compare("rms_norm_back", || into(&|y| kernels::rms_norm_back(&x, &gamma, 1e-5, &gamma, y)));
        compare("logits", || {
            let largest = kernels::largest(&x);
            vec![largest, kernels::sum_exp(&x, largest), kernels::sum_exp(&x, 1.0)]
        });
        compare("scaled_exp", || in_place(|y| kernels::scaled_exp(y, 1.5, 0.3)));
        compare("divergence", || {
            let mut y = x.clone();
            let sum = kernels::divergence(&mut y, 3.0, &gamma, 2.0, 0.7);
            y.push(sum);
            y
        });
        compare("layer_norm", || into(&|y| kernels::layer_norm(&x, &gamma, &beta, 1e-12, y)));
        compare("rms_norm", || into(&|y| kernels::rms_norm(&x, &gamma, 1e-5, y)));
    }

    #[test]
    fn transpose(rows in 0_usize..40, columns in 0_usize..40, seed: u64) {
        let x = Random(seed).vector(rows * columns, 1.0);
        let turned: Vec<f32> =
            (0..columns).flat_map(|column| (0..rows).map(move |row| (row, column)))
            .map(|(row, column)| x[row * columns + column])
            .collect();
        let run = || {
            let mut out = vec![f32::NAN; x.len()];
            kernels::transpose(&x, rows, columns, &mut out);
            out
        };
        assert_same_bits(&run(), &turned, "transpose");
        compare("transpose", run);
    }

    #[test]
    fn rows_apart(width in 0_usize..150, apart in 0_usize..20, weights in values(), seed: u64) {
        let (mut random, count) = (Random(seed), weights.len());
        let stride = width + apart;
        let (x, rows) = (random.vector(width, 1.0), random.vector(stride * count, 1.0));
        let row = |i: usize| &rows[i * stride..][..width];
        let dots = || {
            let mut out = vec![0.0; count];
            kernels::strided_dots(&x, &rows, stride, &mut out);
            out
        };
        let alone: Vec<f32> = (0..count).map(|i| kernels::dot_f32(&x, row(i))).collect();
        assert_same_bits(&dots(), &alone, "dots of rows apart");
        compare("strided_dots", dots);
        let sum = || {
            let mut y = x.clone();
            kernels::strided_sum(&weights, &rows, stride, &mut y);
            y
        };
        let mut one_by_one = x.clone();
        for (i, &weight) in weights.iter().enumerate() {
            kernels::axpy(weight, row(i), &mut one_by_one);
        }
        assert_same_bits(&sum(), &one_by_one, "a sum of rows apart");
        compare("strided_sum", sum);
        let together: Vec<f32> = (0..count).flat_map(|i| row(i).to_vec()).collect();
        let outer = || {
            let mut rows = together.clone();
            kernels::add_outer(&weights, &x, &mut rows);
            rows
        };
        let mut one_by_one = together.clone();
        for (i, &weight) in weights.iter().enumerate() {
            kernels::axpy(weight, &x, &mut one_by_one[i * width..(i + 1) * width]);
        }
        assert_same_bits(&outer(), &one_by_one, "an outer product");
        compare("add_outer", outer);
    }

    #[test]
    fn rope(half in 1_usize..40, heads in 1_usize..4, seed: u64) {
        let mut random = Random(seed);
        let (x, angles) = (random.vector(2 * half * heads, 2.0), random.vector(half, 3.0));
        let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
        compare("rope", || {
            let mut y = x.clone();
            kernels::rope(&mut y, &cos, &sin);
            y
        });
    }

    #[test]
    fn quantised_rows(x in values(), m in 1_usize..4, group in prop_oneof![Just(0_usize), Just(16), Just(32)]) {
        let x: Vec<f32> = x.into_iter().chain((0..40).map(|i| i as f32 * 7.0)).collect();
        let x = x.repeat(m);
        let k = x.len() / m;
        let quantize = || {
            let mut rows = QuantRows::new();
            rows.quantize(&x, m, k, group, Terms::ResidualWhereCoarse);
            rows
        };
        let truth = Isa::Scalar.scope(quantize);
        for isa in Isa::available() {
            let rows = isa.scope(quantize);
            let values = |rows: &QuantRows| -> Vec<f32> {
                (0..m * k).map(|cell| rows.value(cell / k, cell % k)).collect()
            };
            assert_same_bits(&values(&rows), &values(&truth), "values");
        }
    }
}

#[test]
fn all_half_and_brain_floats() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    for convert in [kernels::f16_to_f32, kernels::bf16_to_f32] {
        compare("conversion", || {
            let mut out = vec![0.0; all.len()];
            convert(&all, &mut out);
            out
        });
    }
}
