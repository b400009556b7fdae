//! Products with weights, in either precision.

use kernels::{Bf16Rows, Bf16Weights, Onto, PlainRows, ThreadPool, gemm_bf16_rows};

use crate::frozen::Weights;

/// How the products with the base's weights, with factors, and of attention are computed. All else is of single
/// precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// In single precision.
    Single,
    /// Of operands rounded to brain floats, summed in single precision.
    BrainFloat,
}

/// The way through weights `[outputs, inputs]`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    /// `x · wᵀ`.
    Forth,
    /// `x · w`.
    Back,
}

/// Rows that are multiplied, rounded once for all their products.
pub(crate) struct Rows<'a> {
    values: &'a [f32],
    count: usize,
    width: usize,
    rounded: Option<Bf16Rows>,
}

/// A product that is added to another of as many rows: `low`, `[rows, rank]`, with a factor.
#[derive(Clone, Copy)]
pub(crate) struct Beside<'a> {
    pub(crate) low: &'a [f32],
    pub(crate) factor: &'a [f32],
    pub(crate) rank: usize,
}

impl<'a> Rows<'a> {
    /// Of `values`, `[rows, width]`, which are multiplied beside others of at most `rank` columns.
    pub(crate) fn new(
        pool: &ThreadPool,
        precision: Precision,
        values: &'a [f32],
        width: usize,
        rank: usize,
    ) -> Self {
        let rows = values.len() / width;
        let round = || Bf16Rows::new(pool, values, rows, width, rank);
        Self {
            values,
            count: rows,
            width,
            rounded: (precision == Precision::BrainFloat).then(round),
        }
    }

    /// The numbers themselves.
    pub(crate) const fn values(&self) -> &'a [f32] {
        self.values
    }

    /// How many they are.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// Writes their product with `weights`, and that beside it, onto what there is, to `out`, `[rows, n]`.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of a matrix product with their shape"
    )]
    pub(crate) fn multiply(
        &mut self,
        pool: &ThreadPool,
        way: Way,
        weights: Weights<'_>,
        beside: Option<Beside<'_>>,
        n: usize,
        onto: Onto<'_>,
        out: &mut [f32],
    ) {
        if let Some(rounded) = &mut self.rounded {
            let weights = way.rounded(weights);
            if let Some(Beside { low, factor, rank }) = beside {
                rounded.put_beside(pool, low, rank);
                let both = [weights, way.rounded(Weights::Plain(factor))];
                gemm_bf16_rows(pool, rounded, &both, n, onto, out);
            } else {
                gemm_bf16_rows(pool, rounded, &[weights], n, onto, out);
            }
            return;
        }
        let Weights::Plain(weights) = weights else {
            unreachable!("panels are read by products of brain floats alone")
        };
        way.single(
            pool,
            (self.values, self.count, self.width),
            weights,
            n,
            onto,
            out,
        );
        if let Some(Beside { low, factor, rank }) = beside {
            way.single(pool, (low, self.count, rank), factor, n, Onto::Out, out);
        }
    }
}

impl Way {
    fn rounded(self, weights: Weights<'_>) -> Bf16Weights<'_> {
        match (self, weights) {
            (Self::Forth, Weights::Plain(weights)) => Bf16Weights::Outputs(weights),
            (Self::Back, Weights::Plain(weights)) => Bf16Weights::Inputs(weights),
            (Self::Forth, Weights::Panels(panels)) => Bf16Weights::OutputPanels(panels),
            (Self::Back, Weights::Panels(panels)) => Bf16Weights::InputPanels(panels),
        }
    }

    fn single(
        self,
        pool: &ThreadPool,
        (x, rows, width): (&[f32], usize, usize),
        weights: &[f32],
        n: usize,
        onto: Onto<'_>,
        out: &mut [f32],
    ) {
        match self {
            Self::Forth => {
                let weights = PlainRows::F32(weights);
                kernels::gemm_plain(pool, x, rows, width, weights, n, onto, out);
            }
            Self::Back => kernels::gemm_back(pool, x, rows, width, weights, n, onto, out),
        }
    }
}
