//! Passes over caches: frozen, appended, dropped, shared, several at once; and what is refused.
#![allow(clippy::unwrap_used)]

mod common;

use common::{VOCAB, decoders, families, ids, tiny, worst};
use cpu_inference::{CachePrecision, InferenceError, KvCache, Model, Pass, Segment};

const KEPT: Segment = appended(0, true, true);

const fn appended(cache: usize, causal: bool, keep: bool) -> Segment {
    Segment::Appended {
        cache,
        causal,
        keep,
    }
}

fn text(count: usize, seed: u64) -> Vec<u32> {
    ids(count, seed).into_iter().map(|id| id as u32).collect()
}

/// Final states of all rows of one span.
fn states(
    model: &Model,
    ids: &[u32],
    position: usize,
    segments: &[Segment],
    cache: &mut KvCache,
) -> Vec<f32> {
    let mut pass = Pass::default();
    let rows = pass.span(ids.iter().copied(), position, segments);
    pass.want(rows);
    model
        .run(&pass, std::slice::from_mut(cache), |states| {
            Ok(states.hidden().to_vec())
        })
        .unwrap()
}

fn cache(model: &Model) -> KvCache {
    model.cache(CachePrecision::F32).unwrap()
}

#[test]
fn a_block_sees_a_frozen_prompt_and_itself() {
    for architecture in decoders() {
        let model = tiny(architecture, 2);
        let (prompt, block) = (text(100, 1), text(16, 2));
        let mut known = cache(&model);
        states(&model, &prompt, 0, &[appended(0, false, true)], &mut known);
        let frozen = [
            Segment::Frozen { cache: 0, len: 100 },
            Segment::Own { causal: false },
        ];
        let first = states(&model, &block, 100, &frozen, &mut known);
        assert_eq!(known.len(), 100);
        // The same keys, written behind the prompt and dropped.
        let dropped = states(
            &model,
            &block,
            100,
            &[appended(0, false, false)],
            &mut known,
        );
        assert_eq!(known.len(), 100);
        assert!(
            worst(&first, &dropped) < 1e-5,
            "{}",
            worst(&first, &dropped)
        );
        // Nothing of the pass before is left: the frozen prompt gives the same bits again.
        assert_eq!(first, states(&model, &block, 100, &frozen, &mut known));
        // A row of the block sees those behind it.
        let mut changed = block.clone();
        changed[15] = (changed[15] + 1) % VOCAB as u32;
        let other = states(&model, &changed, 100, &frozen, &mut known);
        assert_ne!(first[..32], other[..32]);
        // Under a causal segment it does not.
        let causal = [
            Segment::Frozen { cache: 0, len: 100 },
            Segment::Own { causal: true },
        ];
        let (a, b) = (
            states(&model, &block, 100, &causal, &mut known),
            states(&model, &changed, 100, &causal, &mut known),
        );
        assert_eq!(a[..15 * 32], b[..15 * 32]);
    }
}

#[test]
fn texts_in_one_pass_are_as_alone() {
    for precision in [CachePrecision::F32, CachePrecision::F16] {
        let model = tiny("qwen2", 2);
        let lengths = [1_usize, 64, 130, 7, 100];
        let texts: Vec<_> = (0..)
            .zip(lengths)
            .map(|(seed, len)| text(len, seed))
            .collect();
        let mut caches: Vec<KvCache> = texts
            .iter()
            .map(|_| model.cache(precision).unwrap())
            .collect();
        let alone: Vec<_> = texts
            .iter()
            .map(|text| {
                let mut cache = model.cache(precision).unwrap();
                let (known, next) = text.split_at(text.len() / 2);
                if !known.is_empty() {
                    states(&model, known, 0, &[KEPT], &mut cache);
                }
                states(&model, next, known.len(), &[KEPT], &mut cache)
            })
            .collect();
        for second in [false, true] {
            let mut pass = Pass::default();
            for (index, text) in texts.iter().enumerate() {
                let (known, next) = text.split_at(text.len() / 2);
                let (part, position) = if second {
                    (next, known.len())
                } else {
                    (known, 0)
                };
                if !part.is_empty() {
                    let segments = [appended(index, true, true)];
                    let rows = pass.span(part.iter().copied(), position, &segments);
                    pass.want(rows);
                }
            }
            let got = model
                .run(&pass, &mut caches, |states| Ok(states.hidden().to_vec()))
                .unwrap();
            if second {
                assert_eq!(got, alone.concat(), "{precision:?}");
            }
        }
    }
}

#[test]
fn a_shared_prefix_is_copied_by_whoever_writes_to_it() {
    let model = tiny("llama", 1);
    let (prompt, a, b) = (text(90, 3), text(20, 4), text(20, 5));
    let mut first = cache(&model);
    states(&model, &prompt, 0, &[KEPT], &mut first);
    let mut second = first.clone();
    let alone = states(&model, &a, 90, &[KEPT], &mut first.clone());
    states(&model, &b, 90, &[KEPT], &mut second);
    assert_eq!(states(&model, &a, 90, &[KEPT], &mut first), alone);
    assert_eq!((first.len(), second.len()), (110, 110));
}

#[test]
fn wanted_rows_are_those_of_the_whole() {
    for architecture in families() {
        let model = tiny(architecture, 2);
        let run = |wanted: &[usize]| {
            let mut pass = Pass::default();
            pass.span(
                text(50, 6),
                0,
                &[Segment::Own {
                    causal: model.family().is_decoder,
                }],
            );
            pass.want(wanted.iter().copied());
            model
                .run(&pass, &mut [], |states| Ok(states.hidden().to_vec()))
                .unwrap()
        };
        let all = run(&(0..50).collect::<Vec<_>>());
        let rows = |row: usize| &all[row * 32..(row + 1) * 32];
        assert_eq!(run(&[3, 49]), [rows(3), rows(49)].concat());
        let some = [0, 1, 2, 20, 30, 31, 49];
        assert_eq!(run(&some), some.map(rows).concat());
        assert!(run(&[]).is_empty());
    }
}

#[test]
fn rows_that_are_not_wanted_are_kept_all_the_same() {
    for architecture in decoders() {
        let model = tiny(architecture, 2);
        let mut known = [cache(&model), cache(&model)];
        states(&model, &text(70, 1), 0, &[KEPT], &mut known[0]);
        states(&model, &text(30, 2), 0, &[KEPT], &mut known[1]);
        // Texts of which some rows are wanted, behind what each has read, and a token that the first goes on with.
        let run = |wanted: &[usize]| {
            let mut caches = known.clone();
            let mut pass = Pass::default();
            pass.span(text(20, 3), 70, &[appended(0, true, true)]);
            let block = [
                Segment::Frozen { cache: 1, len: 30 },
                Segment::Own { causal: false },
            ];
            pass.span(text(9, 4), 30, &block);
            pass.span(text(5, 5), 0, &[Segment::Own { causal: true }]);
            pass.want(wanted.iter().copied());
            let found = model
                .run(&pass, &mut caches, |states| Ok(states.hidden().to_vec()))
                .unwrap();
            let next = states(&model, &text(1, 6), 90, &[KEPT], &mut caches[0]);
            (found, next)
        };
        let (all, next) = run(&(0..34).collect::<Vec<_>>());
        for some in [&[][..], &[19], &[0, 7, 8, 19, 20, 23, 24, 25, 30], &[33]] {
            let rows = some.iter().map(|&row| &all[row * 32..(row + 1) * 32]);
            let (found, kept) = run(some);
            assert_eq!(found, rows.collect::<Vec<_>>().concat(), "{architecture}");
            assert_eq!(kept, next, "{architecture}");
        }
    }
}

#[test]
fn what_contradicts_itself_is_refused_by_name() {
    let model = tiny("llama", 1);
    let mut known = cache(&model);
    let expected = states(&model, &text(10, 7), 0, &[KEPT], &mut known);
    known.truncate(4);
    let mut refused = |segments: &[Segment], position: usize, build: &dyn Fn(&mut Pass)| {
        let mut pass = Pass::default();
        pass.span([1, 2], position, segments);
        build(&mut pass);
        model
            .run(&pass, std::slice::from_mut(&mut known), |_| Ok(()))
            .unwrap_err()
    };
    let message = |error: InferenceError| error.to_string();
    let error = refused(&[Segment::Frozen { cache: 0, len: 5 }], 5, &|_| ());
    assert!(message(error).contains("sees 5 positions of cache 0, which has 4"));
    let error = refused(&[appended(1, true, true)], 4, &|_| ());
    assert!(message(error).contains("cache 1 of 1"));
    let error = refused(&[KEPT], 4, &|pass| {
        pass.span([3], 6, &[KEPT]);
    });
    assert_eq!(error, InferenceError::TwoWriters { cache: 0 });
    let error = refused(&[KEPT], 199, &|_| ());
    assert!(matches!(
        error,
        InferenceError::Window {
            limit: 200,
            got: 201,
            ..
        }
    ));
    let error = refused(&[KEPT], 4, &|pass| {
        pass.span([VOCAB as u32], 0, &[]);
    });
    assert!(matches!(
        error,
        InferenceError::TokenRange { position: 2, .. }
    ));
    let error = refused(&[KEPT], 4, &|pass| {
        pass.span([], 0, &[]);
    });
    assert!(message(error).contains("span 1 has no rows"));
    for wanted in [[1, 0], [0, 2]] {
        let error = refused(&[KEPT], 4, &|pass| pass.want(wanted));
        assert!(message(error).contains("wanted rows ascend below the 2"));
    }
    let other = tiny("bert", 1);
    assert!(matches!(
        other.cache(CachePrecision::F32).unwrap_err(),
        InferenceError::WrongArchitecture { .. }
    ));
    // The model and the cache go on.
    assert_eq!(known.len(), 4);
    let again = states(&model, &text(10, 7)[4..], 4, &[KEPT], &mut known);
    assert!(worst(&again, &expected[4 * 32..]) < 1e-5);
}
