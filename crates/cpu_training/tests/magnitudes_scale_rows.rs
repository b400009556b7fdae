//! With a magnitude a layer computes `m / ‖W + s · B A‖ ⊙ (W + s · B A) x`, whose gradient takes the norms as they are.
#![allow(clippy::unwrap_used)]

mod common;

use arrow_quant::Tensor;
use common::encoders::EncoderCase;
use common::{Case, FAMILIES, Random, plain};
use cpu_training::{Goal, Parameter, Precision, Trainer};

const MAGNITUDE: &str = ".lora_magnitude_vector";
/// Relative difference that is allowed.
const TOLERANCE: f64 = 1e-3;

fn find<'a>(parameters: &'a [Parameter], name: &str) -> &'a Parameter {
    parameters.iter().find(|one| one.name == name).unwrap()
}

/// `W + s · B A` of a layer, `[outputs, inputs]`, and the norms of its rows.
fn directed(
    tensors: &[Tensor],
    parameters: &[Parameter],
    scaling: f32,
    layer: &str,
) -> (Vec<f32>, Vec<f32>) {
    let weight = tensors
        .iter()
        .find(|one| one.name == format!("{layer}.weight"))
        .unwrap();
    let (_, inputs) = weight.matrix();
    let mut sums = weight.dequantize();
    let [a, b] = ["A", "B"].map(|part| find(parameters, &format!("{layer}.lora_{part}.weight")));
    let rank = a.shape[0];
    for (row, b) in sums
        .chunks_exact_mut(inputs)
        .zip(b.values.chunks_exact(rank))
    {
        for (b, a) in b.iter().zip(a.values.chunks_exact(inputs)) {
            for (sum, a) in row.iter_mut().zip(a) {
                *sum += scaling * b * a;
            }
        }
    }
    let norm = |row: &[f32]| row.iter().map(|n| n * n).sum::<f32>().sqrt();
    let norms = sums.chunks_exact(inputs).map(norm).collect();
    (sums, norms)
}

fn layers(parameters: &[Parameter]) -> Vec<String> {
    let names = parameters
        .iter()
        .filter_map(|one| one.name.strip_suffix(".lora_A.weight"));
    names.map(str::to_owned).collect()
}

/// The parameters with a magnitude for each layer, `size` times as long as its rows and up to half as much again.
fn with_magnitudes(
    tensors: &[Tensor],
    mut parameters: Vec<Parameter>,
    scaling: f32,
    size: f32,
) -> Vec<Parameter> {
    let mut random = Random(3);
    for layer in layers(&parameters) {
        let (_, norms) = directed(tensors, &parameters, scaling, &layer);
        let factors = random.vector(norms.len(), 0.5);
        let values = norms.iter().zip(factors).map(|(n, f)| size * n * (1.0 + f));
        parameters.push(Parameter::new(
            &format!("{layer}{MAGNITUDE}"),
            vec![norms.len()],
            values.collect(),
        ));
    }
    parameters
}

/// The slope of the loss along each gradient is its length, while no scale of a row changes but by its magnitude.
fn assert_slopes(
    name: &str,
    (tensors, scaling): (&[Tensor], f32),
    trainer: &mut Trainer,
    loss: impl Fn(&mut Trainer) -> f64,
) {
    let start = trainer.parameters().to_vec();
    for (index, one) in start.iter().enumerate() {
        let squares: f64 = one.gradient.iter().map(|&g| f64::from(g).powi(2)).sum();
        let length = squares.sqrt();
        assert!(length > 1e-3, "{name}: {} has no gradient", one.name);
        let mut at = |distance: f64| {
            let mut moved = start.clone();
            for (value, &g) in moved[index].values.iter_mut().zip(&one.gradient) {
                *value += (distance * f64::from(g) / length) as f32;
            }
            if let Some((layer, "A.weight" | "B.weight")) = one.name.split_once(".lora_") {
                let (_, before) = directed(tensors, &start, scaling, layer);
                let (_, now) = directed(tensors, &moved, scaling, layer);
                let magnitude = format!("{layer}{MAGNITUDE}");
                let magnitude = moved.iter_mut().find(|one| one.name == magnitude).unwrap();
                for (m, (before, now)) in magnitude.values.iter_mut().zip(before.iter().zip(now)) {
                    *m *= now / before;
                }
            }
            trainer.restore(0, moved).unwrap();
            loss(trainer)
        };
        // Of two distances, so that the third derivative cancels (Richardson).
        let d = 0.02;
        let slope = (8.0 * (at(d) - at(-d)) - (at(2.0 * d) - at(-2.0 * d))) / (12.0 * d);
        assert!(
            (slope - length).abs() <= TOLERANCE * length,
            "{name}: {}: slope {slope}, gradient {length}",
            one.name
        );
    }
}

fn scaled(mut case: Case) -> Case {
    let scaling = case.settings.scaling;
    case.parameters = with_magnitudes(&case.tensors, case.parameters, scaling, 1.0);
    case
}

#[test]
fn gradients_of_decoders_are_slopes() {
    for family in FAMILIES {
        let causal = || Case::causal(family);
        let masked = || Case::masked(family).on_a_card();
        for case in [
            causal(),
            causal().quantised(),
            masked(),
            masked().quantised(),
        ] {
            let case = scaled(case);
            let mut trainer = case.trainer();
            trainer
                .accumulate(case.batch(), case.labels(), 0, 0)
                .unwrap();
            let base = (&case.tensors[..], case.settings.scaling);
            assert_slopes(family, base, &mut trainer, |trainer| {
                trainer.measure(case.batch(), case.labels()).unwrap().0
            });
        }
    }
}

#[test]
fn gradients_of_encoders_are_slopes() {
    let case = EncoderCase::new("bert", "gelu");
    let parameters = with_magnitudes(&case.tensors, case.parameters.clone(), 1.3, 1.0);
    let mut trainer = case.trainer(parameters, 0.0).unwrap();
    let goal = Goal::States {
        gradient: &case.gradient,
    };
    trainer.accumulate(case.batch(), goal, 0, 0).unwrap();
    assert_slopes("bert", (&case.tensors, 1.3), &mut trainer, |trainer| {
        trainer.measure(case.batch(), goal).unwrap().0
    });
}

#[test]
fn it_is_as_weights_whose_rows_were_scaled() {
    for case in [
        Case::causal(FAMILIES[0]),
        Case::causal(FAMILIES[1]),
        Case::masked(FAMILIES[2]).on_a_card(),
    ] {
        let case = scaled(case);
        let loss = |case: &Case| {
            let mut trainer = case.trainer();
            trainer.measure(case.batch(), case.labels()).unwrap().0
        };
        let mut merged = case.clone();
        for layer in layers(&case.parameters) {
            let (sums, norms) = directed(
                &case.tensors,
                &case.parameters,
                case.settings.scaling,
                &layer,
            );
            let magnitude = find(&case.parameters, &format!("{layer}{MAGNITUDE}"));
            let name = format!("{layer}.weight");
            let weight = merged.tensors.iter_mut().find(|one| one.name == name);
            let weight = weight.unwrap();
            let rows = sums.chunks_exact(weight.matrix().1);
            let scales = magnitude.values.iter().zip(norms);
            let values: Vec<f32> = rows
                .zip(scales)
                .flat_map(|(row, (m, norm))| row.iter().map(move |n| n * m / norm))
                .collect();
            *weight = plain(&name, weight.shape.clone(), &values);
        }
        merged.parameters.retain(|one| !one.name.contains(".lora_"));
        let (own, expected) = (loss(&case), loss(&merged));
        assert!(
            (own - expected).abs() < 1e-5 * expected,
            "{own}, {expected}"
        );
    }
}

#[test]
fn magnitudes_that_are_the_norms_of_the_base_change_nothing() {
    let mut case = Case::causal(FAMILIES[1]);
    case.parameters.retain(|one| one.name.contains(".lora_"));
    for one in &mut case.parameters {
        if one.name.ends_with("B.weight") {
            one.values.fill(0.0);
        }
    }
    let rows: Vec<usize> = (0..case.ids.len()).collect();
    for precision in [Precision::Single, Precision::BrainFloat] {
        case.settings.precision = precision;
        let mut scaled = case.clone();
        for layer in layers(&case.parameters) {
            let (_, norms) = directed(&case.tensors, &case.parameters, 1.0, &layer);
            let name = format!("{layer}{MAGNITUDE}");
            scaled
                .parameters
                .push(Parameter::new(&name, vec![norms.len()], norms));
        }
        let states = scaled.trainer().states(case.batch(), 0, 0).unwrap();
        let base = scaled.trainer().base_states(case.batch(), &rows).unwrap();
        for (one, other) in states.iter().zip(&base) {
            assert!((one - other).abs() < 1e-4, "{one}, {other}");
        }
    }
}

#[test]
fn what_is_no_magnitude_of_the_layer_is_refused() {
    let case = scaled(Case::causal(FAMILIES[0]));
    let fault = |change: &dyn Fn(&mut Vec<Parameter>)| {
        let mut case = case.clone();
        change(&mut case.parameters);
        case.try_trainer().unwrap_err().to_string()
    };
    let found = fault(&|parameters| {
        let last = parameters.last_mut().unwrap();
        *last = Parameter::new(&last.name, vec![3], vec![1.0; 3]);
    });
    assert!(
        found.contains("expected a magnitude of [32], got [3]"),
        "{found}"
    );
    let found = fault(&|parameters| {
        let layer = parameters.last().unwrap().name.replace(MAGNITUDE, ".lora_");
        parameters.retain(|one| !one.name.starts_with(&layer) || one.name.ends_with(MAGNITUDE));
    });
    assert!(found.contains("none with a magnitude"), "{found}");
}
