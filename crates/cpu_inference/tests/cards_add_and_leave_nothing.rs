//! Cards change the rows that use them as a merged model would, and the model itself not at all.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use arrow_quant::{Dtype, Grid, Quantization, Tensor, TensorData, quantize};
use common::{VOCAB, config, ids, tensors, worst};
use cpu_inference::{
    Adapter, CachePrecision, Card, InferenceError, KvCache, Model, Pass, Pooling, Random, Segment,
    Sequences, Session, extend_all,
};
use kernels::{CodeBits, PlainRows};

const SCALING: f32 = 0.7;

fn plain(name: &str, shape: &[usize], numbers: Vec<f32>) -> Tensor {
    Tensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data: TensorData::Plain {
            dtype: Dtype::F32,
            data: numbers.into_iter().flat_map(f32::to_ne_bytes).collect(),
        },
    }
}

fn random(name: &str, shape: &[usize], seed: u64) -> Tensor {
    let mut random = Random::new(seed);
    let count = shape.iter().product();
    let numbers = (0..count).map(|_| (random.unit() - 0.5) as f32 * 0.4);
    plain(name, shape, numbers.collect())
}

/// Factors of rank 5 for every linear layer, replaced norms, two rows of a decoder's embedding.
fn card_tensors(architecture: &str, base: &[Tensor], seed: u64) -> Vec<Tensor> {
    let mut card = Vec::new();
    let has_head_norms = architecture == "qwen3";
    let known =
        |name: &str| has_head_norms || !name.contains("self_attn.") || name.contains("proj");
    let base_tensors = base.iter().filter(|tensor| known(&tensor.name));
    for (index, tensor) in (seed * 1000..).zip(base_tensors) {
        let layer = tensor.name.strip_suffix(".weight").unwrap_or_default();
        match tensor.shape[..] {
            [outputs, inputs] if !layer.contains("embed") => {
                card.push(random(
                    &format!("{layer}.lora_A.weight"),
                    &[5, inputs],
                    index,
                ));
                card.push(random(
                    &format!("{layer}.lora_B.weight"),
                    &[outputs, 5],
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

/// The base with cards merged into it, in single precision.
fn merged(base: &[Tensor], cards: &[Card<'_>]) -> Vec<Tensor> {
    let merge = |tensor: &Tensor| {
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
            let layer = tensor.name.strip_suffix(".weight").unwrap_or_default();
            let Some(a) = find(&format!("{layer}.lora_A.weight")) else {
                continue;
            };
            let b = find(&format!("{layer}.lora_B.weight")).unwrap();
            let (rank, inputs, outputs) = (a.shape[0], a.shape[1], b.shape[0]);
            let (a, b) = (a.dequantize(), b.dequantize());
            for o in 0..outputs {
                for i in 0..inputs {
                    let product = (0..rank)
                        .map(|r| b[o * rank + r] * a[r * inputs + i])
                        .sum::<f32>();
                    numbers[o * inputs + i] += card.scaling * card.weight * product;
                }
            }
        }
        plain(&tensor.name, &tensor.shape, numbers)
    };
    base.iter().map(merge).collect()
}

fn rounded(base: &[Tensor], bits: CodeBits) -> Vec<Tensor> {
    let how = Quantization {
        bits,
        group_size: if bits == CodeBits::Int8 { 0 } else { 16 },
        grid: Grid::Symmetric,
    };
    let round = |tensor: &Tensor| match tensor.shape[..] {
        [n, k] if n > 2 => Tensor {
            data: TensorData::Quant(
                quantize(PlainRows::F32(&tensor.dequantize()), n, k, how, |_| true).unwrap(),
            ),
            ..tensor.clone()
        },
        _ => tensor.clone(),
    };
    base.iter().map(round).collect()
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

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn it_is_as_if_the_cards_were_merged() {
    for architecture in ["bert", "llama", "qwen2", "qwen3"] {
        let base = tensors(&config(architecture));
        let (first, second) = (
            card_tensors(architecture, &base, 1),
            card_tensors(architecture, &base, 2),
        );
        for cards in [
            vec![card("a", &first, 1.0)],
            vec![card("a", &first, 0.5), card("b", &second, -0.3)],
        ] {
            let model = load(architecture, &base);
            let adapter = model.adapter(&cards).unwrap();
            let (before, reference) = (
                embed(&model, None),
                load(architecture, &merged(&base, &cards)),
            );
            let (got, want) = (embed(&model, Some(&adapter)), embed(&reference, None));
            assert!(
                worst(&got, &want) < 2e-5,
                "{architecture} {}",
                worst(&got, &want)
            );
            assert!(worst(&got, &before) > 1e-2);
            assert_eq!(embed(&model, None), before);
            if architecture != "bert" {
                let text = ids(60, 8);
                let got = model.logits(&text, Some(&adapter), &mut || true).unwrap();
                let want = reference.logits(&text, None, &mut || true).unwrap();
                assert!(
                    worst(&got, &want) < 1e-4,
                    "{architecture} {}",
                    worst(&got, &want)
                );
            }
            for bits in [CodeBits::Int8, CodeBits::Int4, CodeBits::Int2] {
                let base = rounded(&base, bits);
                let model = load(architecture, &base);
                let adapter = model.adapter(&cards).unwrap();
                let (got, want) = (
                    embed(&model, Some(&adapter)),
                    embed(&load(architecture, &merged(&base, &cards)), None),
                );
                let alike = cosine(&got, &want);
                assert!(alike > 0.999, "{architecture} {bits:?} {alike}");
            }
        }
    }
}

#[test]
fn rows_of_one_pass_use_different_cards() {
    let base = rounded(&tensors(&config("llama")), CodeBits::Int8);
    let model = load("llama", &base);
    let (first, second) = (
        card_tensors("llama", &base, 1),
        card_tensors("llama", &base, 2),
    );
    let adapters = [
        None,
        Some(model.adapter(&[card("a", &first, 1.0)]).unwrap()),
        Some(model.adapter(&[card("b", &second, 1.0)]).unwrap()),
    ];
    let texts: Vec<_> = (0..5).map(|seed| ids(30 + seed as usize, seed)).collect();
    let session = |index: usize| {
        let mut session = Session::new(Arc::clone(&model), 200, CachePrecision::F32).unwrap();
        if let Some(adapter) = &adapters[index % 3] {
            session.adapt(Arc::clone(adapter)).unwrap();
        }
        session
    };
    let alone: Vec<Vec<f32>> = (0..5)
        .map(|index| {
            let mut session = session(index);
            session.extend(&texts[index], &mut || true).unwrap();
            session.logits().to_vec()
        })
        .collect();
    model.limit_prefixes(0);
    let mut together: Vec<_> = (0..5).map(session).collect();
    let ids: Vec<&[i32]> = texts.iter().map(Vec::as_slice).collect();
    extend_all(
        &mut together.iter_mut().collect::<Vec<_>>(),
        &ids,
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
    assert_eq!(model.prefix_stats().reused_tokens, 256);
}

#[test]
fn a_head_scores_every_token_and_types_tell_two_texts_apart() {
    let base = tensors(&config("bert"));
    let model = load("bert", &base);
    let mut tensors = card_tensors("bert", &base, 3);
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
fn cards_that_do_not_fit_are_refused_by_name_and_the_model_goes_on() {
    let base = tensors(&config("llama"));
    let model = load("llama", &base);
    let before = embed(&model, None);
    let whole = card_tensors("llama", &base, 1);
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
        t[at] = random(&t[at].name, &[48, 4], 1);
    });
    assert!(
        message.contains("is [48, 4], expected [48, 5]"),
        "{message}"
    );
    let message = fault(&|t| {
        let at = named(t, ".lora_A.weight");
        t[at] = random(&t[at].name, &[5, 33], 1);
    });
    assert!(
        message.contains("is [5, 33], expected [5, 32]"),
        "{message}"
    );
    let message = fault(&|t| {
        let at = named(t, ".lora_A.weight");
        t[at] = plain(&t[at].name, &[5, 32], vec![f32::NAN; 160]);
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
