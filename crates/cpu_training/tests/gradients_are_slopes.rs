//! A gradient is how fast the loss changes: measured by steps to either side, for every parameter of every family.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Case, FAMILIES};
use cpu_training::{AdamW, Goal, Precision};

/// Relative difference that is allowed.
const TOLERANCE: f64 = 1e-3;

/// The slope of the loss along a parameter's gradient is the length of the gradient.
fn assert_slopes(case: &Case, goal: Goal<'_>) {
    let mut trainer = case.trainer();
    trainer.accumulate(case.batch(), goal, 0, 0).unwrap();
    let gradients: Vec<Vec<f32>> = trainer
        .parameters()
        .iter()
        .map(|one| one.gradient.clone())
        .collect();
    for (index, gradient) in gradients.iter().enumerate() {
        let name = trainer.parameters()[index].name.clone();
        let squares: f64 = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
        let length = squares.sqrt();
        assert!(length > 1e-3, "{}: {name} has no gradient", case.family);
        let mut at = |distance: f64| {
            let mut moved = case.parameters.clone();
            for (value, &g) in moved[index].values.iter_mut().zip(gradient) {
                *value += (distance * f64::from(g) / length) as f32;
            }
            trainer.restore(0, moved).unwrap();
            trainer.measure(case.batch(), goal).unwrap().0
        };
        // Of two distances, so that the third derivative cancels (Richardson).
        let slope = |near: f64, far: f64, d: f64| (8.0 * near - far) / (12.0 * d);
        let d = 0.02;
        let slope = slope(at(d) - at(-d), at(2.0 * d) - at(-2.0 * d), d);
        assert!(
            (slope - length).abs() <= TOLERANCE * length,
            "{}: {name}: slope {slope}, gradient {length}",
            case.family
        );
    }
}

#[test]
fn of_the_next_token() {
    for family in FAMILIES {
        let case = Case::causal(family);
        assert_slopes(&case, case.labels());
    }
}

#[test]
fn of_masked_blocks() {
    for family in FAMILIES {
        let case = Case::masked(family);
        assert_slopes(&case, case.labels());
    }
}

#[test]
fn of_the_anchor() {
    for family in FAMILIES {
        let case = Case::causal(family);
        let rows: Vec<usize> = (0..case.weights.len())
            .filter(|&row| case.weights[row] > 0.0)
            .collect();
        let states = case.trainer().base_states(case.batch(), &rows).unwrap();
        let weights = &case.weights;
        assert_slopes(
            &case,
            Goal::Base {
                states: &states,
                weights,
            },
        );
    }
}

#[test]
fn of_side_blocks() {
    for family in FAMILIES {
        let case = Case::causal(family).with_side_blocks(&[0, 1]);
        assert_slopes(&case, case.labels());
        let alone = case.of_side_blocks_alone().quantised();
        assert_slopes(&alone, alone.labels());
        let last = Case::masked(family).with_side_blocks(&[1]).on_a_card();
        let last = last.of_side_blocks_alone();
        assert_slopes(&last, last.labels());
    }
}

#[test]
fn the_base_is_read_without_side_blocks() {
    let case = Case::causal(FAMILIES[0]).of_side_blocks_alone();
    let states = |case: &Case| {
        let rows: Vec<usize> = (0..case.ids.len()).collect();
        let mut trainer = case.trainer();
        let base = trainer.base_states(case.batch(), &rows).unwrap();
        (base, trainer.states(case.batch(), 0, 0).unwrap())
    };
    let (base, same) = states(&case);
    assert_eq!(base, same);
    let (without, with) = states(&case.with_side_blocks(&[0, 1]));
    assert_eq!(base, without);
    assert_ne!(base, with);
}

#[test]
fn side_blocks_that_do_not_fit_are_refused() {
    let whole = Case::causal(FAMILIES[0]).with_side_blocks(&[1]);
    let fault = |change: &dyn Fn(&mut Case)| {
        let mut case = whole.clone().of_side_blocks_alone();
        change(&mut case);
        case.try_trainer().unwrap_err().to_string()
    };
    let message = fault(&|case| drop(case.parameters.pop()));
    assert!(message.contains("both matrices"), "{message}");
    let message = fault(&|case| case.parameters[1].shape = vec![4, 32]);
    assert!(message.contains("expected a side block of"), "{message}");
    let message = fault(&|case| {
        for one in &mut case.parameters {
            one.name = one.name.replace("layers.1", "layers.2");
        }
    });
    assert!(message.contains("nothing of that name"), "{message}");
    // Beneath another card none is computed.
    let message = fault(&|case| {
        let parts = case.parameters.iter();
        let parts = parts.map(|one| common::plain(&one.name, one.shape.clone(), &one.values));
        case.beneath = parts.collect();
    });
    assert!(message.contains("card beneath"), "{message}");
}

#[test]
fn of_what_stands_on_stored_integers() {
    for family in FAMILIES {
        let case = Case::causal(family).quantised();
        assert_slopes(&case, case.labels());
    }
}

#[test]
fn of_what_stands_on_a_card() {
    for family in FAMILIES {
        let case = Case::masked(family).on_a_card();
        assert_slopes(&case, case.labels());
        let case = Case::masked(family).quantised().on_a_card();
        assert_slopes(&case, case.labels());
    }
}

#[test]
fn a_card_beneath_is_as_one_that_was_added_to_the_base() {
    for family in FAMILIES {
        let case = Case::masked(family).on_a_card();
        let run = |case: &Case| {
            let mut trainer = case.trainer();
            let loss = trainer
                .accumulate(case.batch(), case.labels(), 0, 0)
                .unwrap();
            let rows: Vec<usize> = (0..case.ids.len()).collect();
            let states = trainer.base_states(case.batch(), &rows).unwrap();
            (loss, states)
        };
        let (loss, states) = run(&case);
        let (merged, others) = run(&case.clone().merged());
        let without = Case::masked(family);
        assert!((loss - merged).abs() < 1e-5 * loss, "{loss}, {merged}");
        assert!((loss - run(&without).0).abs() > 1e-3 * loss);
        for (one, other) in states.iter().zip(&others) {
            assert!((one - other).abs() < 1e-4, "{one}, {other}");
        }
    }
}

#[test]
fn a_card_beneath_that_would_be_left_out_is_refused() {
    let mut case = Case::masked(FAMILIES[0]).on_a_card();
    case.beneath
        .push(common::plain("reader.weight", vec![2, 32], &[0.0; 64]));
    let fault = case.try_trainer().unwrap_err().to_string();
    assert!(fault.contains("reader.weight"), "{fault}");
    let mut case = Case::masked(FAMILIES[0]).on_a_card();
    case.beneath
        .retain(|one| !one.name.ends_with("q_proj.lora_B.weight"));
    let fault = case.try_trainer().unwrap_err().to_string();
    assert!(fault.contains("q_proj.lora_B.weight"), "{fault}");
}

#[test]
fn dropout_leaves_out_the_same_on_both_ways() {
    let mut case = Case::causal(FAMILIES[0]);
    case.settings.dropout = 0.3;
    // Without the way through the norm, what dropout leaves out of `A x` is all that differs from step to step.
    let mut trainer = case.trainer();
    let loss = trainer
        .accumulate(case.batch(), case.labels(), 0, 7)
        .unwrap();
    let gradients: Vec<f32> = trainer
        .parameters()
        .iter()
        .flat_map(|one| one.gradient.clone())
        .collect();
    let mut again = case.trainer();
    assert_eq!(
        again
            .accumulate(case.batch(), case.labels(), 0, 7)
            .unwrap()
            .to_bits(),
        loss.to_bits()
    );
    let same: Vec<f32> = again
        .parameters()
        .iter()
        .flat_map(|one| one.gradient.clone())
        .collect();
    assert_eq!(gradients, same);
    let other = case
        .trainer()
        .accumulate(case.batch(), case.labels(), 0, 8)
        .unwrap();
    assert_ne!(other.to_bits(), loss.to_bits());
    // The slope for what is left out by one seed, by steps to either side that leave out the same.
    let squares: f64 = gradients.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
    let length = squares.sqrt();
    let at = |distance: f64| {
        let mut moved = case.parameters.clone();
        let mut rest = gradients.iter();
        for value in moved.iter_mut().flat_map(|one| &mut one.values) {
            *value += (distance * f64::from(*rest.next().unwrap()) / length) as f32;
        }
        let mut trainer = case.trainer();
        trainer.restore(0, moved).unwrap();
        trainer
            .accumulate(case.batch(), case.labels(), 0, 7)
            .unwrap()
    };
    let slope = (at(0.005) - at(-0.005)) / 0.01;
    assert!(
        (slope - length).abs() <= 3e-3 * length,
        "slope {slope}, gradient {length}"
    );
}

#[test]
fn batches_add_up_whatever_the_threads() {
    let case = Case::causal(FAMILIES[1]);
    let run = |threads| {
        let mut trainer = case.trainer_with(threads);
        for row in 0..2 {
            trainer
                .accumulate(case.batch(), case.labels(), row * case.ids.len(), 3)
                .unwrap();
        }
        let length = trainer.step(AdamW::default(), 1e-2).unwrap();
        (length.to_bits(), trainer.parameters().to_vec())
    };
    assert_eq!(run(1), run(4));
}

#[test]
fn brain_floats_come_near_what_single_precision_gives() {
    for family in FAMILIES {
        let mut case = Case::causal(family);
        let run = |case: &Case| {
            let mut trainer = case.trainer();
            let loss = trainer
                .accumulate(case.batch(), case.labels(), 0, 0)
                .unwrap();
            let gradients = trainer.parameters().iter().map(|one| one.gradient.clone());
            (loss, gradients.collect::<Vec<_>>())
        };
        let (loss, gradients) = run(&case);
        case.settings.precision = Precision::BrainFloat;
        let (rounded, others) = run(&case);
        assert!(
            (rounded - loss).abs() < 0.02 * loss,
            "{family}: {rounded} of {loss}"
        );
        assert_ne!(rounded.to_bits(), loss.to_bits());
        for (one, other) in gradients.iter().zip(&others) {
            let pairs = one.iter().zip(other);
            let apart: f32 = pairs.map(|(a, b)| (a - b) * (a - b)).sum();
            let length: f32 = one.iter().map(|a| a * a).sum();
            assert!(
                apart.sqrt() < 0.1 * length.sqrt(),
                "{family}: {apart} of {length}"
            );
        }
    }
}
