//! Products of brain floats on every unit of this CPU against double precision.

mod common;

use common::{Random, assert_same_bits};
use half::bf16;
use kernels::{Bf16Unit, Bf16Weights, Isa, Onto, ThreadPool, gemm_bf16};
use proptest::prelude::*;

/// A product and what it is added to.
#[derive(Clone)]
struct Problem {
    m: usize,
    k: usize,
    n: usize,
    x: Vec<f32>,
    /// `[n, k]`.
    w: Vec<f32>,
    /// `[k, n]`.
    turned: Vec<f32>,
    bias: Vec<f32>,
    before: Vec<f32>,
}

impl Problem {
    fn random((m, n, k): (usize, usize, usize), seed: u64) -> Self {
        let mut random = Random(seed);
        let w = random.vector(n * k, 1.0);
        Self {
            m,
            k,
            n,
            x: random.vector(m * k, 3.0),
            turned: transposed(&w, k),
            w,
            bias: random.vector(n, 2.0),
            before: random.vector(m * n, 2.0),
        }
    }

    fn ontos(&self) -> [Onto<'_>; 3] {
        [Onto::Nothing, Onto::Bias(&self.bias), Onto::Out]
    }

    fn sides(&self) -> [Bf16Weights<'_>; 2] {
        [
            Bf16Weights::Outputs(&self.w),
            Bf16Weights::Inputs(&self.turned),
        ]
    }

    /// The product of the first `m` rows.
    fn run(&self, threads: usize, m: usize, w: Bf16Weights<'_>, onto: Onto<'_>) -> Vec<f32> {
        let mut out = self.before[..m * self.n].to_vec();
        if !matches!(onto, Onto::Out) {
            out.fill(f32::NAN);
        }
        let (pool, x) = (ThreadPool::new(threads), &self.x[..m * self.k]);
        gemm_bf16(&pool, x, m, self.k, w, self.n, onto, &mut out);
        out
    }

    /// A cell, and the sum of its terms' magnitudes.
    fn cell(&self, i: usize, j: usize, onto: Onto<'_>) -> (f64, f64) {
        let start = match onto {
            Onto::Nothing => 0.0,
            Onto::Bias(bias) => f64::from(bias[j]),
            Onto::Out => f64::from(self.before[i * self.n + j]),
        };
        let rounded = |value: f32| bf16::from_f32(value).to_f64();
        let (x, w) = (
            &self.x[i * self.k..][..self.k],
            &self.w[j * self.k..][..self.k],
        );
        x.iter()
            .zip(w)
            .map(|(&x, &w)| rounded(x) * rounded(w))
            .fold((start, start.abs()), |(sum, magnitude), term| {
                (sum + term, magnitude + term.abs())
            })
    }
}

fn transposed(rows: &[f32], width: usize) -> Vec<f32> {
    let height = rows.len() / width;
    (0..rows.len())
        .map(|at| rows[at % height * width + at / height])
        .collect()
}

/// Calls `f` with every unit, and the portable one on every instruction set.
fn on_every_unit(f: impl Fn(&str)) {
    for isa in Isa::available() {
        isa.scope(|| Bf16Unit::Portable.scope(|| f(&format!("portable on {isa}"))));
    }
    for unit in Bf16Unit::available() {
        unit.scope(|| f(&unit.to_string()));
    }
}

fn check(problem: &Problem) {
    let Problem { m, n, k, .. } = *problem;
    on_every_unit(|unit| {
        for onto in problem.ontos() {
            let [outputs, inputs] = problem.sides().map(|w| problem.run(1, m, w, onto));
            assert_same_bits(&outputs, &inputs, &format!("{unit}: both sides"));
            for (w, alone) in problem.sides().into_iter().zip([&outputs, &inputs]) {
                let beside = problem.run(2, m, w, onto);
                assert_same_bits(&beside, alone, &format!("{unit}: two threads"));
            }
            for i in 0..m {
                for j in 0..n {
                    let (want, magnitude) = problem.cell(i, j, onto);
                    let got = f64::from(outputs[i * n + j]);
                    let tolerance = (k + 1) as f64 * magnitude / f64::from(1 << 22);
                    assert!(
                        (got - want).abs() <= tolerance,
                        "{unit}, {m}x{k}x{n}, {onto:?}: {got:e} at {i}, {j}, want {want:e}"
                    );
                }
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products_are_those_of_rounded_operands(
        m in 1_usize..80, n in 1_usize..80, k in 1_usize..150, seed: u64,
    ) {
        check(&Problem::random((m, n, k), seed));
    }

    /// More rows, panels and columns than a task has.
    #[test]
    fn parts_of_a_product_fit_together(
        m in 100_usize..300, n in 1_usize..100, k in 600_usize..1500, seed: u64,
    ) {
        let problem = Problem::random((m, n, k), seed);
        on_every_unit(|unit| {
            let [outputs, inputs] = problem.sides();
            let whole = problem.run(1, m, outputs, Onto::Out);
            let beside = problem.run(2, m, inputs, Onto::Out);
            assert_same_bits(&beside, &whole, &format!("{unit}: two threads"));
            let mut random = Random(seed);
            for _ in 0..200 {
                let (i, j) = (random.bits() as usize % m, random.bits() as usize % n);
                let (want, magnitude) = problem.cell(i, j, Onto::Out);
                let error = (f64::from(whole[i * n + j]) - want).abs();
                assert!(error <= k as f64 * magnitude / f64::from(1 << 22), "{unit}: {error:e} at {i}, {j}");
            }
        });
    }

    #[test]
    fn first_rows_give_the_same_bits_alone(
        m in 2_usize..150, few in 1_usize..150, n in 1_usize..80, k in 1_usize..1500, seed: u64,
    ) {
        let problem = Problem::random((m, n, k), seed);
        let few = few.min(m);
        on_every_unit(|unit| {
            for (w, onto) in problem.sides().into_iter().zip([Onto::Out, Onto::Bias(&problem.bias)]) {
                let whole = problem.run(2, m, w, onto);
                let alone = problem.run(2, few, w, onto);
                assert_same_bits(&alone, &whole[..few * n], &format!("{unit}: {few} of {m} rows"));
            }
        });
    }

    /// A row, a weight's column, a bias and a cell that are not finite spoil their own cells alone.
    #[test]
    fn what_is_not_finite_stays_where_it_belongs(
        m in 1_usize..70, n in 1_usize..70, k in 1_usize..100, seed: u64, infinite: bool,
    ) {
        let bad = if infinite { f32::INFINITY } else { f32::NAN };
        let mut random = Random(seed);
        let mut pick = |len: usize| random.bits() as usize % len;
        let (row, output, column, cell) = (pick(m), pick(n), pick(n), pick(m * n));
        let mut problem = Problem::random((m, n, k), seed);
        problem.x[row * k + pick(k)] = bad;
        problem.w[output * k + pick(k)] = bad;
        problem.turned = transposed(&problem.w, k);
        problem.bias[column] = bad;
        problem.before[cell] = bad;
        on_every_unit(|unit| {
            for onto in problem.ontos() {
                for w in problem.sides() {
                    for (at, got) in problem.run(2, m, w, onto).into_iter().enumerate() {
                        let spoilt = at / n == row || at % n == output || match onto {
                            Onto::Nothing => false,
                            Onto::Bias(_) => at % n == column,
                            Onto::Out => at == cell,
                        };
                        assert_eq!(!got.is_finite(), spoilt, "{unit}, {onto:?}: {got} at {at}");
                    }
                }
            }
        });
    }
}

#[test]
fn rounding_is_to_nearest_ties_to_even() {
    let epsilon = f32::powi(2.0, -8);
    let values = [
        (1.0 + epsilon, 1.0),
        (1.0 + 3.0 * epsilon, 1.0 + 4.0 * epsilon),
        (1.0 + 1.01 * epsilon, 1.0 + 2.0 * epsilon),
        (-1.0 - epsilon, -1.0),
        (f32::MAX, f32::INFINITY),
        (f32::NEG_INFINITY, f32::NEG_INFINITY),
    ];
    on_every_unit(|unit| {
        for (value, want) in values {
            for (x, w) in [(value, 1.0), (1.0, value)] {
                let mut out = [0.0];
                let w = [w];
                let pool = ThreadPool::new(1);
                gemm_bf16(
                    &pool,
                    &[x],
                    1,
                    1,
                    Bf16Weights::Outputs(&w),
                    1,
                    Onto::Nothing,
                    &mut out,
                );
                assert_same_bits(&out, &[want], &format!("{unit}: {value}"));
            }
        }
    });
}

#[test]
fn a_product_of_nothing_is_what_it_is_added_to() {
    let pool = ThreadPool::new(2);
    let (n, bias) = (40, Random(1).vector(40, 1.0));
    on_every_unit(|unit| {
        for w in [Bf16Weights::Inputs(&[]), Bf16Weights::Outputs(&[])] {
            let mut out = vec![3.0; 2 * n];
            gemm_bf16(&pool, &[], 2, 0, w, n, Onto::Out, &mut out);
            assert_same_bits(&out, &vec![3.0; 2 * n], unit);
            gemm_bf16(&pool, &[], 2, 0, w, n, Onto::Bias(&bias), &mut out);
            assert_same_bits(&out, &bias.repeat(2), unit);
            let x = [0.0; 10];
            gemm_bf16(&pool, &x, 2, 5, w, 0, Onto::Nothing, &mut []);
        }
        let w = vec![0.0; 5 * n];
        let w = Bf16Weights::Inputs(&w);
        gemm_bf16(&pool, &[], 0, 5, w, n, Onto::Nothing, &mut []);
    });
}
