//! A linear layer of the base with low-rank factors: `y = W x + b + scaling · B (A x)`; and with a magnitude `m`,
//! `y = m / ‖W + scaling · B A‖ ⊙ (W x + scaling · B (A x)) + b`, a norm for each output.
//!
//! Sources: `LoRA`, arXiv:2106.09685; `DoRA`, arXiv:2402.09353, whose norm is a constant to the gradient (section 4.3).

use kernels::{Bf16Weights, Onto, PlainRows, ThreadPool, gemm_bf16};

use crate::buffers::{fit, for_each_row, transposed};
use crate::dropout::Dropout;
use crate::frozen::{Frozen, Reading};
use crate::magnitude::{self, Scaled};
use crate::parameters::Parameter;

/// How the products with the base's weights are computed. All else is of single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// In single precision.
    Single,
    /// Of operands rounded to brain floats, summed in single precision.
    BrainFloat,
}

impl Precision {
    /// `y = x · wᵀ`, onto what there is; `x` is `[rows, inputs]`, `w` `[outputs, inputs]`.
    pub(crate) fn forth(
        self,
        pool: &ThreadPool,
        (x, rows, inputs): (&[f32], usize, usize),
        weights: &[f32],
        outputs: usize,
        onto: Onto<'_>,
        y: &mut [f32],
    ) {
        match self {
            Self::Single => {
                let weights = PlainRows::F32(weights);
                kernels::gemm_plain(pool, x, rows, inputs, weights, outputs, onto, y);
            }
            Self::BrainFloat => {
                let weights = Bf16Weights::Outputs(weights);
                gemm_bf16(pool, x, rows, inputs, weights, outputs, onto, y);
            }
        }
    }

    /// `dx += dy · w`; `dy` is `[rows, outputs]`, `w` `[outputs, inputs]`.
    pub(crate) fn back(
        self,
        pool: &ThreadPool,
        (dy, rows, outputs): (&[f32], usize, usize),
        weights: &[f32],
        inputs: usize,
        dx: &mut [f32],
    ) {
        match self {
            Self::Single => {
                kernels::gemm_back(pool, dy, rows, outputs, weights, inputs, Onto::Out, dx);
            }
            Self::BrainFloat => {
                let weights = Bf16Weights::Inputs(weights);
                gemm_bf16(pool, dy, rows, outputs, weights, inputs, Onto::Out, dx);
            }
        }
    }
}

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
    /// `scaling · A x`, `[rows, rank]`.
    low: Vec<f32>,
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
    pub(crate) scratch: Scratch,
}

/// Buffers of products, kept from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    weights: Reading,
    inputs: Vec<f32>,
    low: Vec<f32>,
    turned: Vec<f32>,
    sums: Vec<f32>,
    scaled: Vec<f32>,
}

impl Linear {
    /// Writes `[rows, outputs]` to `y`; returns what the way back needs.
    pub(crate) fn forward(
        &self,
        context: &mut Context<'_>,
        parameters: &[Parameter],
        x: &[f32],
        y: &mut [f32],
    ) -> Kept {
        let (inputs, outputs) = (self.frozen.inputs(), self.frozen.outputs());
        let (pool, rows) = (context.pool, x.len() / inputs);
        let precision = context.precision;
        let factors = self.factors.filter(|_| context.has_factors);
        let Scratch { weights, sums, .. } = &mut context.scratch;
        let mut norms = Vec::new();
        if let Some(factors) = factors.filter(|factors| factors.magnitude.is_some()) {
            let weights = self.frozen.read_alone(weights);
            let nothing = Onto::Nothing;
            precision.forth(pool, (x, rows, inputs), weights, outputs, nothing, y);
            let parts = [factors.a, factors.b].map(|at| &parameters[at]);
            norms = magnitude::norms(pool, weights, parts, context.scaling, sums);
        } else {
            let weights = self.frozen.read(pool, precision, weights);
            let bias: Onto<'_> = self.frozen.bias.as_deref().into();
            precision.forth(pool, (x, rows, inputs), weights, outputs, bias, y);
        }
        let Some(Factors {
            a,
            b,
            magnitude,
            rank,
        }) = factors
        else {
            return Kept::default();
        };
        let mut low = vec![0.0; rows * rank];
        let (a, b) = (&parameters[a].values, &parameters[b].values);
        let kept = kept_inputs(
            context.dropout,
            context.first_row,
            self.index,
            x,
            inputs,
            &mut context.scratch.inputs,
        );
        kernels::gemm_plain(
            pool,
            kept,
            rows,
            inputs,
            PlainRows::F32(a),
            rank,
            Onto::Nothing,
            &mut low,
        );
        kernels::scale(context.scaling, &mut low);
        kernels::gemm_plain(
            pool,
            &low,
            rows,
            rank,
            PlainRows::F32(b),
            outputs,
            Onto::Out,
            y,
        );
        let scaled = magnitude.map(|magnitude| {
            let scaled = Scaled::new(pool, &parameters[magnitude], norms, y);
            if let Some(bias) = &self.frozen.bias {
                for_each_row(pool, rows, [&mut *y], |_, [y]| kernels::add(bias, y));
            }
            let buffers = &mut context.scratch.weights;
            if let Some(beneath) = self.frozen.read_beneath(pool, precision, buffers) {
                precision.forth(pool, (x, rows, inputs), beneath, outputs, Onto::Out, y);
            }
            scaled
        });
        Kept { low, scaled }
    }

    /// Adds to `dx` what the loss changes by with the inputs, and to the factors' gradients.
    ///
    /// `x` are the inputs, `kept` is what [`forward`](Self::forward) returned, `dy` is `[rows, outputs]`.
    pub(crate) fn backward(
        &self,
        context: &mut Context<'_>,
        parameters: &mut [Parameter],
        (x, kept): (&[f32], &Kept),
        dy: &[f32],
        dx: &mut [f32],
    ) {
        let (inputs, outputs) = (self.frozen.inputs(), self.frozen.outputs());
        let (pool, rows) = (context.pool, x.len() / inputs);
        let Scratch {
            weights,
            inputs: spare,
            low: dlow,
            turned,
            sums,
            scaled,
        } = &mut context.scratch;
        let precision = context.precision;
        let Kept { low, scaled: kept } = kept;
        let magnitude = self.factors.and_then(|factors| factors.magnitude);
        let dy = if let Some((kept, magnitude)) = kept.as_ref().zip(magnitude) {
            if let Some(beneath) = self.frozen.read_beneath(pool, precision, weights) {
                precision.back(pool, (dy, rows, outputs), beneath, inputs, dx);
            }
            let dy = kept.backward(pool, &mut parameters[magnitude], dy, scaled);
            let weights = self.frozen.read_alone(weights);
            precision.back(pool, (dy, rows, outputs), weights, inputs, dx);
            dy
        } else {
            let weights = self.frozen.read(pool, precision, weights);
            precision.back(pool, (dy, rows, outputs), weights, inputs, dx);
            dy
        };
        let Some(Factors { a, b, rank, .. }) = self.factors else {
            return;
        };
        let dlow = fit(dlow, rows * rank);
        kernels::gemm_back(
            pool,
            dy,
            rows,
            outputs,
            &parameters[b].values,
            rank,
            Onto::Nothing,
            dlow,
        );
        kernels::scale(context.scaling, dlow);
        // dB, turned: as few rows as the rank is are quicker than as many as there are outputs.
        transposed(low, rows, turned);
        let of_b = fit(sums, rank * outputs);
        kernels::gemm_back(
            pool,
            &turned[..rank * rows],
            rank,
            rows,
            dy,
            outputs,
            Onto::Nothing,
            of_b,
        );
        for (output, gradient) in parameters[b].gradient.chunks_exact_mut(rank).enumerate() {
            for (r, gradient) in gradient.iter_mut().enumerate() {
                *gradient += of_b[r * outputs + output];
            }
        }
        let kept = kept_inputs(
            context.dropout,
            context.first_row,
            self.index,
            x,
            inputs,
            spare,
        );
        transposed(dlow, rows, turned);
        let of_a = &mut parameters[a].gradient;
        kernels::gemm_back(
            pool,
            &turned[..rank * rows],
            rank,
            rows,
            kept,
            inputs,
            Onto::Out,
            of_a,
        );
        let a = &parameters[a].values;
        let Some(dropout) = context.dropout else {
            kernels::gemm_back(pool, dlow, rows, rank, a, inputs, Onto::Out, dx);
            return;
        };
        let through = fit(sums, rows * inputs);
        kernels::gemm_back(pool, dlow, rows, rank, a, inputs, Onto::Nothing, through);
        let (first, index) = (context.first_row, self.index);
        for_each_row(pool, rows, [through, dx], |row, [through, dx]| {
            dropout.apply(index, first + row, through);
            kernels::add(through, dx);
        });
    }
}

/// The inputs of the factors.
fn kept_inputs<'a>(
    dropout: Option<Dropout>,
    first_row: usize,
    layer: usize,
    x: &'a [f32],
    width: usize,
    spare: &'a mut Vec<f32>,
) -> &'a [f32] {
    let Some(dropout) = dropout else { return x };
    let spare = fit(spare, x.len());
    spare.copy_from_slice(x);
    for (row, values) in spare.chunks_exact_mut(width).enumerate() {
        dropout.apply(layer, first_row + row, values);
    }
    spare
}
