//! A scan returns what comparing every row by hand returns, in the same order, for any number of threads.

use kernels::Isa;
use proptest::prelude::*;
use vector_search::{Bitmap, Metric, Query, Rows, Scored, norm, search};

fn by_hand(
    query: &[f32],
    vectors: &[Vec<f32>],
    metric: Metric,
    keep: &dyn Fn(usize) -> bool,
) -> Vec<(usize, f64)> {
    let double = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let q = double(query);
    let mut all: Vec<(usize, f64)> = vectors
        .iter()
        .enumerate()
        .filter(|(row, _)| keep(*row))
        .map(|(row, v)| {
            let v = double(v);
            let score = match metric {
                Metric::Dot => dot(&q, &v),
                Metric::Cosine => dot(&q, &v) / (dot(&q, &q) * dot(&v, &v)).sqrt(),
                Metric::Euclidean => -q
                    .iter()
                    .zip(&v)
                    .map(|(a, b)| (a - b).powi(2))
                    .sum::<f64>()
                    .sqrt(),
            };
            (row, score)
        })
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all
}

fn flat(vectors: &[Vec<f32>]) -> (Vec<f32>, Vec<f32>) {
    (
        vectors.concat(),
        vectors.iter().map(|v| 1.0 / norm(v)).collect(),
    )
}

proptest! {
    #[test]
    fn finds_the_nearest_rows(
        vectors in (1usize..40).prop_flat_map(|dim| prop::collection::vec(prop::collection::vec(0.1f32..2.0, dim), 1..90)),
        k in 0usize..12,
        modulus in 1usize..4,
    ) {
        let (data, norms) = flat(&vectors);
        let dim = vectors[0].len();
        let rows = Rows::new(&data, &norms, dim);
        let mut mask = Bitmap::empty(rows.len());
        (0..rows.len()).step_by(modulus).for_each(|row| { mask.insert(row); });
        for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
            let query = Query::new(vectors[0].clone(), metric);
            let query = std::slice::from_ref(&query);
            let found = &search(query, rows, Some(&mask), k, f32::NEG_INFINITY, 2)[0];
            for isa in Isa::available() {
                let again = &isa.scope(|| search(query, rows, Some(&mask), k, f32::NEG_INFINITY, 2))[0];
                prop_assert_eq!(found, again);
            }
            let query = &query[0];
            let truth = by_hand(&vectors[0], &vectors, metric, &|row| row % modulus == 0);
            prop_assert_eq!(found.len(), k.min(truth.len()));
            for (hit, (_, score)) in found.iter().zip(&truth) {
                prop_assert!(hit.row % modulus == 0);
                prop_assert!((f64::from(hit.score) - score).abs() < 1e-4 * (1.0 + score.abs()));
                prop_assert_eq!(hit.score.to_bits(), query.similarity(&vectors[hit.row]).to_bits());
            }
        }
    }
}

#[test]
fn equal_scores_come_in_row_order() {
    let vectors = vec![vec![1.0, 2.0]; 50];
    let (data, norms) = flat(&vectors);
    let query = Query::new(vec![3.0, 1.0], Metric::Cosine);
    let found = &search(
        &[query],
        Rows::new(&data, &norms, 2),
        None,
        7,
        f32::NEG_INFINITY,
        1,
    )[0];
    assert_eq!(
        found.iter().map(|hit| hit.row).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5, 6]
    );
}

#[test]
fn threads_and_batching_change_nothing() {
    let (n, dim) = (9_000, 384);
    let vectors: Vec<Vec<f32>> = (0..n)
        .map(|i| {
            (0..dim)
                .map(|j| ((i * 31 + j * 17) % 101) as f32 - 50.0)
                .collect()
        })
        .collect();
    let (data, norms) = flat(&vectors);
    let rows = Rows::new(&data, &norms, dim);
    let queries: Vec<Query> = (0..3)
        .map(|i| Query::new(vectors[i * 7].clone(), Metric::Cosine))
        .collect();
    let alone: Vec<Vec<Scored>> = queries
        .iter()
        .flat_map(|query| {
            search(
                std::slice::from_ref(query),
                rows,
                None,
                10,
                f32::NEG_INFINITY,
                1,
            )
        })
        .collect();
    let mut every_other_run = Bitmap::empty(n);
    (0..n).filter(|row| row / 100 % 2 == 0).for_each(|row| {
        every_other_run.insert(row);
    });
    let masked = search(
        &queries,
        rows,
        Some(&every_other_run),
        10,
        f32::NEG_INFINITY,
        1,
    );
    assert!(
        masked
            .iter()
            .flatten()
            .all(|hit| every_other_run.contains(hit.row))
    );
    for threads in [1, 2, 3, 7] {
        let search = |mask| search(&queries, rows, mask, 10, f32::NEG_INFINITY, threads);
        assert_eq!(search(None), alone);
        assert_eq!(search(Some(&every_other_run)), masked);
    }
}

#[test]
fn searches_at_once_do_not_disturb_each_other() {
    let (n, dim) = (4_000, 384);
    let data: Vec<f32> = (0..n * dim)
        .map(|i| ((i * 31 + i / dim * 17) % 101) as f32 - 50.5)
        .collect();
    let norms: Vec<f32> = data.chunks_exact(dim).map(|row| 1.0 / norm(row)).collect();
    let rows = Rows::new(&data, &norms, dim);
    let query = |i: usize| Query::new(rows.row(i * 7).to_vec(), Metric::Cosine);
    let find = |i: usize, threads| search(&[query(i)], rows, None, 5, -1.0, threads);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for i in 0..20 {
                    assert_eq!(find(thread * 20 + i, 2), find(thread * 20 + i, 1));
                }
            });
        }
    });
}

#[test]
fn the_floor_drops_what_scores_below_it() {
    let (data, norms) = flat(&[vec![1.0, 0.0], vec![0.0, 1.0], vec![-1.0, 0.0]]);
    let query = Query::new(vec![1.0, 0.0], Metric::Cosine);
    let found = &search(&[query], Rows::new(&data, &norms, 2), None, 5, 0.5, 1)[0];
    assert_eq!(found.as_slice(), [Scored { row: 0, score: 1.0 }]);
}
