//! A session that reads a text piece by piece ends where one pass over the whole text ends.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{VOCAB, decoders, ids, tiny, worst};
use cpu_inference::{CachePrecision, InferenceError, Sampler, SamplingSettings, Session};

fn last_logits(pieces: &[&[i32]], architecture: &str, precision: CachePrecision) -> Vec<f32> {
    let mut session = Session::new(Arc::new(tiny(architecture, 2)), 200, precision).unwrap();
    for piece in pieces {
        session.extend(piece, &mut || true).unwrap();
    }
    session.logits().to_vec()
}

#[test]
fn whole_chunked_and_stepwise_reading_agree() {
    let text = ids(150, 5);
    for architecture in decoders() {
        let full = tiny(architecture, 1)
            .logits(&text, None, &mut || true)
            .unwrap();
        let full = &full[149 * VOCAB..];
        let stepwise: Vec<&[i32]> = text.chunks(1).collect();
        let uneven = [
            &text[..1],
            &text[1..66],
            &text[66..64 + 66],
            &text[64 + 66..],
        ];
        for pieces in [&[&text[..]][..], &uneven, &stepwise] {
            let got = last_logits(pieces, architecture, CachePrecision::F32);
            assert!(
                worst(&got, full) < 1e-5,
                "{architecture} {}",
                worst(&got, full)
            );
        }
        let half = last_logits(&stepwise, architecture, CachePrecision::F16);
        assert!(
            worst(&half, full) < 1e-2,
            "{architecture} {}",
            worst(&half, full)
        );
    }
}

#[test]
fn forgetting_the_end_gives_the_same_as_never_reading_it() {
    let text = ids(100, 6);
    let mut session = Session::new(Arc::new(tiny("llama", 1)), 200, CachePrecision::F32).unwrap();
    session.extend(&text, &mut || true).unwrap();
    session.truncate(40);
    assert!(session.logits().is_empty());
    assert!(
        session
            .sample(&mut Sampler::new(SamplingSettings::default()).unwrap())
            .is_err()
    );
    session.extend(&[7], &mut || true).unwrap();
    let mut expected = text[..40].to_vec();
    expected.push(7);
    assert_eq!(
        session.logits(),
        last_logits(&[&expected], "llama", CachePrecision::F32)
    );
    assert_eq!(session.tokens().len(), 41);
}

#[test]
fn a_session_refuses_what_does_not_fit_and_stays_usable() {
    let model = Arc::new(tiny("llama", 1));
    let error = Session::new(Arc::clone(&model), 201, CachePrecision::F32).unwrap_err();
    assert!(matches!(
        error,
        InferenceError::Window {
            limit: 200,
            got: 201,
            ..
        }
    ));
    let error = Session::new(Arc::new(tiny("bert", 1)), 10, CachePrecision::F32).unwrap_err();
    assert!(matches!(error, InferenceError::WrongArchitecture { .. }));
    let mut session = Session::new(model, 8, CachePrecision::F32).unwrap();
    session.extend(&ids(6, 1), &mut || true).unwrap();
    let before = session.logits().to_vec();
    let error = session.extend(&ids(3, 1), &mut || true).unwrap_err();
    assert!(matches!(
        error,
        InferenceError::Window {
            limit: 8,
            got: 9,
            ..
        }
    ));
    let error = session.extend(&[99], &mut || true).unwrap_err();
    assert!(matches!(
        error,
        InferenceError::TokenRange {
            id: 99,
            position: 0,
            vocab_size: VOCAB
        }
    ));
    assert_eq!(
        session.extend(&[1], &mut || false),
        Err(InferenceError::Interrupted)
    );
    assert_eq!((session.logits(), session.tokens().len()), (&before[..], 6));
}

#[test]
fn losses_are_those_of_the_logits() {
    let (model, text) = (tiny("qwen3", 2), ids(130, 9));
    let logits = model.logits(&text, None, &mut || true).unwrap();
    let losses = model.token_nll(&text, 50, None, &mut || true).unwrap();
    assert_eq!(losses.len(), 80);
    for (offset, loss) in losses.iter().enumerate() {
        let row = &logits[(49 + offset) * VOCAB..(50 + offset) * VOCAB];
        let total: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        let expected = total.ln() - f64::from(row[text[50 + offset] as usize]);
        assert!((f64::from(*loss) - expected).abs() < 1e-5);
    }
    for first in [0, 130, 500] {
        assert!(matches!(
            model.token_nll(&text, first, None, &mut || true),
            Err(InferenceError::TooFewTokens { .. })
        ));
    }
}
