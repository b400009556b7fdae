//! Side blocks of cards change the rows that use them, in any company, and without them not one bit is another.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use arrow_quant::{Dtype, Grid, Quantization, Tensor, TensorData, quantize};
use common::{config, families, ids, tensors, worst};
use cpu_inference::{
    Adapter, CachePrecision, Card, Family, Model, NormPlace, Random, Session, extend_all,
};
use kernels::{CodeBits, PlainRows};

const HIDDEN: usize = 32;

fn plain(name: &str, shape: &[usize], numbers: &[f32]) -> Tensor {
    Tensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data: TensorData::Plain {
            dtype: Dtype::F32,
            data: numbers.iter().flat_map(|n| n.to_ne_bytes()).collect(),
        },
    }
}

fn random(name: &str, shape: &[usize], seed: u64) -> Tensor {
    let mut random = Random::new(seed);
    let numbers: Vec<f32> = (0..shape.iter().product())
        .map(|_| (random.unit() - 0.5) as f32 * 0.8)
        .collect();
    plain(name, shape, &numbers)
}

/// A side block of that width behind each of those blocks.
fn sides(blocks: &[usize], width: usize, seed: u64) -> Vec<Tensor> {
    let parts = |&block: &usize| {
        let name = format!("model.layers.{block}");
        let seed = seed * 100 + block as u64;
        [
            random(&format!("{name}.side_down.weight"), &[width, HIDDEN], seed),
            random(
                &format!("{name}.side_up.weight"),
                &[HIDDEN, width],
                seed + 50,
            ),
        ]
    };
    blocks.iter().flat_map(parts).collect()
}

/// The same, of which the second matrices are multiplied by a factor.
fn scaled(tensors: &[Tensor], by: f32) -> Vec<Tensor> {
    let change = |tensor: &Tensor| {
        let by = if tensor.name.contains("side_up") {
            by
        } else {
            1.0
        };
        let numbers: Vec<f32> = tensor.dequantize().iter().map(|n| n * by).collect();
        plain(&tensor.name, &tensor.shape, &numbers)
    };
    tensors.iter().map(change).collect()
}

fn card<'a>(name: &'a str, tensors: &'a [Tensor], weight: f32) -> Card<'a> {
    Card {
        name,
        tensors,
        scaling: 1.0,
        row_ids: &[],
        heads: &[],
        weight,
    }
}

/// The matrices of eight bits, or all as they are.
fn stored(tensors: Vec<Tensor>, is_quantised: bool) -> Vec<Tensor> {
    let how = Quantization {
        bits: CodeBits::Int8,
        group_size: 0,
        grid: Grid::Symmetric,
    };
    let store = |tensor: Tensor| match tensor.shape[..] {
        [n, k] if is_quantised => {
            let weights = tensor.dequantize();
            let codes = quantize(PlainRows::F32(&weights), n, k, how, |_| true).unwrap();
            Tensor {
                data: TensorData::Quant(codes),
                ..tensor
            }
        }
        _ => tensor,
    };
    tensors.into_iter().map(store).collect()
}

fn load(architecture: &str, is_quantised: bool) -> Arc<Model> {
    let config = config(architecture);
    let tensors = stored(tensors(&config), is_quantised);
    Arc::new(Model::load(config, &tensors, 2).unwrap())
}

/// Decoders of which rows take side blocks.
fn takers() -> impl Iterator<Item = &'static str> {
    let all = Family::all().iter();
    let takers = all.filter(|family| family.is_decoder && family.norm_place == NormPlace::Before);
    takers.map(|family| family.name)
}

fn logits(model: &Model, adapter: Option<&Arc<Adapter>>) -> Vec<f32> {
    model.logits(&ids(60, 8), adapter, &mut || true).unwrap()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|n| n.to_bits()).collect()
}

#[test]
fn one_that_begins_changes_not_one_bit_and_one_that_learned_does() {
    for architecture in takers() {
        for is_quantised in [false, true] {
            let model = load(architecture, is_quantised);
            let before = logits(&model, None);
            let learned = sides(&[0, 1], 6, 1);
            let begun = scaled(&learned, 0.0);
            let adapter = model.adapter(&[card("begun", &begun, 1.0)]).unwrap();
            assert_eq!(
                bits(&logits(&model, Some(&adapter))),
                bits(&before),
                "{architecture}"
            );
            let adapter = model.adapter(&[card("learned", &learned, 1.0)]).unwrap();
            assert!(worst(&logits(&model, Some(&adapter)), &before) > 0.1);
            let adapter = model.adapter(&[card("learned", &learned, 0.0)]).unwrap();
            assert_eq!(bits(&logits(&model, Some(&adapter))), bits(&before));
            assert_eq!(bits(&logits(&model, None)), bits(&before));
        }
    }
}

#[test]
fn of_integers_they_come_near_those_of_single_precision() {
    // The model of floats that has the same weights as that of integers.
    let config = config("llama");
    let integers = stored(tensors(&config), true);
    let floats: Vec<Tensor> = integers
        .iter()
        .map(|tensor| plain(&tensor.name, &tensor.shape, &tensor.dequantize()))
        .collect();
    let learned = sides(&[0, 1], 6, 3);
    let with = |tensors: &[Tensor]| {
        let model = Model::load(config.clone(), tensors, 2).unwrap();
        let adapter = model.adapter(&[card("one", &learned, 1.0)]).unwrap();
        logits(&model, Some(&adapter))
    };
    let (got, want) = (with(&integers), with(&floats));
    let most = want.iter().fold(0.0_f32, |most, n| n.abs().max(most));
    assert!(worst(&got, &want) < 0.05 * most);
}

#[test]
fn several_are_mixed_by_their_weights() {
    let model = load("llama", false);
    let (first, second) = (sides(&[0, 1], 6, 1), sides(&[1], 3, 2));
    let mixed = [card("a", &first, 0.5), card("b", &second, -0.3)];
    let halved = scaled(&first, 0.5);
    let turned = scaled(&second, -0.3);
    let whole = [card("a", &halved, 1.0), card("b", &turned, 1.0)];
    let [mixed, whole] = [&mixed, &whole].map(|cards| {
        let adapter = model.adapter(cards).unwrap();
        logits(&model, Some(&adapter))
    });
    assert_eq!(bits(&mixed), bits(&whole));
    let alone = model.adapter(&[card("a", &halved, 1.0)]).unwrap();
    assert!(worst(&mixed, &logits(&model, Some(&alone))) > 1e-2);
    // Behind one block what two cards give is added up: as of one that is as wide as both.
    let (a, b) = (sides(&[1], 4, 7), sides(&[1], 2, 8));
    let beside = |at: usize| (a[at].dequantize(), b[at].dequantize());
    let (down, narrow) = beside(0);
    let (up, wide) = beside(1);
    let rows = up.chunks_exact(4).zip(wide.chunks_exact(2));
    let wide: Vec<f32> = rows
        .flat_map(|(a, b)| [a, b].concat())
        .collect::<Vec<f32>>();
    let joined = [
        plain(&a[0].name, &[6, HIDDEN], &[down, narrow].concat()),
        plain(&a[1].name, &[HIDDEN, 6], &wide),
    ];
    let both = model
        .adapter(&[card("a", &a, 1.0), card("b", &b, 1.0)])
        .unwrap();
    let one = model.adapter(&[card("one", &joined, 1.0)]).unwrap();
    assert_eq!(
        bits(&logits(&model, Some(&both))),
        bits(&logits(&model, Some(&one)))
    );
}

#[test]
fn rows_of_one_pass_use_different_ones_and_a_session_reads_as_a_whole_pass() {
    for is_quantised in [false, true] {
        let model = load("qwen3", is_quantised);
        let (first, second) = (sides(&[0, 1], 6, 1), sides(&[1], 3, 2));
        let adapters = [
            None,
            Some(model.adapter(&[card("a", &first, 1.0)]).unwrap()),
            Some(model.adapter(&[card("b", &second, 1.0)]).unwrap()),
        ];
        let texts: Vec<_> = (0..7).map(|seed| ids(30 + seed as usize, seed)).collect();
        let session = |index: usize| {
            let mut session = Session::new(Arc::clone(&model), 200, CachePrecision::F32).unwrap();
            if let Some(adapter) = &adapters[index % 3] {
                session.adapt(Arc::clone(adapter)).unwrap();
            }
            session
        };
        model.limit_prefixes(0);
        let alone: Vec<Vec<f32>> = (0..7)
            .map(|index| {
                let mut session = session(index);
                session.extend(&texts[index], &mut || true).unwrap();
                session.logits().to_vec()
            })
            .collect();
        let mut together: Vec<_> = (0..7).map(session).collect();
        let ids: Vec<&[i32]> = texts.iter().map(Vec::as_slice).collect();
        let mut sessions = together.iter_mut().collect::<Vec<_>>();
        extend_all(&mut sessions, &ids, true, &mut || true).unwrap();
        for (index, (session, alone)) in together.iter().zip(&alone).enumerate() {
            assert_eq!(bits(session.logits()), bits(alone), "text {index}");
            let adapter = adapters[index % 3].as_ref();
            let whole = model.logits(&texts[index], adapter, &mut || true).unwrap();
            let last = &whole[whole.len() - alone.len()..];
            assert_eq!(bits(last), bits(alone), "text {index}");
        }
        for (index, alone) in alone.iter().enumerate() {
            let mut session = session(index);
            for &id in &texts[index] {
                session.extend(&[id], &mut || true).unwrap();
            }
            assert_eq!(bits(session.logits()), bits(alone), "text {index}");
        }
    }
}

#[test]
fn those_that_do_not_fit_are_refused_by_name() {
    let model = load("llama", false);
    let fault = |tensors: &[Tensor]| {
        let message = model
            .adapter(&[card("mine", tensors, 1.0)])
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("card \"mine\""), "{message}");
        message
    };
    let message = fault(&sides(&[0, 2], 4, 1));
    assert!(
        message.contains("\"model.layers.2\", expected blocks 0 to 1"),
        "{message}"
    );
    let message = fault(&sides(&[0, 1], 40, 1));
    assert!(
        message.contains("5120 numbers, expected at most"),
        "{message}"
    );
    let whole = sides(&[1], 4, 1);
    for lost in 0..2 {
        let message = fault(&whole[lost..=lost]);
        assert!(
            message.contains("lacks the tensor \"model.layers.1.side_"),
            "{message}"
        );
    }
    let mut tensors = whole.clone();
    tensors[0] = random(&whole[0].name, &[4, 31], 1);
    assert!(fault(&tensors).contains("is [4, 31], expected [4, 32]"));
    tensors[0] = whole[0].clone();
    tensors[1] = random(&whole[1].name, &[HIDDEN, 5], 1);
    assert!(fault(&tensors).contains("is [32, 5], expected [32, 4]"));
    tensors[1] = plain(&whole[1].name, &[HIDDEN, 4], &[f32::NAN; HIDDEN * 4]);
    assert!(fault(&tensors).contains("not finite"));
    let message = fault(&sides(&[1], 0, 1));
    assert!(message.contains("width 0"), "{message}");
    let far = model.adapter(&[card("mine", &scaled(&whole, 1e38), 1e10)]);
    let message = far.unwrap_err().to_string();
    assert!(message.contains("side block"), "{message}");
}

#[test]
fn what_has_no_stream_between_its_blocks_takes_none() {
    let takers: Vec<&str> = takers().collect();
    for architecture in families().filter(|name| !takers.contains(name)) {
        let model = load(architecture, false);
        let tensors = sides(&[0], 4, 1);
        let fault = model.adapter(&[card("mine", &tensors, 1.0)]).unwrap_err();
        assert!(
            fault.to_string().contains("decoders alone take"),
            "{architecture}: {fault}"
        );
    }
}
