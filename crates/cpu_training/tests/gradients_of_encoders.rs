//! A gradient is how fast the loss changes: of encoders, for a loss that is computed from their states.
#![allow(clippy::unwrap_used)]

mod common;

use common::encoders::{ACTIVATIONS, EncoderCase, FAMILIES};
use cpu_training::{AdamW, Goal, Parameter};

/// Relative difference that is allowed.
const TOLERANCE: f64 = 1e-3;

fn assert_slopes(case: &EncoderCase, name: &str) {
    let mut trainer = case.trainer(case.parameters.clone(), 0.0).unwrap();
    let gradient = &case.gradient;
    let goal = Goal::States { gradient };
    trainer.accumulate(case.batch(), goal, 0, 0).unwrap();
    let gradients: Vec<Vec<f32>> = trainer
        .parameters()
        .iter()
        .map(|one| one.gradient.clone())
        .collect();
    for (index, gradient) in gradients.iter().enumerate() {
        let squares: f64 = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
        let length = squares.sqrt();
        let part = &case.parameters[index].name;
        assert!(length > 1e-3, "{name}: {part} has no gradient");
        let mut at = |distance: f64| {
            let mut moved = case.parameters.clone();
            for (value, &g) in moved[index].values.iter_mut().zip(gradient) {
                *value += (distance * f64::from(g) / length) as f32;
            }
            trainer.restore(0, moved).unwrap();
            trainer.measure(case.batch(), goal).unwrap().0
        };
        // Of two distances, so that the third derivative cancels (Richardson).
        let d = 0.01;
        let slope = (8.0 * (at(d) - at(-d)) - (at(2.0 * d) - at(-2.0 * d))) / (12.0 * d);
        assert!(
            (slope - length).abs() <= TOLERANCE * length,
            "{name}: {part}: slope {slope}, gradient {length}"
        );
    }
}

#[test]
fn of_every_family() {
    for family in FAMILIES {
        assert_slopes(&EncoderCase::new(family, "gelu"), family);
    }
}

#[test]
fn of_the_tanh_form_of_gelu() {
    assert_slopes(&EncoderCase::new("bert", ACTIVATIONS[1]), ACTIVATIONS[1]);
}

#[test]
fn states_are_those_of_the_loss_and_what_is_left_out_is_the_same_both_times() {
    for dropout in [0.0, 0.3] {
        let case = EncoderCase::new("bert", ACTIVATIONS[2]);
        let mut trainer = case.trainer(case.parameters.clone(), dropout).unwrap();
        let states = trainer.states(case.batch(), 5, 9).unwrap();
        let gradient = &case.gradient;
        let pairs = states.iter().zip(gradient);
        let expected: f64 = pairs.map(|(&x, &g)| f64::from(x) * f64::from(g)).sum();
        let goal = Goal::States { gradient };
        let loss = trainer.accumulate(case.batch(), goal, 5, 9).unwrap();
        assert_eq!(loss.to_bits(), expected.to_bits());
        let base = trainer.base_states(case.batch(), &[0, 4]).unwrap();
        assert_ne!(base[..], states[..base.len()]);
    }
}

#[test]
fn a_step_goes_down() {
    let case = EncoderCase::new("roberta", "gelu");
    let mut trainer = case.trainer(case.parameters.clone(), 0.0).unwrap();
    let gradient = &case.gradient;
    let goal = Goal::States { gradient };
    let before = trainer.accumulate(case.batch(), goal, 0, 0).unwrap();
    trainer.step(AdamW::default(), 1e-3).unwrap();
    assert!(trainer.measure(case.batch(), goal).unwrap().0 < before);
}

#[test]
fn what_an_encoder_cannot_do_is_refused() {
    let case = EncoderCase::new("bert", "gelu");
    let mut trainer = case.trainer(case.parameters.clone(), 0.0).unwrap();
    let (labels, weights) = (vec![1; case.ids.len()], vec![1.0; case.ids.len()]);
    let labels = Goal::Labels {
        labels: &labels,
        weights: &weights,
    };
    let fault = trainer.measure(case.batch(), labels).unwrap_err();
    assert!(fault.to_string().contains("writes no tokens"), "{fault}");
    let goal = Goal::States {
        gradient: &[0.0; 3],
    };
    let fault = trainer.measure(case.batch(), goal).unwrap_err();
    assert!(
        fault.to_string().contains("expected gradients of"),
        "{fault}"
    );
    let norm = Parameter::new("embeddings.LayerNorm.weight", vec![24], vec![1.0; 24]);
    let fault = case.trainer(vec![norm], 0.0).unwrap_err();
    assert!(
        fault.to_string().contains("embeddings.LayerNorm"),
        "{fault}"
    );
    let fault = EncoderCase::new("bert", "silu");
    let fault = fault.trainer(Vec::new(), 0.0).unwrap_err();
    assert!(fault.to_string().contains("silu"), "{fault}");
}
