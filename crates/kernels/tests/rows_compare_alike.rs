//! A query and a row have one dot product and one distance: on every instruction set, alone or among others.

mod common;

use common::{Random, assert_same_bits};
use kernels::{Isa, dot_rows, squared_distance_rows};
use proptest::prelude::*;

type Compare = fn(&[f32], &[f32], usize, &mut [f32]);
type Term = fn(f64, f64) -> f64;

fn product(a: f64, b: f64) -> f64 {
    a * b
}

fn squared_difference(a: f64, b: f64) -> f64 {
    (a - b).powi(2)
}

const COMPARISONS: [(Compare, Term); 2] = [
    (dot_rows, product),
    (squared_distance_rows, squared_difference),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn alone_or_together_on_every_instruction_set(
        m in 1_usize..10, n in 0_usize..11, k in 1_usize..130, seed: u64,
    ) {
        let mut random = Random(seed);
        let (queries, rows) = (random.vector(m * k, 2.0), random.vector(n * k, 2.0));
        for (compare, term) in COMPARISONS {
            let mut alone = vec![f32::NAN; m * n];
            for (q, query) in queries.chunks_exact(k).enumerate() {
                for (r, row) in rows.chunks_exact(k).enumerate() {
                    let out = &mut alone[q * n + r..][..1];
                    Isa::Scalar.scope(|| compare(query, row, k, out));
                    let pairs = query.iter().zip(row);
                    let want: f64 = pairs.map(|(&a, &b)| term(f64::from(a), f64::from(b))).sum();
                    let error = (f64::from(out[0]) - want).abs();
                    prop_assert!(error <= 1e-6 * k as f64 * 16.0, "{error} at [{q}, {r}]");
                }
            }
            for isa in Isa::available() {
                let mut together = vec![f32::NAN; m * n];
                isa.scope(|| compare(&queries, &rows, k, &mut together));
                assert_same_bits(&together, &alone, &format!("{m} queries, {n} rows on {isa}"));
            }
        }
    }
}

#[test]
#[should_panic(expected = "one value per query and row")]
fn a_short_output_is_refused() {
    dot_rows(&[1.0; 6], &[1.0; 9], 3, &mut [0.0; 5]);
}
