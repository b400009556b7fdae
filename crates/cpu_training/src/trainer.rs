//! Gradients that are added up, and steps.

use std::fmt;

use cpu_inference::ModelConfig;
use kernels::ThreadPool;

use crate::batch::Batch;
use crate::body::Body;
use crate::buffers::{Buffer, Spare};
use crate::dropout::Dropout;
use crate::error::{Result, TrainingError};
use crate::frozen::Base;
use crate::head::{Found, Head, HeadBuffers, Wanted};
use crate::linear::{Context, Scratch};
use crate::parameters::{AdamW, Parameter};
use crate::products::Precision;

/// How what is trained is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Factor of every product of two factors.
    pub scaling: f32,
    /// Tokens whose rows of the embedding are trained, if any are.
    pub row_ids: Vec<u32>,
    /// Part of the inputs of factors that is left out, at least 0 and below 1.
    pub dropout: f32,
    /// Of the products with the base's weights and with factors.
    pub precision: Precision,
}

/// What positions are to write, and how much each counts; positions that count 0 are not looked at.
#[derive(Debug, Clone, Copy)]
pub enum Goal<'a> {
    /// These tokens.
    Labels {
        /// `[positions]`.
        labels: &'a [u32],
        /// `[positions]`.
        weights: &'a [f32],
    },
    /// What the base writes there: an anchor.
    Base {
        /// Final states of the base, `[positions that count, hidden]`, as [`Trainer::base_states`] gives them.
        states: &'a [f32],
        /// `[positions]`.
        weights: &'a [f32],
    },
    /// What lowers a loss that is computed elsewhere, as of vectors that are made of final states.
    States {
        /// What that loss changes by with the final states, `[positions, hidden]`.
        gradient: &'a [f32],
    },
}

/// A card in the making, on a base that stays as it is.
pub struct Trainer {
    body: Body,
    parameters: Vec<Parameter>,
    settings: Settings,
    steps: u64,
    pool: ThreadPool,
    vocab: usize,
    window: usize,
    spare: Spare,
    scratch: Scratch,
    head_buffers: HeadBuffers,
}

impl fmt::Debug for Trainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trainer")
            .field("parameters", &self.parameters.len())
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// Prepares to train `parameters`, named as a card's tensors.
    ///
    /// # Errors
    /// Every error of [`TrainingError`] but those of a batch.
    pub fn new(
        config: &ModelConfig,
        base: Base<'_>,
        parameters: Vec<Parameter>,
        settings: Settings,
        threads: usize,
    ) -> Result<Self> {
        if !(0.0..1.0).contains(&settings.dropout) {
            return Err(TrainingError::Setting {
                name: "dropout",
                got: settings.dropout.to_string(),
                expected: "at least 0 and below 1",
            });
        }
        for one in &parameters {
            let numbers: usize = one.shape.iter().product();
            let lens = [&one.values, &one.gradient, &one.moments[0], &one.moments[1]];
            if lens.iter().any(|part| part.len() != numbers) {
                return Err(TrainingError::Parameter {
                    name: one.name.clone(),
                    detail: format!("expected {numbers} numbers for {:?}", one.shape),
                });
            }
        }
        let body = Body::load(config, base, &parameters, settings.row_ids.clone())?;
        Ok(Self {
            body,
            parameters,
            settings,
            steps: 0,
            pool: ThreadPool::new(threads),
            vocab: config.vocab_size,
            window: config.max_position_embeddings,
            spare: Spare::default(),
            scratch: Scratch::default(),
            head_buffers: HeadBuffers::default(),
        })
    }

    /// Adds up gradients of the weighted losses of a batch; returns their sum.
    ///
    /// # Arguments
    /// `first_row` is the place of the batch in the step, and `seed` that of the step: what dropout leaves out
    /// follows from them.
    ///
    /// # Errors
    /// [`TrainingError::Batch`].
    pub fn accumulate(
        &mut self,
        batch: Batch<'_>,
        goal: Goal<'_>,
        first_row: usize,
        seed: u64,
    ) -> Result<f64> {
        let rate = self.settings.dropout;
        let dropout = (rate > 0.0).then_some(Dropout { rate, seed });
        self.pass(batch, goal, dropout, first_row, true)
            .map(|found| found.loss)
    }

    /// The sum of the weighted losses of a batch, and how many positions would write their label.
    ///
    /// # Errors
    /// [`TrainingError::Batch`].
    pub fn measure(&mut self, batch: Batch<'_>, goal: Goal<'_>) -> Result<(f64, u64)> {
        let found = self.pass(batch, goal, None, 0, false)?;
        Ok((found.loss, found.right))
    }

    /// Final states of the base, `[rows, hidden]`, of those positions.
    ///
    /// # Errors
    /// [`TrainingError::Batch`].
    pub fn base_states(&mut self, batch: Batch<'_>, rows: &[usize]) -> Result<Vec<f32>> {
        let states = self.run(batch, None, false)?;
        if let Some(row) = rows.iter().find(|&&row| row >= batch.len()) {
            let detail = format!("position {row} of {}", batch.len());
            return Err(TrainingError::Batch { detail });
        }
        Ok(rows_of(&states, batch.len(), rows.iter().copied()))
    }

    /// Final states with what is trained, `[positions, hidden]`, as [`accumulate`](Self::accumulate) has them
    /// of the same seed.
    ///
    /// # Errors
    /// [`TrainingError::Batch`].
    pub fn states(&mut self, batch: Batch<'_>, first_row: usize, seed: u64) -> Result<Vec<f32>> {
        let rate = self.settings.dropout;
        let dropout = (rate > 0.0).then_some(Dropout { rate, seed });
        let dropout = dropout.map(|dropout| (dropout, first_row));
        Ok(self.run(batch, dropout, true)?.to_vec())
    }

    fn run(
        &mut self,
        batch: Batch<'_>,
        dropout: Option<(Dropout, usize)>,
        has_factors: bool,
    ) -> Result<Buffer> {
        let checked = batch.checked(self.vocab, self.window)?;
        let mut context = Context {
            pool: &self.pool,
            scaling: self.settings.scaling,
            precision: self.settings.precision,
            dropout: dropout.map(|(dropout, _)| dropout),
            has_factors,
            first_row: dropout.map_or(0, |(_, row)| row),
            spare: self.spare.clone(),
            scratch: std::mem::take(&mut self.scratch),
        };
        let (states, _) = self
            .body
            .forward(&mut context, &self.parameters, &checked, false);
        self.scratch = context.scratch;
        Ok(states)
    }

    fn pass(
        &mut self,
        batch: Batch<'_>,
        goal: Goal<'_>,
        dropout: Option<Dropout>,
        first_row: usize,
        is_trained: bool,
    ) -> Result<Found> {
        let checked = batch.checked(self.vocab, self.window)?;
        let width = self.body.width();
        let counted = counted(batch, goal, self.vocab, width)?;
        match goal {
            Goal::States { gradient } if gradient.len() != batch.len() * width => {
                let detail = format!("expected gradients of {} positions of {width}", batch.len());
                return Err(TrainingError::Batch { detail });
            }
            Goal::States { .. } => {}
            _ if counted.rows.is_empty() => return Ok(Found::default()),
            _ => {
                self.body.head()?;
            }
        }
        let mut context = Context {
            pool: &self.pool,
            scaling: self.settings.scaling,
            precision: self.settings.precision,
            dropout,
            has_factors: true,
            first_row,
            spare: self.spare.clone(),
            scratch: std::mem::take(&mut self.scratch),
        };
        let (states, tape) =
            self.body
                .forward(&mut context, &self.parameters, &checked, is_trained);
        let mut of_states = self.spare.zeros(if is_trained { states.len() } else { 0 });
        let found = match goal {
            Goal::States { gradient } => {
                if is_trained {
                    of_states.copy_from_slice(gradient);
                }
                let pairs = states.iter().zip(gradient);
                let loss = pairs.map(|(&x, &g)| f64::from(x) * f64::from(g)).sum();
                Found { loss, right: 0 }
            }
            Goal::Labels { .. } | Goal::Base { .. } => {
                let chosen = rows_of(&states, batch.len(), counted.rows.iter().copied());
                let mut of_chosen = vec![0.0; if is_trained { chosen.len() } else { 0 }];
                let (weights, own) = self.body.head()?;
                let mut head = Head {
                    pool: &self.pool,
                    precision: self.settings.precision,
                    weights,
                    own,
                    buffers: &mut self.head_buffers,
                };
                let wanted = match goal {
                    Goal::Base { states, .. } => Wanted::States(states),
                    _ => Wanted::Labels(&counted.labels),
                };
                let gradient = is_trained.then_some(&mut of_chosen[..]);
                let weights = &counted.weights;
                let found = head.loss(&mut self.parameters, &chosen, wanted, weights, gradient);
                for (&row, gradient) in counted.rows.iter().zip(of_chosen.chunks_exact(width)) {
                    of_states[row * width..][..width].copy_from_slice(gradient);
                }
                found
            }
        };
        if is_trained {
            self.body.backward(
                &mut context,
                &mut self.parameters,
                &checked,
                tape,
                &of_states,
            );
        }
        self.scratch = context.scratch;
        Ok(found)
    }

    /// Takes a step and clears the gradients; returns how long they were together.
    ///
    /// # Errors
    /// [`TrainingError::Diverged`]; no parameter is changed then.
    pub fn step(&mut self, optimizer: AdamW, rate: f32) -> Result<f32> {
        let length = optimizer.step(&mut self.parameters, self.steps + 1, rate)?;
        self.steps += 1;
        Ok(length)
    }

    /// Steps that were taken.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// What is trained.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Goes on from a state.
    ///
    /// # Errors
    /// [`TrainingError::Parameter`] if they are not those of this trainer.
    pub fn restore(&mut self, steps: u64, parameters: Vec<Parameter>) -> Result<()> {
        for (own, given) in self.parameters.iter().zip(&parameters) {
            let lens = [
                given.values.len(),
                given.moments[0].len(),
                given.moments[1].len(),
            ];
            if own.name != given.name || lens != [own.values.len(); 3] {
                return Err(TrainingError::Parameter {
                    name: given.name.clone(),
                    detail: format!("expected {:?} of {:?}", own.name, own.shape),
                });
            }
        }
        if parameters.len() != self.parameters.len() {
            let (want, got) = (self.parameters.len(), parameters.len());
            return Err(TrainingError::Parameter {
                name: "state".to_owned(),
                detail: format!("expected {want} parameters, got {got}"),
            });
        }
        self.parameters = parameters;
        self.steps = steps;
        Ok(())
    }
}

/// Positions that count.
#[derive(Default)]
struct Counted {
    rows: Vec<usize>,
    labels: Vec<u32>,
    weights: Vec<f32>,
}

fn counted(batch: Batch<'_>, goal: Goal<'_>, vocab: usize, width: usize) -> Result<Counted> {
    let fault = |detail| Err(TrainingError::Batch { detail });
    let (Goal::Labels { weights, .. } | Goal::Base { weights, .. }) = goal else {
        return Ok(Counted::default());
    };
    if weights.len() != batch.len() {
        return fault(format!(
            "expected {} weights, got {}",
            batch.len(),
            weights.len()
        ));
    }
    if let Some(weight) = weights
        .iter()
        .find(|weight| !(weight.is_finite() && **weight >= 0.0))
    {
        return fault(format!("a position counts {weight}, expected at least 0"));
    }
    let rows: Vec<usize> = (0..weights.len())
        .filter(|&row| weights[row] > 0.0)
        .collect();
    let weights = rows.iter().map(|&row| weights[row]).collect();
    let labels = match goal {
        Goal::Base { states, .. } if states.len() != rows.len() * width => {
            return fault(format!("expected states of {} positions", rows.len()));
        }
        Goal::Base { .. } | Goal::States { .. } => Vec::new(),
        Goal::Labels { labels, .. } if labels.len() != batch.len() => {
            return fault(format!(
                "expected {} labels, got {}",
                batch.len(),
                labels.len()
            ));
        }
        Goal::Labels { labels, .. } => rows.iter().map(|&row| labels[row]).collect(),
    };
    if let Some(label) = labels.iter().find(|&&label| label as usize >= vocab) {
        return fault(format!("label {label} of a vocabulary of {vocab}"));
    }
    Ok(Counted {
        rows,
        labels,
        weights,
    })
}

/// Some rows of `[len, width]`.
fn rows_of(x: &[f32], len: usize, rows: impl Iterator<Item = usize>) -> Vec<f32> {
    let width = x.len() / len.max(1);
    rows.flat_map(|row| &x[row * width..(row + 1) * width])
        .copied()
        .collect()
}
