//! The head of a decoder and what its logits are to be.

use kernels::{Onto, SharedOut, ThreadPool};

use crate::buffers::fit;
use crate::embedding::Rows;
use crate::frozen::Frozen;
use crate::parameters::Parameter;
use crate::products::{Precision, Rows as Multiplied, Way};

/// Rows whose logits are held at once: 25 MB for a vocabulary of 49,152, and as much for those of the base.
const ROWS: usize = 128;
/// Outputs whose weights are read at once.
const OUTPUTS: usize = 2048;

/// The head: logits of final states, `[rows, hidden]`.
pub(crate) struct Head<'a> {
    pub(crate) pool: &'a ThreadPool,
    pub(crate) precision: Precision,
    pub(crate) weights: &'a Frozen,
    /// Rows of the table that are trained, where it is the head.
    pub(crate) own: Option<&'a Rows>,
    pub(crate) buffers: &'a mut HeadBuffers,
}

#[derive(Debug, Default)]
pub(crate) struct HeadBuffers {
    weights: Vec<f32>,
    logits: Vec<f32>,
    targets: Vec<f32>,
}

/// What the logits of each row are to be.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// The likeliest token.
    Labels(&'a [u32]),
    /// What the base makes of these states, `[rows, hidden]`.
    States(&'a [f32]),
}

/// What was found of some rows.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Found {
    /// Weighted sum of the losses.
    pub(crate) loss: f64,
    /// Rows whose likeliest token is the wanted one.
    pub(crate) right: u64,
}

impl Head<'_> {
    /// The losses of states by weights; their gradient goes to `gradient`, and of trained rows to theirs.
    ///
    /// The loss of a label is its cross-entropy, that of states the divergence `KL(base ‖ ours)`.
    pub(crate) fn loss(
        &mut self,
        parameters: &mut [Parameter],
        states: &[f32],
        wanted: Wanted<'_>,
        weights: &[f32],
        mut gradient: Option<&mut [f32]>,
    ) -> Found {
        let width = self.weights.inputs();
        let mut found = Found::default();
        for start in (0..weights.len()).step_by(ROWS) {
            let rows = start..(start + ROWS).min(weights.len());
            let states = &states[rows.start * width..rows.end * width];
            let wanted = match wanted {
                Wanted::Labels(labels) => Wanted::Labels(&labels[rows.clone()]),
                Wanted::States(states) => {
                    Wanted::States(&states[rows.start * width..rows.end * width])
                }
            };
            let part = gradient.as_deref_mut();
            let part = part.map(|all| &mut all[rows.start * width..rows.end * width]);
            let own = self.part(parameters, states, wanted, &weights[rows], part);
            found.loss += own.loss;
            found.right += own.right;
        }
        found
    }

    fn part(
        &mut self,
        parameters: &mut [Parameter],
        states: &[f32],
        wanted: Wanted<'_>,
        weights: &[f32],
        gradient: Option<&mut [f32]>,
    ) -> Found {
        let (vocab, rows) = (self.weights.outputs(), weights.len());
        let HeadBuffers {
            weights: spare,
            logits,
            targets,
        } = self.buffers;
        let layout = Blocks { vocab, rows };
        let logits = fit(logits, rows * vocab);
        let mut score = |states: &[f32], out: &mut [f32]| {
            layout.logits(self.pool, self.precision, self.weights, spare, states, out);
        };
        score(states, logits);
        if let Some(own) = self.own {
            let width = self.weights.inputs();
            let numbers = parameters[own.parameter].values.chunks_exact(width);
            for (&id, numbers) in own.ids.iter().zip(numbers) {
                for (row, state) in states.chunks_exact(width).enumerate() {
                    logits[layout.at(row, id as usize)] = kernels::dot_f32(state, numbers);
                }
            }
        }
        if let Wanted::States(states) = wanted {
            let targets = fit(targets, rows * vocab);
            score(states, targets);
        }
        let found = layout.losses(self.pool, logits, &targets[..], wanted, weights);
        if let Some(gradient) = gradient {
            self.backward(parameters, layout, states, gradient);
        }
        found
    }

    /// From the gradients of the logits, which stand in their place, to those of the states.
    fn backward(
        &mut self,
        parameters: &mut [Parameter],
        layout: Blocks,
        states: &[f32],
        gradient: &mut [f32],
    ) {
        let width = self.weights.inputs();
        let HeadBuffers {
            weights: spare,
            logits,
            ..
        } = &mut *self.buffers;
        if let Some(own) = self.own {
            let Parameter {
                values,
                gradient: of_rows,
                ..
            } = &mut parameters[own.parameter];
            let numbers = values
                .chunks_exact(width)
                .zip(of_rows.chunks_exact_mut(width));
            for (&id, (numbers, of_numbers)) in own.ids.iter().zip(numbers) {
                let pairs = states
                    .chunks_exact(width)
                    .zip(gradient.chunks_exact_mut(width));
                for (row, (state, gradient)) in pairs.enumerate() {
                    // What the table itself has there counts no more.
                    let change = std::mem::take(&mut logits[layout.at(row, id as usize)]);
                    kernels::axpy(change, state, of_numbers);
                    kernels::axpy(change, numbers, gradient);
                }
            }
        }
        for (start, outputs) in layout.blocks() {
            let block = (start, outputs);
            let weights = self.weights.rows_operand(self.precision, block, spare);
            let part = &logits[start * layout.rows..][..layout.rows * outputs];
            let mut part = Multiplied::new(self.pool, self.precision, part, outputs, 0);
            let (way, onto) = (Way::Back, Onto::Out);
            part.multiply(self.pool, way, weights, None, width, onto, gradient);
        }
    }
}

/// Logits of some rows, in blocks of outputs: `[rows, outputs]` one behind the other.
#[derive(Clone, Copy)]
struct Blocks {
    vocab: usize,
    rows: usize,
}

impl Blocks {
    /// First output and number of outputs of each.
    fn blocks(self) -> impl Iterator<Item = (usize, usize)> {
        let starts = (0..self.vocab).step_by(OUTPUTS);
        starts.map(move |start| (start, (self.vocab - start).min(OUTPUTS)))
    }

    fn at(self, row: usize, output: usize) -> usize {
        let start = output / OUTPUTS * OUTPUTS;
        start * self.rows + row * (self.vocab - start).min(OUTPUTS) + output - start
    }

    fn logits(
        self,
        pool: &ThreadPool,
        precision: Precision,
        weights: &Frozen,
        spare: &mut Vec<f32>,
        states: &[f32],
        logits: &mut [f32],
    ) {
        let mut states = Multiplied::new(pool, precision, states, weights.inputs(), 0);
        for (start, outputs) in self.blocks() {
            let read = weights.rows_operand(precision, (start, outputs), spare);
            let out = &mut logits[start * self.rows..][..self.rows * outputs];
            let (way, onto) = (Way::Forth, Onto::Nothing);
            states.multiply(pool, way, read, None, outputs, onto, out);
        }
    }

    /// Puts their gradients in the place of logits, and the base's shares in that of its logits.
    fn losses(
        self,
        pool: &ThreadPool,
        logits: &mut [f32],
        targets: &[f32],
        wanted: Wanted<'_>,
        weights: &[f32],
    ) -> Found {
        let mut losses = vec![(0.0_f64, false); self.rows];
        let (logits, each) = (SharedOut::new(logits), SharedOut::new(&mut losses));
        pool.run(self.rows, |row| {
            // SAFETY: a row's cells are this task's alone.
            let parts: Vec<&mut [f32]> = self
                .blocks()
                .map(|(start, outputs)| unsafe {
                    logits.part(start * self.rows + row * outputs, outputs)
                })
                .collect();
            let weight = weights[row];
            let found = match wanted {
                Wanted::Labels(labels) => to_label(parts, labels[row] as usize, weight),
                Wanted::States(_) => {
                    let blocks = self.blocks();
                    let targets = blocks.map(|(start, outputs)| {
                        &targets[start * self.rows + row * outputs..][..outputs]
                    });
                    (to_targets(parts, targets.collect(), weight), false)
                }
            };
            // SAFETY: as above.
            let cell = unsafe { each.part(row, 1) };
            cell[0] = found;
        });
        losses
            .iter()
            .fold(Found::default(), |sum, &(loss, is_right)| Found {
                loss: sum.loss + loss,
                right: sum.right + u64::from(is_right),
            })
    }
}

/// The largest logit, and the logarithm of the sum of all exponentials.
fn normaliser<T: std::ops::Deref<Target = [f32]>>(parts: &[T]) -> (f32, f32) {
    let largest = parts.iter().map(|part| kernels::largest(part));
    let most = largest.fold(f32::NEG_INFINITY, f32::max);
    let sums = parts.iter().map(|part| kernels::sum_exp(part, most));
    let sum: f64 = sums.map(f64::from).sum();
    (most, most + sum.ln() as f32)
}

/// Weighted cross-entropy with a label, and whether it is the likeliest.
fn to_label(mut parts: Vec<&mut [f32]>, label: usize, weight: f32) -> (f64, bool) {
    let (most, all) = normaliser(&parts);
    let logit = parts[label / OUTPUTS][label % OUTPUTS];
    for part in &mut parts {
        kernels::scaled_exp(part, all, weight);
    }
    parts[label / OUTPUTS][label % OUTPUTS] -= weight;
    (f64::from(weight) * f64::from(all - logit), logit >= most)
}

/// Weighted divergence from the base.
fn to_targets(mut parts: Vec<&mut [f32]>, targets: Vec<&[f32]>, weight: f32) -> f64 {
    let (ours, theirs) = (normaliser(&parts).1, normaliser(&targets).1);
    let pairs = parts.iter_mut().zip(targets);
    let sums = pairs
        .map(|(part, targets)| f64::from(kernels::divergence(part, ours, targets, theirs, weight)));
    f64::from(weight) * sums.sum::<f64>()
}
