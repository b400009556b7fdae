//! Texts that threads write at the same time share passes, and each is what it would be alone.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{config, ids, tensors, tiny};
use cpu_inference::{
    CachePrecision, InferenceError, Model, Sampler, SamplingSettings, Session, extend_all,
};

fn sampler(seed: u64) -> Sampler {
    let settings = SamplingSettings {
        temperature: if seed.is_multiple_of(3) { 0.0 } else { 0.9 },
        top_p: 0.95,
        repetition_penalty: 1.1,
        seed,
        ..SamplingSettings::default()
    };
    Sampler::new(settings).unwrap()
}

/// Prompts of several lengths, some longer than a pass takes at once.
fn prompt(seed: u64) -> Vec<i32> {
    ids(1 + (seed as usize * 37) % 120, seed)
}

fn write(model: &Arc<Model>, seed: u64, tokens: usize) -> (Vec<u32>, Vec<f32>) {
    let mut session = Session::new(Arc::clone(model), 200, CachePrecision::F32).unwrap();
    let mut sampler = sampler(seed);
    session.extend(&prompt(seed), &mut || true).unwrap();
    for _ in 0..tokens {
        let choice = session.sample(&mut sampler).unwrap();
        session.extend(&[choice.id as i32], &mut || true).unwrap();
    }
    (session.tokens().to_vec(), session.logits().to_vec())
}

#[test]
fn threads_write_what_each_would_alone() {
    let model = Arc::new(tiny("llama", 2));
    let length = |seed: u64| 10 + (seed as usize * 13) % 50;
    let alone: Vec<_> = (0..8)
        .map(|seed| write(&Arc::new(tiny("llama", 1)), seed, length(seed)))
        .collect();
    std::thread::scope(|scope| {
        for (seed, expected) in (0..).zip(&alone) {
            let model = &model;
            scope.spawn(move || {
                for _ in 0..3 {
                    assert_eq!(&write(model, seed, length(seed)), expected, "text {seed}");
                }
            });
        }
    });
}

#[test]
fn one_caller_reads_several_texts_at_once() {
    let model = Arc::new(tiny("qwen3", 2));
    model.limit_prefixes(0);
    let session = || Session::new(Arc::clone(&model), 200, CachePrecision::F32).unwrap();
    let mut sessions: Vec<_> = (0..5).map(|_| session()).collect();
    let prompts: Vec<_> = (0..5).map(prompt).collect();
    for step in 0..20 {
        let ids: Vec<Vec<i32>> = sessions
            .iter()
            .zip(&prompts)
            .map(|(session, prompt)| match step {
                0 => prompt.clone(),
                _ => vec![session.sample(&mut Sampler::greedy()).unwrap().id as i32],
            })
            .collect();
        let ids: Vec<&[i32]> = ids.iter().map(Vec::as_slice).collect();
        let mut all: Vec<_> = sessions.iter_mut().collect();
        extend_all(&mut all, &ids, true, &mut || true).unwrap();
    }
    for (session, prompt) in sessions.iter().zip(&prompts) {
        let mut alone = Session::new(Arc::clone(&model), 200, CachePrecision::F32).unwrap();
        alone.extend(prompt, &mut || true).unwrap();
        while alone.tokens().len() < session.tokens().len() {
            let id = alone.sample(&mut Sampler::greedy()).unwrap().id as i32;
            alone.extend(&[id], &mut || true).unwrap();
        }
        assert_eq!(alone.tokens(), session.tokens());
        assert_eq!(alone.logits(), session.logits());
    }
}

#[test]
fn who_is_interrupted_leaves_and_the_others_go_on() {
    let model = Arc::new(tiny("llama", 1));
    let expected = write(&model, 3, 40);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200 {
                let mut session =
                    Session::new(Arc::clone(&model), 200, CachePrecision::F32).unwrap();
                let mut calls = 0;
                let outcome = session.extend(&ids(150, 9), &mut || {
                    calls += 1;
                    calls < 2
                });
                assert!(matches!(outcome, Ok(()) | Err(InferenceError::Interrupted)));
            }
        });
        for _ in 0..5 {
            assert_eq!(write(&model, 3, 40), expected);
        }
    });
}

#[test]
fn a_text_that_begins_as_an_earlier_one_is_not_computed_again() {
    for precision in [CachePrecision::F32, CachePrecision::F16] {
        let model = Arc::new(tiny("llama", 2));
        let session = || Session::new(Arc::clone(&model), 200, precision).unwrap();
        let text = ids(180, 4);
        let mut first = session();
        first.extend(&text[..150], &mut || true).unwrap();
        assert_eq!(model.prefix_stats().reused_tokens, 0);
        assert_eq!(model.prefix_stats().pages, 3);
        let mut second = session();
        second.extend(&text, &mut || true).unwrap();
        assert_eq!(model.prefix_stats().reused_tokens, 150);
        // The longer of two pages that are not full is kept.
        assert_eq!(model.prefix_stats().pages, 3);
        first.extend(&text[150..], &mut || true).unwrap();
        assert_eq!(first.logits(), second.logits());
        assert_eq!(first.tokens(), second.tokens());
        // What one of them writes in a page in common is its own.
        first.truncate(100);
        first.extend(&ids(50, 5), &mut || true).unwrap();
        let mut third = session();
        third.extend(&text, &mut || true).unwrap();
        assert_eq!(third.logits(), second.logits());
        // A text cut within what it shared goes on by itself.
        first.truncate(70);
        first.extend(&ids(3, 8), &mut || true).unwrap();
        // A prompt of whole pages still has its last token read.
        let mut whole = session();
        whole.extend(&text[..128], &mut || true).unwrap();
        assert!(!whole.logits().is_empty());
        // Of another precision nothing is taken over.
        let before = model.prefix_stats().reused_tokens;
        let other = match precision {
            CachePrecision::F32 => CachePrecision::F16,
            CachePrecision::F16 => CachePrecision::F32,
        };
        let mut halves = Session::new(Arc::clone(&model), 200, other).unwrap();
        halves.extend(&text, &mut || true).unwrap();
        assert_eq!(model.prefix_stats().reused_tokens, before);
    }
}

#[test]
fn texts_part_anywhere_in_a_page() {
    let model = Arc::new(tiny("llama", 2));
    let session = || Session::new(Arc::clone(&model), 200, CachePrecision::F32).unwrap();
    let text = ids(130, 4);
    session().extend(&text, &mut || true).unwrap();
    let mut reused = 0;
    // Within the first page, at its end, behind it; too little of a page is computed again.
    for (common, expected) in [(20, 20), (64, 64), (70, 64), (100, 100)] {
        let mut other = text[..common].to_vec();
        other.extend(ids(80, 6).iter().map(|id| (id + 1) % 40));
        other[common] = (text[common] + 1) % 40;
        let mut taken = session();
        taken.extend(&other, &mut || true).unwrap();
        reused += expected;
        assert_eq!(model.prefix_stats().reused_tokens, reused, "{common}");
        let fresh = Arc::new(tiny("llama", 2));
        let mut alone = Session::new(fresh, 200, CachePrecision::F32).unwrap();
        for part in other.chunks(60) {
            alone.extend(part, &mut || true).unwrap();
        }
        assert_eq!(taken.logits(), alone.logits());
        assert_eq!(taken.tokens(), alone.tokens());
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let config = config("llama");
    let model = Arc::new(Model::load(config.clone(), &tensors(&config), 1).unwrap());
    let read = |text: &[i32]| {
        let mut session = Session::new(Arc::clone(&model), 200, CachePrecision::F32).unwrap();
        session.extend(text, &mut || true).unwrap();
        session.logits().to_vec()
    };
    read(&ids(140, 0));
    let page = model.prefix_stats().size_bytes / model.prefix_stats().pages;
    model.limit_prefixes(3 * page);
    let expected: Vec<_> = (0..10).map(|seed| read(&ids(140, seed))).collect();
    let stats = model.prefix_stats();
    assert!(
        stats.size_bytes <= 3 * page && stats.pages <= 3,
        "{stats:?}"
    );
    assert!(stats.dropped_pages > 0);
    for (seed, expected) in (0..10).zip(&expected) {
        assert_eq!(&read(&ids(140, seed)), expected);
    }
    model.limit_prefixes(0);
    assert_eq!(model.prefix_stats().pages, 0);
    let reused = model.prefix_stats().reused_tokens;
    assert_eq!(read(&ids(140, 1)), expected[1]);
    assert_eq!(model.prefix_stats().reused_tokens, reused);
}
