//! A linear layer of the base with low-rank factors: `y = W x + b + scaling · B (A x)`; and with a magnitude `m`,
//! `y = m / ‖W + scaling · B A‖ ⊙ (W x + scaling · B (A x)) + b`, a norm for each output.
//!
//! Sources: `LoRA`, arXiv:2106.09685; `DoRA`, arXiv:2402.09353, whose norm is a constant to the gradient (section 4.3).

use kernels::{Onto, ThreadPool};

use crate::buffers::{Buffer, Spare, fit, for_each_row};
use crate::dropout::Dropout;
use crate::frozen::{Frozen, Reading, Weights};
use crate::magnitude::{self, Scaled};
use crate::parameters::Parameter;
use crate::products::{Beside, Precision, Rows, Way};

/// A linear layer.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) frozen: Frozen,
    /// Among all linear layers.
    pub(crate) index: usize,
    pub(crate) factors: Option<Factors>,
}

/// Where among the parameters the factors of a layer are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factors {
    /// `[rank, inputs]`.
    pub(crate) a: usize,
    /// `[outputs, rank]`.
    pub(crate) b: usize,
    /// `[outputs]`.
    pub(crate) magnitude: Option<usize>,
    pub(crate) rank: usize,
}

/// What the way back through a layer needs of the way forth.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// `scaling · A x`, `[rows, rank]`, of a layer with factors.
    low: Option<Buffer>,
    /// Of a layer with a magnitude.
    scaled: Option<Scaled>,
}

/// What products need beside their operands.
pub(crate) struct Context<'a> {
    pub(crate) pool: &'a ThreadPool,
    pub(crate) scaling: f32,
    pub(crate) precision: Precision,
    /// `None`: nothing is left out.
    pub(crate) dropout: Option<Dropout>,
    /// Whether the factors count.
    pub(crate) has_factors: bool,
    /// The first position of the batch, among those of the step.
    pub(crate) first_row: usize,
    pub(crate) spare: Spare,
    pub(crate) scratch: Scratch,
}

/// Buffers of products, kept from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    weights: Reading,
    turned: Vec<f32>,
    sums: Vec<f32>,
}

impl Context<'_> {
    /// Rows `[rows, width]` for products with some layers.
    pub(crate) fn rows<'a>(&self, values: &'a [f32], layers: &[Linear]) -> Rows<'a> {
        let width = layers.first().map_or(1, |layer| layer.frozen.inputs());
        let rank = layers.iter().map(Linear::rank).max().unwrap_or(0);
        Rows::new(self.pool, self.precision, values, width, rank)
    }
}

impl Linear {
    fn rank(&self) -> usize {
        self.factors.map_or(0, |factors| factors.rank)
    }

    /// Writes `[rows, outputs]` to `y`; returns what the way back needs.
    pub(crate) fn forward(
        &self,
        context: &mut Context<'_>,
        parameters: &[Parameter],
        x: &mut Rows<'_>,
        y: &mut [f32],
    ) -> Kept {
        let onto: Onto<'_> = self.frozen.bias.as_deref().into();
        self.through(context, parameters, x, onto, y)
    }

    /// As [`forward`](Self::forward), added to what `y` holds.
    pub(crate) fn forward_onto(
        &self,
        context: &mut Context<'_>,
        parameters: &[Parameter],
        x: &mut Rows<'_>,
        y: &mut [f32],
    ) -> Kept {
        if let Some(bias) = &self.frozen.bias {
            for_each_row(context.pool, x.count(), [&mut *y], |_, [y]| {
                kernels::add(bias, y);
            });
        }
        self.through(context, parameters, x, Onto::Out, y)
    }

    fn through(
        &self,
        context: &mut Context<'_>,
        parameters: &[Parameter],
        x: &mut Rows<'_>,
        onto: Onto<'_>,
        y: &mut [f32],
    ) -> Kept {
        let (pool, precision, outputs) = (context.pool, context.precision, self.frozen.outputs());
        let Some(factors) = self.factors.filter(|_| context.has_factors) else {
            let weights = &mut context.scratch.weights;
            let weights = self.frozen.operand(pool, precision, weights);
            x.multiply(pool, Way::Forth, weights, None, outputs, onto, y);
            return Kept::default();
        };
        let low = self.low(context, parameters, factors, x);
        let beside = Beside {
            low: &low,
            factor: &parameters[factors.b].values,
            rank: factors.rank,
        };
        let Some(magnitude) = factors.magnitude else {
            let weights = &mut context.scratch.weights;
            let weights = self.frozen.operand(pool, precision, weights);
            x.multiply(pool, Way::Forth, weights, Some(beside), outputs, onto, y);
            let low = Some(low);
            return Kept { low, scaled: None };
        };
        let Scratch { weights, sums, .. } = &mut context.scratch;
        let weights = self.frozen.read_alone(weights);
        let mut own = context.spare.take(y.len());
        let (plain, nothing) = (Weights::Plain(weights), Onto::Nothing);
        x.multiply(
            pool,
            Way::Forth,
            plain,
            Some(beside),
            outputs,
            nothing,
            &mut own,
        );
        let parts = [factors.a, factors.b].map(|at| &parameters[at]);
        let norms = magnitude::norms(pool, weights, parts, context.scaling, sums);
        let unscaled = context.spare.copy(&own);
        let scaled = Scaled::new(pool, &parameters[magnitude], norms, unscaled, &mut own);
        let buffers = &mut context.scratch.weights;
        if let Some(beneath) = self.frozen.read_beneath(pool, precision, buffers) {
            let beneath = Weights::Plain(beneath);
            x.multiply(
                pool,
                Way::Forth,
                beneath,
                None,
                outputs,
                Onto::Out,
                &mut own,
            );
        }
        let own = &own;
        for_each_row(pool, x.count(), [y], |row, [y]| {
            let own = &own[row * outputs..][..outputs];
            match onto {
                Onto::Out => kernels::add(own, y),
                Onto::Nothing => y.copy_from_slice(own),
                Onto::Bias(bias) => {
                    y.copy_from_slice(own);
                    kernels::add(bias, y);
                }
            }
        });
        let (low, scaled) = (Some(low), Some(scaled));
        Kept { low, scaled }
    }

    /// `scaling · A x`, `[rows, rank]`.
    fn low(
        &self,
        context: &Context<'_>,
        parameters: &[Parameter],
        Factors { a, rank, .. }: Factors,
        x: &mut Rows<'_>,
    ) -> Buffer {
        let pool = context.pool;
        let mut low = context.spare.take(x.count() * rank);
        let a = Weights::Plain(&parameters[a].values);
        let nothing = Onto::Nothing;
        if let Some(kept) = self.kept_inputs(context, x.values()) {
            let mut kept = Rows::new(pool, context.precision, &kept, self.frozen.inputs(), 0);
            kept.multiply(pool, Way::Forth, a, None, rank, nothing, &mut low);
        } else {
            x.multiply(pool, Way::Forth, a, None, rank, nothing, &mut low);
        }
        kernels::scale(context.scaling, &mut low);
        low
    }

    /// Writes what the loss changes by with the inputs, onto what there is, to `dx`; adds to the factors' gradients.
    ///
    /// `x` are the inputs, `kept` is what [`forward`](Self::forward) returned, `dy` is `[rows, outputs]`.
    pub(crate) fn backward(
        &self,
        context: &mut Context<'_>,
        parameters: &mut [Parameter],
        (x, kept): (&[f32], &Kept),
        dy: &[f32],
        mut onto: Onto<'_>,
        dx: &mut [f32],
    ) {
        let (inputs, outputs) = (self.frozen.inputs(), self.frozen.outputs());
        let (pool, precision, rank) = (context.pool, context.precision, self.rank());
        let magnitude = self.factors.and_then(|factors| factors.magnitude);
        let mut scaled = None;
        if let Some((kept, magnitude)) = kept.scaled.as_ref().zip(magnitude) {
            let buffers = &mut context.scratch.weights;
            if let Some(beneath) = self.frozen.read_beneath(pool, precision, buffers) {
                let beneath = Weights::Plain(beneath);
                let mut dy = Rows::new(pool, precision, dy, outputs, 0);
                dy.multiply(pool, Way::Back, beneath, None, inputs, onto, dx);
                onto = Onto::Out;
            }
            let mut own = context.spare.copy(dy);
            kept.backward(pool, &mut parameters[magnitude], dy, &mut own);
            scaled = Some(own);
        }
        let dy = scaled.as_deref().unwrap_or(dy);
        let mut dy_rows = Rows::new(pool, precision, dy, outputs, rank);
        let mut of_low = context.spare.take(dy_rows.count() * rank);
        let beside = self.factors.zip(kept.low.as_ref()).map(|(factors, low)| {
            let b = Weights::Plain(&parameters[factors.b].values);
            let nothing = Onto::Nothing;
            dy_rows.multiply(pool, Way::Back, b, None, rank, nothing, &mut of_low);
            kernels::scale(context.scaling, &mut of_low);
            let kept = self.kept_inputs(context, x);
            let x = kept.as_deref().unwrap_or(x);
            factors.add_gradients(
                pool,
                parameters,
                &mut context.scratch,
                [low, &of_low],
                (x, dy),
            );
            Beside {
                low: &of_low,
                factor: &parameters[factors.a].values,
                rank,
            }
        });
        let weights = &mut context.scratch.weights;
        let weights = if scaled.is_some() {
            Weights::Plain(self.frozen.read_alone(weights))
        } else {
            self.frozen.operand(pool, precision, weights)
        };
        let Some((dropout, beside)) = context.dropout.zip(beside) else {
            dy_rows.multiply(pool, Way::Back, weights, beside, inputs, onto, dx);
            return;
        };
        dy_rows.multiply(pool, Way::Back, weights, None, inputs, onto, dx);
        let mut through = context.spare.take(dx.len());
        let (factor, nothing) = (Weights::Plain(beside.factor), Onto::Nothing);
        let mut low = Rows::new(pool, precision, beside.low, rank, 0);
        low.multiply(pool, Way::Back, factor, None, inputs, nothing, &mut through);
        let (first, index) = (context.first_row, self.index);
        let rows = low.count();
        for_each_row(pool, rows, [&mut through, dx], |row, [through, dx]| {
            dropout.apply(index, first + row, through);
            kernels::add(through, dx);
        });
    }

    /// The inputs of the factors, where some are left out.
    fn kept_inputs(&self, context: &Context<'_>, x: &[f32]) -> Option<Buffer> {
        let dropout = context.dropout?;
        let mut kept = context.spare.copy(x);
        let rows = x.len() / self.frozen.inputs();
        for_each_row(context.pool, rows, [&mut kept], |row, [values]| {
            dropout.apply(self.index, context.first_row + row, values);
        });
        Some(kept)
    }
}

impl Factors {
    /// Adds to the gradients of both: of `B` for `low`, `[rows, rank]`, and the gradient of the outputs, of `A` for the
    /// gradient of `low` and the inputs.
    fn add_gradients(
        self,
        pool: &ThreadPool,
        parameters: &mut [Parameter],
        Scratch { turned, sums, .. }: &mut Scratch,
        [low, of_low]: [&[f32]; 2],
        (x, dy): (&[f32], &[f32]),
    ) {
        let Self { a, b, rank, .. } = self;
        let rows = low.len() / rank;
        let (inputs, outputs) = (x.len() / rows, dy.len() / rows);
        let (len, nothing) = (rank * rows, Onto::Nothing);
        // dB, turned: as few rows as the rank is are quicker than as many as there are outputs.
        let turned = fit(turned, len);
        kernels::transpose(low, rows, rank, turned);
        let of_b = fit(sums, rank * outputs);
        kernels::gemm_back(pool, turned, rank, rows, dy, outputs, nothing, of_b);
        for (output, gradient) in parameters[b].gradient.chunks_exact_mut(rank).enumerate() {
            for (r, gradient) in gradient.iter_mut().enumerate() {
                *gradient += of_b[r * outputs + output];
            }
        }
        kernels::transpose(of_low, rows, rank, turned);
        let of_a = &mut parameters[a].gradient;
        kernels::gemm_back(pool, turned, rank, rows, x, inputs, Onto::Out, of_a);
    }
}
