//! Blocks of several texts are predicted in one pass, each as it would be alone, held to tokens and guided.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{VOCAB, ids, tiny};
use cpu_inference::{
    Block, CachePrecision, Guidance, InferenceError, Model, PredictionRequest, Predictions, Result,
    Sampler, SamplingSettings, Session, predict_all,
};

const ALL: PredictionRequest<'_> = PredictionRequest {
    top_k: 2,
    forbidden: &[4],
    logits: true,
};

fn session(model: &Arc<Model>, prompt: usize) -> Session {
    let mut session = Session::new(Arc::clone(model), 200, CachePrecision::F32).unwrap();
    session
        .extend_whole(&ids(prompt, prompt as u64), &mut || true)
        .unwrap();
    session
}

fn drawn(seed: u64) -> Sampler {
    Sampler::new(SamplingSettings {
        temperature: 0.8,
        seed,
        ..SamplingSettings::default()
    })
    .unwrap()
}

fn block<'a>(
    ids: &'a [i32],
    wanted: &'a [usize],
    allowed: &'a [(usize, Vec<u32>)],
    sampler: &'a mut Sampler,
) -> Block<'a> {
    Block {
        ids,
        positions: &[],
        keep: 0,
        is_prefix: false,
        wanted,
        allowed,
        sampler,
    }
}

#[test]
fn several_blocks_are_each_as_alone() {
    let model = Arc::new(tiny("llama", 2));
    let texts = [(90, 16, 3), (1, 32, 20), (130, 5, 5), (64, 70, 70)];
    let mut sessions: Vec<Session> = texts.iter().map(|one| session(&model, one.0)).collect();
    let blocks: Vec<Vec<i32>> = texts.iter().map(|one| ids(one.1, 7)).collect();
    let wanted: Vec<Vec<usize>> = texts.iter().map(|one| (0..one.2).collect()).collect();
    let mut samplers: Vec<Sampler> = (0..4).map(drawn).collect();
    let alone: Vec<Predictions> = (0..4)
        .map(|i| {
            sessions[i]
                .predict(&blocks[i], &wanted[i], &ALL, &mut drawn(i as u64))
                .unwrap()
        })
        .collect();
    let mut asked: Vec<Block<'_>> = samplers
        .iter_mut()
        .enumerate()
        .map(|(i, sampler)| block(&blocks[i], &wanted[i], &[], sampler))
        .collect();
    let mut borrowed: Vec<&mut Session> = sessions.iter_mut().collect();
    let together = predict_all(&mut borrowed, &mut asked, &ALL, None).unwrap();
    assert_eq!(together, alone);
    let lengths: Vec<usize> = sessions.iter().map(|one| one.tokens().len()).collect();
    assert_eq!(lengths, [90, 1, 130, 64]);
}

#[test]
fn rows_are_held_to_the_tokens_that_are_allowed() {
    let model = Arc::new(tiny("llama", 2));
    let mut text = session(&model, 40);
    let (ids, rows) = (ids(8, 2), [1, 3, 6]);
    let free = text
        .predict(&ids, &rows, &ALL, &mut Sampler::greedy())
        .unwrap();
    let allowed = [(0, vec![9, 17, 4]), (2, vec![30])];
    let mut greedy = Sampler::greedy();
    let mut asked = [block(&ids, &rows, &allowed, &mut greedy)];
    let held = predict_all(&mut [&mut text], &mut asked, &ALL, None)
        .unwrap()
        .remove(0);
    let logit = |row: usize, id: usize| free.logits[row * VOCAB + id];
    let best = if logit(0, 9) >= logit(0, 17) { 9 } else { 17 };
    assert_eq!(held.ids, [best, free.ids[1], 30]);
    let share = 1.0 / (1.0 + (-(logit(0, 9) - logit(0, 17)).abs()).exp());
    assert!((held.confidence[0] - share).abs() < 1e-5);
    assert!((held.confidence[2] - 1.0).abs() < 1e-6 && held.entropy[2].abs() < 1e-6);
    assert_eq!(held.logits[VOCAB..2 * VOCAB], free.logits[VOCAB..2 * VOCAB]);
}

#[test]
fn guidance_leads_away_from_the_text_that_lacks_the_prompt() {
    let model = Arc::new(tiny("llama", 2));
    let (mut told, mut untold) = (session(&model, 40), session(&model, 3));
    let (ids, rows) = (ids(80, 2), (0..80).collect::<Vec<_>>());
    let other = common::ids(80, 9);
    let of = |session: &mut Session, ids: &[i32]| {
        session
            .predict(ids, &rows, &ALL, &mut Sampler::greedy())
            .unwrap()
            .logits
    };
    let (with, without) = (of(&mut told, &ids), of(&mut untold, &other));
    let mut guided = |scale: f32| {
        let mut greedy = Sampler::greedy();
        let mut asked = [block(&ids, &rows, &[], &mut greedy)];
        let guidance = Some(Guidance {
            scale,
            sessions: &mut [&mut untold],
            ids: &[&other],
        });
        predict_all(&mut [&mut told], &mut asked, &ALL, guidance)
            .unwrap()
            .remove(0)
            .logits
    };
    for (scale, tolerance) in [(1.0, 1e-5), (2.5, 1e-4), (0.0, 1e-6)] {
        for ((&c, &u), l) in with.iter().zip(&without).zip(guided(scale)) {
            if c > -1e20 {
                assert!((u + scale * (c - u) - l).abs() < tolerance, "{c} {u} {l}");
            }
        }
    }
}

/// Rows of a whole text in which all tokens see each other, the middle of it last; then the middle alone, while the
/// keys of the rest stay as they are (Fast-dLLM, arXiv:2505.22618, the dual cache).
#[test]
fn what_lies_around_a_block_stays_as_it_was() {
    let model = Arc::new(tiny("llama", 2));
    let whole = ids(90, 3);
    let mut text = Session::new(Arc::clone(&model), 200, CachePrecision::F32).unwrap();
    let rows: Vec<usize> = (0..90).collect();
    let in_order = text
        .predict(&whole, &rows, &ALL, &mut Sampler::greedy())
        .unwrap();
    let order: Vec<usize> = (0..50).chain(70..90).chain(50..70).collect();
    let turned: Vec<i32> = order.iter().map(|&at| whole[at]).collect();
    let positions: Vec<i32> = order.iter().map(|&at| at as i32).collect();
    let wanted: Vec<usize> = (70..90).collect();
    let close = |found: &Predictions| {
        let there = &in_order.logits[50 * VOCAB..70 * VOCAB];
        let mut pairs = found.logits.iter().zip(there);
        found.logits.len() == there.len() && pairs.all(|(a, b)| (a - b).abs() < 1e-3)
    };
    let ask = |text: &mut Session, ids: &[i32], positions: &[i32], keep, wanted: &[usize]| {
        let mut greedy = Sampler::greedy();
        let mut asked = [Block {
            positions,
            keep,
            ..block(ids, wanted, &[], &mut greedy)
        }];
        Ok::<_, InferenceError>(predict_all(&mut [text], &mut asked, &ALL, None)?.remove(0))
    };
    assert!(close(
        &ask(&mut text, &turned, &positions, 70, &wanted).unwrap()
    ));
    assert_eq!(text.tokens().len(), 70);
    let inner: Vec<usize> = (0..20).collect();
    let middle = &positions[70..];
    assert!(close(
        &ask(&mut text, &turned[70..], middle, 0, &inner).unwrap()
    ));
    let moved: Vec<i32> = (0..20).collect();
    assert!(!close(
        &ask(&mut text, &turned[70..], &moved, 0, &inner).unwrap()
    ));
    for (positions, keep) in [(&moved[..19], 0), (&moved[..], 21)] {
        let refused = ask(&mut text, &turned[70..], positions, keep, &inner);
        assert!(matches!(refused, Err(InferenceError::Pass { .. })));
    }
    assert!(ask(&mut text, &turned[70..], &[-1; 20], 0, &inner).is_err());
    assert_eq!(text.tokens().len(), 70);
}

/// What is read in the pass of its block gives what it gives when it is read before, to the bit.
#[test]
fn a_prompt_is_read_in_the_pass_of_its_block() {
    let model = Arc::new(tiny("llama", 2));
    let texts = [(90, 16), (1, 32), (130, 5)];
    let blocks: Vec<Vec<i32>> = texts.iter().map(|one| ids(one.1, 7)).collect();
    let wanted: Vec<Vec<usize>> = texts.iter().map(|one| (0..one.1).collect()).collect();
    let mut sessions: Vec<Session> = texts.iter().map(|one| session(&model, one.0)).collect();
    let predict = |session: &mut Session, i: usize| {
        session
            .predict(&blocks[i], &wanted[i], &ALL, &mut Sampler::greedy())
            .unwrap()
    };
    let before: Vec<Predictions> = (0..3).map(|i| predict(&mut sessions[i], i)).collect();
    let whole: Vec<Vec<i32>> = (0..3)
        .map(|i| [ids(texts[i].0, texts[i].0 as u64), blocks[i].clone()].concat())
        .collect();
    let rows: Vec<Vec<usize>> = texts
        .iter()
        .map(|one| (one.0..one.0 + one.1).collect())
        .collect();
    let mut samplers: Vec<Sampler> = (0..3).map(|_| Sampler::greedy()).collect();
    let mut asked: Vec<Block<'_>> = samplers
        .iter_mut()
        .enumerate()
        .map(|(i, sampler)| Block {
            keep: texts[i].0,
            is_prefix: true,
            ..block(&whole[i], &rows[i], &[], sampler)
        })
        .collect();
    let mut fresh: Vec<Session> = (0..3)
        .map(|_| Session::new(Arc::clone(&model), 200, CachePrecision::F32).unwrap())
        .collect();
    let mut borrowed: Vec<&mut Session> = fresh.iter_mut().collect();
    assert_eq!(
        predict_all(&mut borrowed, &mut asked, &ALL, None).unwrap(),
        before
    );
    for (i, session) in fresh.iter_mut().enumerate() {
        assert_eq!(session.tokens().len(), texts[i].0);
        assert_eq!(predict(session, i), before[i]);
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let model = Arc::new(tiny("llama", 1));
    let (mut a, mut b) = (session(&model, 10), session(&model, 20));
    let mut stranger = session(&Arc::new(tiny("llama", 1)), 5);
    let ids = ids(8, 2);
    let refused = |sessions: &mut [&mut Session], allowed: &[(usize, Vec<u32>)], rows: &[usize]| {
        let (mut one, mut two) = (Sampler::greedy(), Sampler::greedy());
        let mut asked = [
            block(&ids, rows, allowed, &mut one),
            block(&ids, &[0], &[], &mut two),
        ];
        predict_all(sessions, &mut asked, &ALL, None).unwrap_err()
    };
    let is_pass = |error: &InferenceError| matches!(error, InferenceError::Pass { .. });
    let fine: &[(usize, Vec<u32>)] = &[];
    assert!(is_pass(&refused(&mut [&mut a], fine, &[0])));
    assert!(is_pass(&refused(&mut [&mut a, &mut stranger], fine, &[0])));
    assert!(is_pass(&refused(&mut [&mut a, &mut b], fine, &[8])));
    assert!(is_pass(&refused(&mut [&mut a, &mut b], fine, &[3, 2])));
    for allowed in [(1, vec![3]), (0, vec![])] {
        assert!(is_pass(&refused(&mut [&mut a, &mut b], &[allowed], &[0])));
    }
    assert!(matches!(
        refused(&mut [&mut a, &mut b], &[(0, vec![VOCAB as u32])], &[0]),
        InferenceError::TokenRange { .. }
    ));
    // Nothing may be chosen: the only token allowed is forbidden.
    assert!(matches!(
        refused(&mut [&mut a, &mut b], &[(0, vec![4])], &[0]),
        InferenceError::NotFinite { .. }
    ));
    let again: Result<Predictions> = a.predict(&ids, &[0], &ALL, &mut Sampler::greedy());
    assert!(again.is_ok() && a.tokens().len() == 10);
}
