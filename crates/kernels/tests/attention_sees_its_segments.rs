//! Attention over segments of several sources is the softmax of their scores times their values, in any form,
//! with the same bits on every instruction set, for every number of threads and of queries at once.
#![allow(clippy::unwrap_used)]

mod common;

use common::keys::{Form, Stored};
use common::{Random, assert_same_bits};
use kernels::{
    Attention, AttentionShape, AttentionSpan, Isa, KeySegment, KeyWindow, KvLayout, Partials, Rows,
    ThreadPool,
};
use proptest::prelude::*;

/// Two spans: the first sees a cache and its own rows, the second a cache that ends with its own rows.
#[derive(Debug, Clone)]
struct Case {
    heads: usize,
    layout: KvLayout,
    queries: usize,
    before: usize,
    form: Form,
    causal: bool,
    /// How far queries see, if not as far as keys go.
    reach: Option<usize>,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let dims = prop_oneof![Just(8_usize), Just(16), Just(24), Just(40), Just(64)];
    let forms = prop_oneof![Just(Form::Rows), Just(Form::Pages), Just(Form::HalfPages)];
    // Few queries over many keys are what threads share.
    let lengths = prop_oneof![(1_usize..70, 0_usize..90), (1_usize..3, 0_usize..700)];
    (
        lengths,
        1_usize..3,
        1_usize..4,
        dims,
        forms,
        any::<bool>(),
        prop_oneof![Just(None), (0_usize..150).prop_map(Some)],
        any::<u64>(),
    )
        .prop_map(
            |((queries, before), kv_heads, group, head_dim, form, causal, reach, seed)| Case {
                heads: kv_heads * group,
                layout: KvLayout { kv_heads, head_dim },
                queries,
                before,
                form,
                causal,
                reach,
                seed,
            },
        )
}

impl Case {
    fn width(&self) -> usize {
        self.heads * self.layout.head_dim
    }

    fn keys(&self, random: &mut Random) -> Stored {
        let sources = [
            (self.before, self.form),
            (self.queries, Form::Rows),
            (self.before + self.queries, self.form),
        ];
        Stored::random(random, self.layout, &sources)
    }

    /// Segments of the span that begins at `row` queries into its own rows and has `queries`.
    fn segments(&self, span: usize, row: usize) -> Vec<KeySegment> {
        let segment = |source, keys, at: usize, may_be_causal| KeySegment {
            source,
            start: 0,
            keys,
            causal: (may_be_causal && self.causal).then_some(at + row),
            window: self.reach.map(|reach| KeyWindow {
                offset: at + row,
                reach,
            }),
        };
        if span == 0 {
            vec![
                segment(0, self.before, self.before, false),
                segment(1, self.queries, 0, true),
            ]
        } else {
            vec![segment(2, self.before + self.queries, self.before, true)]
        }
    }

    fn attend(&self, q: &[f32], keys: &Stored, threads: usize) -> Vec<f32> {
        let segments = [self.segments(0, 0), self.segments(1, 0)].concat();
        let spans =
            [(0, 0, 2), (self.queries, 2, 1)].map(|(query_start, first_segment, segments)| {
                AttentionSpan {
                    query_start,
                    queries: self.queries,
                    first_segment,
                    segments,
                }
            });
        self.run(q, keys, threads, &spans, &segments)
    }

    fn run(
        &self,
        q: &[f32],
        keys: &Stored,
        threads: usize,
        spans: &[AttentionSpan],
        segments: &[KeySegment],
    ) -> Vec<f32> {
        let shape = AttentionShape {
            heads: self.heads,
            kv_heads: self.layout.kv_heads,
            head_dim: self.layout.head_dim,
            scale: 0.2,
        };
        let what = Attention {
            shape,
            spans,
            segments,
        };
        let mut out = vec![f32::NAN; q.len()];
        let pool = ThreadPool::new(threads);
        let q = Rows::new(q, self.width());
        kernels::attention(&pool, what, q, keys, &mut Partials::default(), &mut out);
        out
    }
}

/// The definition, for one query and head.
fn expected(
    case: &Case,
    keys: &Stored,
    span: usize,
    query: usize,
    q: &[f32],
    head: usize,
) -> Vec<f64> {
    let KvLayout { kv_heads, head_dim } = case.layout;
    let column = head / (case.heads / kv_heads) * head_dim;
    let mut seen = Vec::new();
    for segment in case.segments(span, 0) {
        let visible = segment
            .causal
            .map_or(segment.keys, |offset| offset + query + 1);
        let near = |key: usize| {
            let window = segment.window;
            window.is_none_or(|window| key.abs_diff(window.offset + query) <= window.reach)
        };
        for row in (0..visible.min(segment.keys)).filter(|&key| near(key)) {
            let at = row * kv_heads * head_dim + column;
            let (keys, values) = (&keys.keys[segment.source], &keys.values[segment.source]);
            seen.push((&keys[at..at + head_dim], &values[at..at + head_dim]));
        }
    }
    let dot = |key: &[f32]| {
        q.iter()
            .zip(key)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum::<f64>()
    };
    let scores: Vec<f64> = seen.iter().map(|(key, _)| 0.2 * dot(key)).collect();
    let top = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mean = |c: usize| {
        let weighted = weights.iter().zip(&seen);
        weighted
            .map(|(w, (_, value))| w / total * f64::from(value[c]))
            .sum()
    };
    (0..head_dim).map(mean).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn it_is_the_softmax_of_scores_times_values(case in cases()) {
        let mut random = Random(case.seed);
        let keys = case.keys(&mut random);
        let q = random.vector(2 * case.queries * case.width(), 2.0);
        let out = case.attend(&q, &keys, 2);
        let d = case.layout.head_dim;
        for row in 0..2 * case.queries {
            for head in 0..case.heads {
                let at = row * case.width() + head * d;
                let (span, query) = (row / case.queries, row % case.queries);
                let want = expected(&case, &keys, span, query, &q[at..at + d], head);
                for (got, want) in out[at..at + d].iter().zip(want) {
                    prop_assert!((f64::from(*got) - want).abs() < 5e-6, "{got} for {want}");
                }
            }
        }
    }

    #[test]
    fn its_bits_depend_on_nothing_else(case in cases()) {
        let mut random = Random(case.seed);
        let keys = case.keys(&mut random);
        let q = random.vector(2 * case.queries * case.width(), 2.0);
        let truth = Isa::Scalar.scope(|| case.attend(&q, &keys, 1));
        for isa in Isa::available() {
            isa.scope(|| {
                for threads in [1, 5] {
                    let got = case.attend(&q, &keys, threads);
                    assert_same_bits(&got, &truth, &format!("{threads} threads on {isa}"));
                }
                assert_same_bits(&case.attend(&q, &keys.as_rows(), 2), &truth, "rows");
            });
        }
        // One query at a time.
        for row in [0, case.queries - 1, case.queries, 2 * case.queries - 1] {
            let (span, query) = (row / case.queries, row % case.queries);
            let segments = case.segments(span, query);
            let alone = AttentionSpan { query_start: 0, queries: 1, first_segment: 0, segments: segments.len() };
            let columns = row * case.width()..(row + 1) * case.width();
            let got = case.run(&q[columns.clone()], &keys, 3, &[alone], &segments);
            assert_same_bits(&got, &truth[columns], "a query by itself");
        }
    }
}
