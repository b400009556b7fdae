//! A block of rows, some masked, gives for each its token and how sure the model is, and leaves nothing behind.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{VOCAB, ids, tiny, worst};
use cpu_inference::{
    CachePrecision, InferenceError, PredictionRequest, Sampler, SamplingSettings, Session,
};

const ALL: PredictionRequest<'_> = PredictionRequest {
    top_k: 3,
    forbidden: &[4],
    logits: true,
};

fn session() -> Session {
    let mut session = Session::new(Arc::new(tiny("llama", 2)), 200, CachePrecision::F32).unwrap();
    session.extend_whole(&ids(90, 1), &mut || true).unwrap();
    session
}

#[test]
fn predictions_are_those_of_the_logits() {
    let mut session = session();
    let (block, rows) = (ids(32, 2), [0, 5, 31]);
    let found = session
        .predict(&block, &rows, &ALL, &mut Sampler::greedy())
        .unwrap();
    assert_eq!(session.tokens().len(), 90);
    for (index, logits) in found.logits.chunks_exact(VOCAB).enumerate() {
        assert!(logits[4] < -1e20);
        let weights: Vec<f64> = logits.iter().map(|&l| f64::from(l).exp()).collect();
        let total: f64 = weights.iter().sum();
        let best = (0..VOCAB)
            .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
            .unwrap();
        assert_eq!(found.ids[index], best as u32);
        assert!((f64::from(found.confidence[index]) - weights[best] / total).abs() < 1e-5);
        let part = |w: &f64| {
            if *w > 0.0 {
                -w / total * (w / total).ln()
            } else {
                0.0
            }
        };
        let entropy: f64 = weights.iter().map(part).sum();
        assert!((f64::from(found.entropy[index]) - entropy).abs() < 1e-4);
        assert_eq!(found.top_ids[index * 3], best as u32);
        assert!(found.top_confidence[index * 3..][..3].is_sorted_by(|a, b| a >= b));
    }
    assert_eq!(found.logits.len(), 3 * VOCAB);
    // The same block gives the same again, and rows by themselves what they gave together.
    let again = session
        .predict(&block, &[5], &ALL, &mut Sampler::greedy())
        .unwrap();
    assert_eq!(again.logits, found.logits[VOCAB..2 * VOCAB]);
    let bare = PredictionRequest::default();
    let bare = session
        .predict(&block, &rows, &bare, &mut Sampler::greedy())
        .unwrap();
    assert!(bare.logits.is_empty() && bare.top_ids.is_empty());
}

#[test]
fn a_finished_block_becomes_part_of_the_text() {
    let mut session = session();
    let (block, next) = (ids(16, 3), ids(16, 4));
    session.extend_whole(&block, &mut || true).unwrap();
    let found = session
        .predict(&next, &[0, 15], &ALL, &mut Sampler::greedy())
        .unwrap();
    let mut other = self::session();
    other.extend_whole(&block, &mut || true).unwrap();
    assert_eq!(
        found,
        other
            .predict(&next, &[0, 15], &ALL, &mut Sampler::greedy())
            .unwrap()
    );
    assert_eq!(session.tokens().len(), 106);
    // A prompt in which rows see each other is not taken for a causal one that begins alike.
    let model = Arc::new(tiny("llama", 1));
    let text = ids(150, 8);
    let read = |whole: bool| {
        let mut session = Session::new(Arc::clone(&model), 200, CachePrecision::F32).unwrap();
        if whole {
            session.extend_whole(&text, &mut || true).unwrap();
        } else {
            session.extend(&text, &mut || true).unwrap();
        }
        session.logits().to_vec()
    };
    let (whole, causal) = (read(true), read(false));
    assert!(worst(&whole, &causal) > 1e-3);
    assert_eq!(read(true), whole);
}

#[test]
fn a_seed_draws_the_same_tokens() {
    let mut session = session();
    let rows: Vec<usize> = (0..16).collect();
    let mut draw = |seed| {
        let settings = SamplingSettings {
            temperature: 1.0,
            seed,
            ..SamplingSettings::default()
        };
        let mut sampler = Sampler::new(settings).unwrap();
        session
            .predict(&ids(16, 2), &rows, &ALL, &mut sampler)
            .unwrap()
            .ids
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    assert!((0..40).all(|seed| !draw(seed).contains(&4)));
}

#[test]
fn bad_blocks_are_refused_and_the_session_goes_on() {
    let mut session = session();
    let block = ids(16, 2);
    let mut predict = |block: &[i32], rows: &[usize], forbidden: &[u32]| {
        let request = PredictionRequest { forbidden, ..ALL };
        session.predict(block, rows, &request, &mut Sampler::greedy())
    };
    let expected = predict(&block, &[1, 2], &[]).unwrap();
    for rows in [&[2, 1][..], &[1, 1], &[16], &[usize::MAX]] {
        let error = predict(&block, rows, &[]).unwrap_err();
        assert!(matches!(error, InferenceError::Pass { .. }), "{error}");
    }
    assert!(matches!(
        predict(&block, &[0], &[VOCAB as u32]),
        Err(InferenceError::TokenRange { .. })
    ));
    assert!(matches!(
        predict(&ids(111, 1), &[0], &[]),
        Err(InferenceError::Window {
            limit: 200,
            got: 201,
            ..
        })
    ));
    assert!(matches!(
        predict(&[], &[], &[]),
        Err(InferenceError::Pass { .. })
    ));
    assert_eq!(predict(&block, &[1, 2], &[]).unwrap(), expected);
}
