//! A sequence's vector does not depend on the batch, the threads or the caller's thread.
#![allow(clippy::unwrap_used)]

mod common;

use common::{VOCAB, config, families, ids, tensors, tiny, worst};
use cpu_inference::{Family, InferenceError, Model, ModelConfig, Pooling};

#[test]
fn vectors_do_not_depend_on_batch_or_threads() {
    let lengths = [
        3, 200, 1, 64, 65, 17, 130, 2, 90, 200, 199, 40, 8, 150, 111, 70, 33,
    ];
    for architecture in families() {
        let mut all = Vec::new();
        let mut offsets = vec![0i64];
        for (seed, &length) in lengths.iter().enumerate() {
            all.extend(ids(length, seed as u64));
            offsets.push(all.len() as i64);
        }
        for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Last] {
            let one = tiny(architecture, 1);
            let batch = tiny(architecture, 3)
                .embed((&all, &offsets), pooling, 0, true, &mut || true)
                .unwrap();
            for (index, span) in offsets.windows(2).enumerate() {
                let alone = &all[span[0] as usize..span[1] as usize];
                let vector = one
                    .embed(
                        (alone, &[0, alone.len() as i64]),
                        pooling,
                        0,
                        true,
                        &mut || true,
                    )
                    .unwrap();
                assert_eq!(
                    vector,
                    batch[index * 32..(index + 1) * 32],
                    "{architecture} {index}"
                );
                assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn threads_share_a_model() {
    let model = tiny("bert", 2);
    let text = ids(150, 3);
    let embed = || {
        model
            .embed((&text, &[0, 60, 150]), Pooling::Mean, 0, false, &mut || {
                true
            })
            .unwrap()
    };
    let expected = embed();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10).for_each(|_| assert_eq!(embed(), expected)));
        }
    });
}

#[test]
fn no_sequences_give_no_vectors_and_stopping_stops() {
    let model = tiny("bert", 1);
    assert!(
        model
            .embed((&[] as &[i32], &[0]), Pooling::Mean, 0, true, &mut || true)
            .unwrap()
            .is_empty()
    );
    let result = model.embed((&[1, 2], &[0, 2]), Pooling::Mean, 0, true, &mut || false);
    assert_eq!(result, Err(InferenceError::Interrupted));
    assert!(matches!(
        model.logits(&[1], None, &mut || true),
        Err(InferenceError::WrongArchitecture {
            operation: "logits",
            ..
        })
    ));
}

#[test]
fn hidden_states_keep_the_order_of_the_ids() {
    let model = tiny("llama", 1);
    let text = ids(50, 8);
    let both = model
        .hidden_states((&text, &[0, 20, 50]), &mut || true)
        .unwrap();
    let second = model
        .hidden_states((&text[20..], &[0, 30]), &mut || true)
        .unwrap();
    assert!(worst(&both[20 * 32..], &second) < 1e-6);
}

fn fault(config: ModelConfig, change: impl FnOnce(&mut Vec<arrow_quant::Tensor>)) -> String {
    let mut tensors = tensors(&config);
    change(&mut tensors);
    Model::load(config, &tensors, 1).unwrap_err().to_string()
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let name = "model.layers.1.mlp.up_proj.weight";
    let position =
        |tensors: &[arrow_quant::Tensor]| tensors.iter().position(|t| t.name == name).unwrap();
    let message = fault(config("llama"), |tensors| {
        drop(tensors.remove(position(tensors)));
    });
    assert!(
        message.contains(name) && message.contains("[48, 32]"),
        "{message}"
    );
    let message = fault(config("llama"), |tensors| {
        let at = position(tensors);
        tensors[at].shape = vec![32, 48];
    });
    assert!(
        message.contains(name) && message.contains("expected shape [48, 32], got [32, 48]"),
        "{message}"
    );
    let message = fault(config("qwen2"), |tensors| {
        tensors.retain(|t| !t.name.ends_with("k_proj.bias"));
    });
    assert!(
        message.contains("model.layers.0.self_attn.k_proj.bias"),
        "{message}"
    );
    let message = fault(config("llama"), |tensors| {
        if let arrow_quant::TensorData::Plain { data, .. } = &mut tensors[0].data {
            *data = data.slice(..8);
        }
    });
    assert!(message.contains("expected 5120 bytes, got 8"), "{message}");
    let mut untied = config("llama");
    untied.tied_embeddings = Some(false);
    let message = fault(untied, |_| ());
    assert!(
        message.contains("lm_head.weight") && message.contains(&format!("[{VOCAB}, 32]")),
        "{message}"
    );
}

#[test]
fn a_head_scores_whole_texts_and_only_where_there_is_one() {
    for family in Family::all() {
        let mut config = config(family.name);
        config.num_labels = usize::from(family.classifier.is_some());
        let (text, offsets) = (ids(150, 3), [0i64, 60, 150]);
        let scores = |config: ModelConfig, text: &[i32], offsets: &[i64]| {
            let model = Model::load(config.clone(), &tensors(&config), 2).unwrap();
            model.class_scores((text, offsets).into(), Pooling::Cls, &mut || true)
        };
        let all = scores(config.clone(), &text, &offsets);
        if family.classifier.is_none() {
            let message = all.unwrap_err().to_string();
            assert!(message.contains("reranker"), "{message}");
            continue;
        }
        let all = all.unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(scores(config, &text[60..], &[0, 90]).unwrap(), all[1..]);
    }
}
