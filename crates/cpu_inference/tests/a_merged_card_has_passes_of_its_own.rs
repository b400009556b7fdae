//! A card is merged where that pays, serves passes that use nothing else, and leaves the model as it is.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use arrow_quant::{Grid, Quantization, Tensor, TensorData, quantize};
use common::{config, ids, plain, random, tensors};
use cpu_inference::{
    Adapter, CachePrecision, Card, InferenceError, KvCache, Model, Pass, Pooling, Segment,
    Sequences, Session,
};
use kernels::{CodeBits, PlainRows};

/// Factors of that rank for every layer of an encoder, and a head.
fn reader(base: &[Tensor], rank: usize) -> Vec<Tensor> {
    let mut card = vec![random("qa_outputs.weight", &[3, 32], 70)];
    for (seed, tensor) in (1..).zip(base) {
        let layer = tensor.name.strip_suffix(".weight").unwrap_or_default();
        if let [outputs, inputs] = tensor.shape[..]
            && layer.contains("layer")
        {
            let names = [
                format!("{layer}.lora_A.weight"),
                format!("{layer}.lora_B.weight"),
            ];
            card.push(random(&names[0], &[rank, inputs], seed));
            card.push(random(&names[1], &[outputs, rank], seed + 500));
        }
    }
    card
}

fn card<'a>(name: &'a str, tensors: &'a [Tensor]) -> Card<'a> {
    Card {
        name,
        tensors,
        scaling: 0.5,
        row_ids: &[],
        heads: &["qa_outputs"],
        weight: 1.0,
    }
}

/// An encoder of integers of eight bits in groups.
fn encoder() -> Vec<Tensor> {
    let how = Quantization {
        bits: CodeBits::Int8,
        group_size: 16,
        grid: Grid::Symmetric,
    };
    let store = |tensor: Tensor| match tensor.shape[..] {
        [n, k] if tensor.name.contains("layer") => Tensor {
            data: TensorData::Quant(
                quantize(PlainRows::F32(&tensor.dequantize()), n, k, how, |_| true).unwrap(),
            ),
            ..tensor
        },
        _ => tensor,
    };
    tensors(&config("bert")).into_iter().map(store).collect()
}

fn load(base: &[Tensor], threads: usize) -> Arc<Model> {
    Arc::new(Model::load(config("bert"), base, threads).unwrap())
}

fn scores(model: &Model, adapter: &Arc<Adapter>, text: &[i32], offsets: &[i64]) -> Vec<f32> {
    let sequences = Sequences {
        adapter: Some(adapter),
        ..Sequences::from((text, offsets))
    };
    model
        .head_scores(sequences, "qa_outputs", &mut || true)
        .unwrap()
}

fn embed(model: &Model) -> Vec<f32> {
    let (text, offsets) = (ids(120, 3), [0i64, 20, 90, 120]);
    model
        .embed((&text, &offsets), Pooling::Mean, 0, false, &mut || true)
        .unwrap()
}

/// A session refuses a card that is merged, whatever it could do with it.
fn is_merged(adapter: &Arc<Adapter>) -> bool {
    let decoder = common::tiny("llama", 1);
    let mut session = Session::new(Arc::new(decoder), 10, CachePrecision::F32).unwrap();
    match session.adapt(Arc::clone(adapter)) {
        Ok(()) => false,
        Err(fault) => {
            assert_eq!(fault, InferenceError::MergedAdapter);
            true
        }
    }
}

#[test]
fn it_is_merged_where_that_saves_more_time_than_it_takes_memory() {
    let base = encoder();
    let model = load(&base, 2);
    // Layers have 7,168 numbers, factors 416 times their rank.
    for (rank, expected) in [(1, false), (8, false), (9, true), (30, true)] {
        let tensors = reader(&base, rank);
        let cards = [card("a", &tensors)];
        assert_eq!(
            is_merged(&model.merged_adapter(&cards).unwrap()),
            expected,
            "{rank}"
        );
        assert!(!is_merged(&model.adapter(&cards).unwrap()));
    }
    // A head alone changes no layer.
    let head = [random("qa_outputs.weight", &[3, 32], 70)];
    let adapter = model.merged_adapter(&[card("a", &head)]).unwrap();
    assert!(!is_merged(&adapter));
}

#[test]
fn scores_are_the_same_in_any_company_on_any_number_of_threads() {
    let base = encoder();
    let tensors = reader(&base, 20);
    let (text, offsets) = (ids(150, 5), [0i64, 60, 61, 150]);
    let mut all = Vec::new();
    for threads in [1, 2, 5] {
        let model = load(&base, threads);
        let adapter = model.merged_adapter(&[card("a", &tensors)]).unwrap();
        let together = scores(&model, &adapter, &text, &offsets);
        for pair in offsets.windows(2) {
            let (start, end) = (pair[0] as usize, pair[1] as usize);
            let alone = scores(
                &model,
                &adapter,
                &text[start..end],
                &[0, (end - start) as i64],
            );
            assert_eq!(alone, together[3 * start..3 * end]);
        }
        all.push(together);
    }
    assert!(all.iter().all(|one| *one == all[0]));
}

#[test]
fn the_model_and_other_cards_are_as_if_it_were_not_there() {
    let base = encoder();
    let (tensors, other) = (reader(&base, 20), reader(&base, 3));
    let model = load(&base, 2);
    let (text, offsets) = (ids(40, 5), [0i64, 40]);
    let beside = model.adapter(&[card("b", &other)]).unwrap();
    let before = (embed(&model), scores(&model, &beside, &text, &offsets));
    let merged = model.merged_adapter(&[card("a", &tensors)]).unwrap();
    let read = scores(&model, &merged, &text, &offsets);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..10 {
                    assert_eq!(scores(&model, &merged, &text, &offsets), read);
                    assert_eq!(embed(&model), before.0);
                    assert_eq!(scores(&model, &beside, &text, &offsets), before.1);
                }
            });
        }
    });
    drop(merged);
    assert_eq!(embed(&model), before.0);
    // Merged again it is the same.
    let again = model.merged_adapter(&[card("a", &tensors)]).unwrap();
    assert_eq!(scores(&model, &again, &text, &offsets), read);
}

#[test]
fn passes_that_it_shares_and_sums_beyond_their_numbers_are_refused() {
    let base = encoder();
    let mut tensors = reader(&base, 20);
    let model = load(&base, 2);
    let merged = model.merged_adapter(&[card("a", &tensors)]).unwrap();
    let run = |pass: &Pass| model.run(pass, &mut [] as &mut [KvCache], |_| Ok(()));
    let mut pass = Pass::default();
    let own = [Segment::Own { causal: false }];
    pass.span([1, 2], 0, &own);
    pass.adapt(&merged);
    run(&pass).unwrap();
    pass.span([3, 4], 0, &own);
    assert_eq!(run(&pass), Err(InferenceError::MergedAdapter));
    pass.adapt(&merged);
    run(&pass).unwrap();

    // Factors that are finite, and whose product is not.
    for tensor in &mut tensors[1..] {
        let count = tensor.shape.iter().product();
        *tensor = plain(&tensor.name, &tensor.shape, vec![1e30; count]);
    }
    let fault = model.merged_adapter(&[card("a", &tensors)]).unwrap_err();
    assert!(matches!(fault, InferenceError::NotFinite { .. }), "{fault}");
}
