//! Cards change the rows that use them as a merged model would, and the model itself not at all.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use arrow_quant::{Dtype, Grid, Quantization, Tensor, TensorData, quantize};
use common::{VOCAB, config, families, ids, plain, random, tensors, worst};
use cpu_inference::{
    Adapter, CachePrecision, Card, Family, InferenceError, KvCache, Model, Pass, Pooling, Segment,
    Sequences, Session, extend_all,
};
use kernels::{CodeBits, PlainRows};

const SCALING: f32 = 0.7;
/// Of the cards' factors: more than half as many numbers as the layers have.
const RANK: usize = 12;
const HEAD: &str = "lm_head.weight";

/// Factors of rank [`RANK`] for every linear layer, replaced norms, two rows of a decoder's embedding.
fn card_tensors(base: &[Tensor], seed: u64) -> Vec<Tensor> {
    let mut card = Vec::new();
    for (index, tensor) in (seed * 1000..).zip(base) {
        let layer = tensor.name.strip_suffix(".weight").unwrap_or_default();
        match tensor.shape[..] {
            [outputs, inputs] if !layer.contains("embed") => {
                card.push(random(
                    &format!("{layer}.lora_A.weight"),
                    &[RANK, inputs],
                    index,
                ));
                card.push(random(
                    &format!("{layer}.lora_B.weight"),
                    &[outputs, RANK],
                    index + 500,
                ));
            }
            [_] if tensor.name.to_lowercase().contains("norm") => {
                card.push(random(&tensor.name, &tensor.shape, index));
            }
            [2, _] => card.push(random(&tensor.name, &tensor.shape, index)),
            _ => {}
        }
    }
    if base
        .iter()
        .any(|tensor| tensor.name == "model.embed_tokens.weight")
    {
        card.push(random("model.embed_tokens.rows", &[2, 32], seed));
        if !base.iter().any(|tensor| tensor.name == HEAD) {
            card.push(random("lm_head.lora_A.weight", &[3, 32], seed + 600));
            card.push(random("lm_head.lora_B.weight", &[VOCAB, 3], seed + 700));
        }
    }
    card
}

fn card<'a>(name: &'a str, tensors: &'a [Tensor], weight: f32) -> Card<'a> {
    let is_decoder = tensors
        .iter()
        .any(|tensor| tensor.name == "model.embed_tokens.rows");
    Card {
        name,
        tensors,
        scaling: SCALING,
        row_ids: if is_decoder { &[4, 16] } else { &[] },
        heads: &[],
        weight,
    }
}

/// The base with cards merged into it, in single precision. A tied head that cards change stands apart then.
fn merged(base: &[Tensor], cards: &[Card<'_>]) -> Vec<Tensor> {
    let mut all: Vec<Tensor> = base.iter().map(|tensor| replaced(tensor, cards)).collect();
    let embedding = all
        .iter()
        .find(|tensor| tensor.name == "model.embed_tokens.weight");
    if let Some(embedding) = embedding
        && !all.iter().any(|tensor| tensor.name == HEAD)
    {
        all.push(Tensor {
            name: HEAD.to_owned(),
            ..embedding.clone()
        });
    }
    all.iter()
        .map(|tensor| with_factors(tensor, cards))
        .collect()
}

/// A tensor of the base, or what cards put in its place.
fn replaced(tensor: &Tensor, cards: &[Card<'_>]) -> Tensor {
    let own = tensor.dequantize();
    let mut numbers = own.clone();
    for card in cards {
        let find = |name: &str| card.tensors.iter().find(|tensor| tensor.name == name);
        if let Some(replaced) = find(&tensor.name) {
            for ((n, own), new) in numbers.iter_mut().zip(&own).zip(replaced.dequantize()) {
                *n += card.weight * (new - own);
            }
        }
        if tensor.name == "model.embed_tokens.weight"
            && let Some(rows) = find("model.embed_tokens.rows")
        {
            let rows = rows.dequantize();
            for (&id, row) in card.row_ids.iter().zip(rows.chunks_exact(32)) {
                let at = id as usize * 32;
                for (c, new) in row.iter().enumerate() {
                    numbers[at + c] += card.weight * (new - own[at + c]);
                }
            }
        }
    }
    plain(&tensor.name, &tensor.shape, numbers)
}

/// The card with a scale for each row of its layers, beside a magnitude.
fn scaled(card: &[Tensor], seed: u64) -> Vec<Tensor> {
    let mut scaled = card.to_vec();
    for (index, tensor) in (seed..).zip(card) {
        if let Some(layer) = tensor.name.strip_suffix(".lora_B.weight") {
            let outputs = tensor.shape[0];
            let scales = random("", &[outputs], index).dequantize();
            let scales = scales.iter().map(|n| 1.0 + n).collect();
            scaled.push(plain(
                &format!("{layer}.lora_row_scale"),
                &[outputs],
                scales,
            ));
            let magnitude = format!("{layer}.lora_magnitude_vector");
            scaled.push(plain(&magnitude, &[outputs], vec![1.0; outputs]));
        }
    }
    scaled
}

/// A layer's weight and what the cards' factors add to it.
fn with_factors(tensor: &Tensor, cards: &[Card<'_>]) -> Tensor {
    let own = tensor.dequantize();
    let mut numbers = own.clone();
    let layer = tensor.name.strip_suffix(".weight").unwrap_or_default();
    for card in cards {
        let find = |name: &str| card.tensors.iter().find(|tensor| tensor.name == name);
        let Some(a) = find(&format!("{layer}.lora_A.weight")) else {
            continue;
        };
        let b = find(&format!("{layer}.lora_B.weight")).unwrap();
        let (rank, inputs, outputs) = (a.shape[0], a.shape[1], b.shape[0]);
        let (a, b) = (a.dequantize(), b.dequantize());
        let scales = find(&format!("{layer}.lora_row_scale"))
            .map_or_else(|| vec![1.0; outputs], Tensor::dequantize);
        for o in 0..outputs {
            for i in 0..inputs {
                let product = (0..rank)
                    .map(|r| b[o * rank + r] * a[r * inputs + i])
                    .sum::<f32>();
                let own = own[o * inputs + i];
                let alone = scales[o] * (own + card.scaling * product);
                numbers[o * inputs + i] += card.weight * (alone - own);
            }
        }
    }
    plain(&tensor.name, &tensor.shape, numbers)
}

/// How a base is stored, and how far from a merged model in single precision what it gives with cards may be, as a
/// share of the greatest number: what rounding to eight bits and less takes from the input of each layer.
const STORED: [(Stored, f32); 6] = [
    (Stored::Plain(Dtype::F32), 1e-5),
    (Stored::Plain(Dtype::F16), 1e-3),
    (Stored::Plain(Dtype::Bf16), 1e-2),
    (Stored::Codes(CodeBits::Int8), 5e-2),
    (Stored::Codes(CodeBits::Int4), 5e-2),
    (Stored::Codes(CodeBits::Int2), 5e-2),
];

#[derive(Debug, Clone, Copy)]
enum Stored {
    Plain(Dtype),
    Codes(CodeBits),
}

/// The matrices of `base` stored so.
fn stored(base: &[Tensor], how: Stored) -> Vec<Tensor> {
    let store = |tensor: &Tensor| {
        let numbers = tensor.dequantize();
        let data = match (&tensor.shape[..], how) {
            (&[n, k], Stored::Codes(bits)) if n > 2 => {
                let how = Quantization {
                    bits,
                    group_size: if bits == CodeBits::Int8 { 0 } else { 16 },
                    grid: Grid::Symmetric,
                };
                TensorData::Quant(quantize(PlainRows::F32(&numbers), n, k, how, |_| true).unwrap())
            }
            (&[_, _], Stored::Plain(dtype)) => {
                let bytes = |n: &f32| match dtype {
                    Dtype::F32 => n.to_ne_bytes().to_vec(),
                    Dtype::F16 => half::f16::from_f32(*n).to_ne_bytes().to_vec(),
                    Dtype::Bf16 => half::bf16::from_f32(*n).to_ne_bytes().to_vec(),
                };
                let data: Vec<u8> = numbers.iter().flat_map(bytes).collect();
                TensorData::Plain {
                    dtype,
                    data: data.into(),
                }
            }
            _ => return tensor.clone(),
        };
        Tensor {
            data,
            ..tensor.clone()
        }
    };
    base.iter().map(store).collect()
}

/// The greatest difference as a share of the greatest number.
fn apart(got: &[f32], want: &[f32]) -> f32 {
    worst(got, want) / want.iter().fold(0.0, |most, n| n.abs().max(most))
}

fn load(architecture: &str, tensors: &[Tensor]) -> Arc<Model> {
    Arc::new(Model::load(config(architecture), tensors, 2).unwrap())
}

fn embed(model: &Model, adapter: Option<&Arc<Adapter>>) -> Vec<f32> {
    let (text, offsets) = (ids(120, 3), [0i64, 20, 90, 120]);
    let sequences = Sequences {
        adapter,
        ..Sequences::from((&text, &offsets))
    };
    model
        .embed(sequences, Pooling::Mean, 0, false, &mut || true)
        .unwrap()
}

/// Scores of a head of each token of an encoder, or logits of a decoder.
fn scores(model: &Model, adapter: &Arc<Adapter>) -> Vec<f32> {
    let text = ids(60, 8);
    if model.family().is_decoder {
        return model.logits(&text, Some(adapter), &mut || true).unwrap();
    }
    let offsets = [0i64, 25, 60];
    let sequences = Sequences {
        adapter: Some(adapter),
        ..Sequences::from((&text, &offsets))
    };
    model
        .head_scores(sequences, "qa_outputs", &mut || true)
        .unwrap()
}

#[test]
fn it_is_as_if_the_cards_were_merged() {
    let untied = [("llama", true)];
    for (architecture, untied) in families().map(|name| (name, false)).chain(untied) {
        let mut plain = tensors(&config(architecture));
        if untied {
            plain.push(random(HEAD, &[VOCAB, 32], 90));
        }
        let (mut first, second) = (card_tensors(&plain, 1), card_tensors(&plain, 2));
        // A component may be as large as it likes in one factor and as small in the other.
        for tensor in &mut first {
            let by = match tensor.name.rsplit_once('.').unwrap().0.rsplit_once('.') {
                Some((_, "lora_A")) => 1e3,
                Some((_, "lora_B")) => 1e-3,
                _ => continue,
            };
            let numbers = tensor.dequantize().iter().map(|n| n * by).collect();
            *tensor = self::plain(&tensor.name, &tensor.shape, numbers);
        }
        let (turned, stretched) = (scaled(&first, 3), scaled(&second, 4));
        let head = [random("qa_outputs.weight", &[3, 32], 70)];
        let read = Card {
            heads: &["qa_outputs"],
            ..card("head", &head, 1.0)
        };
        for cards in [
            vec![card("a", &first, 1.0)],
            vec![card("a", &first, 0.5), card("b", &second, -0.3)],
            vec![card("a", &turned, 1.0)],
            vec![
                card("a", &turned, 0.5),
                card("b", &second, -0.3),
                card("c", &stretched, 0.4),
            ],
        ] {
            for (how, tolerance) in STORED {
                let base = stored(&plain, how);
                let (model, reference) = (
                    load(architecture, &base),
                    load(architecture, &merged(&base, &cards)),
                );
                let mut with_head = cards.clone();
                with_head.push(read);
                let before = embed(&model, None);
                let headed = reference.adapter(&[read]).unwrap();
                let (want, want_scores) = (embed(&reference, None), scores(&reference, &headed));
                for adapter in [
                    model.adapter(&with_head).unwrap(),
                    model.merged_adapter(&with_head).unwrap(),
                ] {
                    let got = embed(&model, Some(&adapter));
                    let error = apart(&got, &want);
                    assert!(error < tolerance, "{architecture} {how:?}: {error}");
                    assert!(apart(&got, &before) > 0.1);
                    assert_eq!(embed(&model, None), before);
                    let error = apart(&scores(&model, &adapter), &want_scores);
                    assert!(error < tolerance, "{architecture} {how:?} scores: {error}");
                }
            }
        }
    }
}

#[test]
fn cards_change_the_head_for_whole_texts_too() {
    for family in Family::all() {
        let mut config = config(family.name);
        if family.classifier.is_none() {
            continue;
        }
        config.num_labels = 1;
        let base = tensors(&config);
        let card_tensors = card_tensors(&base, 4);
        let cards = [card("a", &card_tensors, 0.7)];
        let load = |tensors: &[Tensor]| Model::load(config.clone(), tensors, 2).unwrap();
        let (model, reference) = (load(&base), load(&merged(&base, &cards)));
        let adapter = model.adapter(&cards).unwrap();
        let (text, offsets) = (ids(50, 4), [0i64, 30, 50]);
        let scores = |model: &Model, adapter| {
            let sequences = Sequences {
                adapter,
                ..Sequences::from((&text, &offsets))
            };
            let scores = model.class_scores(sequences, Pooling::Mean, &mut || true);
            scores.unwrap()
        };
        let (got, want) = (scores(&model, Some(&adapter)), scores(&reference, None));
        assert!(
            worst(&got, &want) < 2e-5,
            "{} {got:?} {want:?}",
            family.name
        );
        assert!(worst(&got, &scores(&model, None)) > 1e-3);
    }
}

#[test]
fn rows_of_one_pass_use_different_cards() {
    for (how, _) in STORED {
        rows_use_different_cards(how);
    }
}

fn rows_use_different_cards(how: Stored) {
    let base = stored(&tensors(&config("llama")), how);
    let model = load("llama", &base);
    let (first, second) = (card_tensors(&base, 1), scaled(&card_tensors(&base, 2), 6));
    let adapters = [
        None,
        Some(model.adapter(&[card("a", &first, 1.0)]).unwrap()),
        Some(model.adapter(&[card("b", &second, 1.0)]).unwrap()),
        Some(
            model
                .adapter(&[card("a", &first, 0.5), card("b", &second, 0.2)])
                .unwrap(),
        ),
    ];
    let texts: Vec<_> = (0..11).map(|seed| ids(30 + seed as usize, seed)).collect();
    let session = |index: usize| {
        let mut session = Session::new(Arc::clone(&model), 200, CachePrecision::F32).unwrap();
        if let Some(adapter) = &adapters[index % 4] {
            session.adapt(Arc::clone(adapter)).unwrap();
        }
        session
    };
    let alone: Vec<Vec<f32>> = (0..11)
        .map(|index| {
            let mut session = session(index);
            session.extend(&texts[index], &mut || true).unwrap();
            session.logits().to_vec()
        })
        .collect();
    model.limit_prefixes(0);
    let mut together: Vec<_> = (0..11).map(session).collect();
    let ids: Vec<&[i32]> = texts.iter().map(Vec::as_slice).collect();
    extend_all(
        &mut together.iter_mut().collect::<Vec<_>>(),
        &ids,
        true,
        &mut || true,
    )
    .unwrap();
    for (session, alone) in together.iter().zip(&alone) {
        assert_eq!(session.logits(), alone);
    }
    // One that begins alike but is read with another card takes nothing over.
    model.limit_prefixes(1 << 30);
    let text = common::ids(150, 9);
    let read = |index: usize| {
        let mut session = session(index);
        session.extend(&text, &mut || true).unwrap();
        session.logits().to_vec()
    };
    let (plain, carded) = (read(0), read(1));
    assert!(worst(&plain, &carded) > 1e-2);
    assert_eq!(model.prefix_stats().reused_tokens, 0);
    assert_eq!((read(0), read(1)), (plain, carded));
    assert_eq!(model.prefix_stats().reused_tokens, 2 * 149);
}

#[test]
fn a_head_scores_every_token_and_types_tell_two_texts_apart() {
    let base = tensors(&config("bert"));
    let model = load("bert", &base);
    let mut tensors = card_tensors(&base, 3);
    tensors.push(random("qa_outputs.weight", &[3, 32], 70));
    tensors.push(random("qa_outputs.bias", &[3], 71));
    let card = Card {
        heads: &["qa_outputs"],
        ..card("reader", &tensors, 1.0)
    };
    let adapter = model.adapter(&[card]).unwrap();
    let (text, offsets) = (ids(50, 4), [0i64, 30, 50]);
    let types: Vec<u8> = (0..50).map(|at| u8::from(at % 30 > 10)).collect();
    let scores = |types: &[u8]| {
        let sequences = Sequences {
            types,
            adapter: Some(&adapter),
            ..Sequences::from((&text, &offsets))
        };
        let states = model.hidden_states(sequences, &mut || true).unwrap();
        (
            states,
            model
                .head_scores(sequences, "qa_outputs", &mut || true)
                .unwrap(),
        )
    };
    let (states, got) = scores(&types);
    let (weight, bias) = (
        tensors[tensors.len() - 2].dequantize(),
        tensors[tensors.len() - 1].dequantize(),
    );
    for (state, got) in states.chunks_exact(32).zip(got.chunks_exact(3)) {
        for o in 0..3 {
            let want: f32 = weight[o * 32..(o + 1) * 32]
                .iter()
                .zip(state)
                .map(|(w, s)| w * s)
                .sum();
            assert!((got[o] - want - bias[o]).abs() < 1e-5);
        }
    }
    assert!(worst(&got, &scores(&[]).1) > 1e-3);
    let plain = Sequences::from((&text, &offsets));
    let error = model
        .head_scores(plain, "qa_outputs", &mut || true)
        .unwrap_err();
    assert!(matches!(error, InferenceError::NoHead { .. }));
    let sequences = Sequences {
        adapter: Some(&adapter),
        ..plain
    };
    let error = model
        .head_scores(sequences, "other", &mut || true)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"other\"; heads: [\"qa_outputs\"]"),
        "{error}"
    );
    for types in [&[0u8; 49][..], &[2; 50]] {
        let sequences = Sequences {
            types,
            adapter: Some(&adapter),
            ..plain
        };
        let error = model
            .head_scores(sequences, "qa_outputs", &mut || true)
            .unwrap_err();
        assert!(error.to_string().contains("token type"), "{error}");
    }
}

#[test]
fn scales_of_rows_that_do_not_fit_are_refused_by_name() {
    let base = tensors(&config("llama"));
    let (model, whole) = (load("llama", &base), card_tensors(&base, 1));
    let layer = "model.layers.1.mlp.up_proj";
    let scales = |layer: &str, len, size| {
        let name = format!("{layer}.lora_row_scale");
        plain(&name, &[len], vec![size; len])
    };
    let magnitude = format!("{layer}.lora_magnitude_vector");
    for (tensor, expected) in [
        (scales(layer, 49, 1.0), "is [49], expected [48]"),
        (scales(layer, 48, f32::INFINITY), "not finite"),
        (scales("model.other", 48, 1.0), "lacks the tensor"),
        (plain(&magnitude, &[48], vec![1.0; 48]), "lora_row_scale"),
    ] {
        let mut tensors = whole.clone();
        tensors.push(tensor);
        let error = model.adapter(&[card("mine", &tensors, 1.0)]).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn cards_that_do_not_fit_are_refused_by_name_and_the_model_goes_on() {
    let base = tensors(&config("llama"));
    let model = load("llama", &base);
    let before = embed(&model, None);
    let whole = card_tensors(&base, 1);
    let fault = |change: &dyn Fn(&mut Vec<Tensor>)| {
        let mut tensors = whole.clone();
        change(&mut tensors);
        let error = model.adapter(&[card("mine", &tensors, 1.0)]).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("card \"mine\""), "{message}");
        message
    };
    let layer = "model.layers.1.mlp.up_proj";
    let named = |tensors: &mut Vec<Tensor>, ending: &str| {
        let name = format!("{layer}{ending}");
        tensors
            .iter()
            .position(|tensor| tensor.name == name)
            .unwrap()
    };
    let message = fault(&|t| t[0].name = "model.layers.9.mlp.up_proj.lora_A.weight".to_owned());
    assert!(
        message.contains("a layer \"model.layers.9.mlp.up_proj\""),
        "{message}"
    );
    let message = fault(&|t| {
        let at = named(t, ".lora_B.weight");
        drop(t.remove(at));
    });
    assert!(message.contains("lacks the tensor"), "{message}");
    let message = fault(&|t| {
        let at = named(t, ".lora_B.weight");
        t[at] = random(&t[at].name, &[48, RANK - 1], 1);
    });
    assert!(
        message.contains("is [48, 11], expected [48, 12]"),
        "{message}"
    );
    let message = fault(&|t| {
        let at = named(t, ".lora_A.weight");
        t[at] = random(&t[at].name, &[RANK, 33], 1);
    });
    assert!(
        message.contains("is [12, 33], expected [12, 32]"),
        "{message}"
    );
    let message = fault(&|t| {
        let at = named(t, ".lora_A.weight");
        t[at] = plain(&t[at].name, &[RANK, 32], vec![f32::NAN; RANK * 32]);
    });
    assert!(message.contains("not finite"), "{message}");
    let message = fault(&|t| t.push(random("model.norm2.weight", &[32], 1)));
    assert!(message.contains("\"model.norm2.weight\""), "{message}");
    let twice = [card("mine", &whole, 1.0), card("mine", &whole, 0.5)];
    assert!(
        model
            .adapter(&twice)
            .unwrap_err()
            .to_string()
            .contains("given twice")
    );
    let heavy = [card("mine", &whole, f32::NAN)];
    assert!(
        model
            .adapter(&heavy)
            .unwrap_err()
            .to_string()
            .contains("finite")
    );
    let outside = [Card {
        row_ids: &[4, VOCAB as u32],
        ..card("mine", &whole, 1.0)
    }];
    assert!(
        model
            .adapter(&outside)
            .unwrap_err()
            .to_string()
            .contains("row 40")
    );
    // Prepared for another model, or too late.
    let adapter = load("llama", &base)
        .adapter(&[card("mine", &whole, 1.0)])
        .unwrap();
    let mut pass = Pass::default();
    pass.span([1, 2], 0, &[Segment::Own { causal: true }]);
    pass.adapt(&adapter);
    let error = model
        .run(&pass, &mut [] as &mut [KvCache], |_| Ok(()))
        .unwrap_err();
    assert_eq!(error, InferenceError::ForeignAdapter);
    let mut session = Session::new(Arc::clone(&model), 50, CachePrecision::F32).unwrap();
    session.extend(&[1], &mut || true).unwrap();
    assert!(matches!(
        session.adapt(model.adapter(&[]).unwrap()),
        Err(InferenceError::AdapterTooLate { tokens: 1 })
    ));
    assert_eq!(embed(&model, None), before);
}
