//! A layer of the base, which is read as it is stored and never written.

use arrow_quant::{Layout, Memory, Tensor, TensorData};
use cpu_inference::{InferenceError, Matrix};
use kernels::{Onto, QuantPanels, ThreadPool};

use crate::buffers::fit;
use crate::error::{Result, TrainingError};
use crate::products::{Precision, Rows, Way};

/// What a card is trained on: a model, and a card beneath the trained one where the model works with it.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// Of the model.
    pub tensors: &'a [Tensor],
    /// Is as little written as the model.
    pub beneath: Option<Beneath<'a>>,
}

/// A card that stays as it is: low-rank factors, norms, rows of the embedding.
#[derive(Debug, Clone, Copy)]
pub struct Beneath<'a> {
    /// Named as a card's tensors.
    pub tensors: &'a [Tensor],
    /// Factor of every product of two factors.
    pub scaling: f32,
    /// Tokens whose rows of the embedding it brings.
    pub row_ids: &'a [u32],
}

/// Weights `[outputs, inputs]`, and a bias where there is one.
#[derive(Debug)]
pub(crate) struct Frozen {
    weight: Tensor,
    /// The same as the kernels read it, where it is quantised in panels.
    matrix: Option<Matrix>,
    pub(crate) bias: Option<Vec<f32>>,
    low: Option<LowRank>,
    /// Rows that stand in the place of the base's, by their number.
    rows: Vec<(usize, Vec<f32>)>,
}

/// Weights `[outputs, inputs]` that a product takes.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a> {
    Plain(&'a [f32]),
    Panels(QuantPanels<'a>),
}

/// Factors of a card beneath, as they are stored.
#[derive(Debug)]
struct LowRank {
    /// `[rank, inputs]`.
    a: Tensor,
    /// `[outputs, rank]`.
    b: Tensor,
    scaling: f32,
}

/// Buffers of weights that are read.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    weights: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
    beneath: Vec<f32>,
}

impl Frozen {
    pub(crate) fn outputs(&self) -> usize {
        self.weight.matrix().0
    }

    pub(crate) fn inputs(&self) -> usize {
        self.weight.matrix().1
    }

    /// The weights, `[outputs, inputs]`, as products of that precision take them, with what a card beneath adds.
    pub(crate) fn operand<'a>(
        &'a self,
        pool: &ThreadPool,
        precision: Precision,
        buffers: &'a mut Reading,
    ) -> Weights<'a> {
        match self.panels(precision).filter(|_| self.low.is_none()) {
            Some(panels) => Weights::Panels(panels),
            None => Weights::Plain(self.read(pool, precision, buffers)),
        }
    }

    /// As [`operand`](Self::operand), of the rows from `start` on, a multiple of 16; without what a card beneath adds,
    /// but for rows.
    pub(crate) fn rows_operand<'a>(
        &'a self,
        precision: Precision,
        (start, count): (usize, usize),
        spare: &'a mut Vec<f32>,
    ) -> Weights<'a> {
        if let Some(panels) = self.panels(precision).filter(|_| self.rows.is_empty()) {
            return Weights::Panels(panels.rows(start, count));
        }
        let out = fit(spare, count * self.inputs());
        self.read_rows(start, out);
        Weights::Plain(out)
    }

    /// The panels, where products of that precision read them as they are.
    fn panels(&self, precision: Precision) -> Option<QuantPanels<'_>> {
        let matrix = self.matrix.as_ref()?;
        matrix
            .panels()
            .filter(|_| precision == Precision::BrainFloat)
    }

    /// The weights, `[outputs, inputs]`, with what a card beneath adds.
    ///
    /// Added up each time they are read: beside the products of a few hundred positions that is little, and
    /// the base need not be held twice.
    pub(crate) fn read<'a>(
        &self,
        pool: &ThreadPool,
        precision: Precision,
        buffers: &'a mut Reading,
    ) -> &'a [f32] {
        let Reading { weights, a, b, .. } = buffers;
        let out = fit(weights, self.weight.num_params());
        self.weight.dequantize_into(out, Memory::Reused);
        if let Some(low) = &self.low {
            low.add(pool, precision, [a, b], out);
        }
        out
    }

    /// The weights, `[outputs, inputs]`, without what a card beneath adds.
    pub(crate) fn read_alone<'a>(&self, buffers: &'a mut Reading) -> &'a [f32] {
        let out = fit(&mut buffers.weights, self.weight.num_params());
        self.weight.dequantize_into(out, Memory::Reused);
        out
    }

    /// What a card beneath adds to the weights, `[outputs, inputs]`.
    pub(crate) fn read_beneath<'a>(
        &self,
        pool: &ThreadPool,
        precision: Precision,
        buffers: &'a mut Reading,
    ) -> Option<&'a [f32]> {
        let low = self.low.as_ref()?;
        let Reading { a, b, beneath, .. } = buffers;
        let out = fit(beneath, self.weight.num_params());
        out.fill(0.0);
        low.add(pool, precision, [a, b], out);
        Some(out)
    }

    /// Rows from `start`, a multiple of 16, as many as fill `out`.
    pub(crate) fn read_rows(&self, start: usize, out: &mut [f32]) {
        self.weight.dequantize_rows(start, out, Memory::Reused);
        let width = self.inputs();
        let end = start + out.len() / width;
        for (row, values) in &self.rows {
            if (start..end).contains(row) {
                out[(row - start) * width..][..width].copy_from_slice(values);
            }
        }
    }
}

impl LowRank {
    /// Adds `scaling · B A` to `out`, `[outputs, inputs]`.
    fn add(
        &self,
        pool: &ThreadPool,
        precision: Precision,
        [first, second]: [&mut Vec<f32>; 2],
        out: &mut [f32],
    ) {
        let Self { a, b, scaling } = self;
        let (rank, inputs) = a.matrix();
        let first = fit(first, a.num_params());
        a.dequantize_into(first, Memory::Reused);
        let second = fit(second, b.num_params());
        b.dequantize_into(second, Memory::Reused);
        kernels::scale(*scaling, second);
        let mut second = Rows::new(pool, precision, second, rank, 0);
        let (first, onto) = (Weights::Plain(first), Onto::Out);
        second.multiply(pool, Way::Back, first, None, inputs, onto, out);
    }
}

/// The base's tensors by name, with those that a card beneath puts in their place.
pub(crate) struct Tensors<'a>(pub(crate) Base<'a>);

impl Tensors<'_> {
    pub(crate) fn find(&self, name: &str) -> Option<&Tensor> {
        let named = |tensors: &[Tensor]| tensors.iter().position(|tensor| tensor.name == name);
        let replaced = self.0.beneath.map(|card| card.tensors);
        let of = |tensors| named(tensors).map(|at| &tensors[at]);
        replaced.and_then(of).or_else(|| of(self.0.tensors))
    }

    /// A tensor of that shape.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<&Tensor> {
        let Some(found) = self.find(name) else {
            let (name, expected) = (name.to_owned(), shape.to_vec());
            return Err(InferenceError::MissingTensor { name, expected }.into());
        };
        if found.shape != shape {
            return Err(InferenceError::TensorShape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                got: found.shape.clone(),
            }
            .into());
        }
        Ok(found)
    }

    /// A table or the weights of a layer.
    pub(crate) fn matrix(&self, name: &str, outputs: usize, inputs: usize) -> Result<Frozen> {
        let weight = self.get(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = format!("{name}.bias");
        let bias = match self.find(&bias) {
            Some(_) => Some(self.get(&bias, &[outputs])?.dequantize()),
            None => None,
        };
        let in_panels =
            matches!(&weight.data, TensorData::Quant(codes) if codes.layout == Layout::Panel16);
        let matrix = in_panels.then(|| Matrix::new(weight, outputs, inputs));
        Ok(Frozen {
            weight: weight.clone(),
            matrix: matrix.transpose()?,
            bias,
            low: self.low(name, outputs, inputs)?,
            rows: self.rows(name, inputs)?,
        })
    }

    fn low(&self, name: &str, outputs: usize, inputs: usize) -> Result<Option<LowRank>> {
        let Some(card) = self.0.beneath else {
            return Ok(None);
        };
        let [a, b] = ["A", "B"].map(|part| format!("{name}.lora_{part}.weight"));
        let Some(first) = self.find(&a) else {
            return Ok(None);
        };
        let rank = first.shape.first().copied().unwrap_or(0);
        Ok(Some(LowRank {
            a: self.get(&a, &[rank, inputs])?.clone(),
            b: self.get(&b, &[outputs, rank])?.clone(),
            scaling: card.scaling,
        }))
    }

    fn rows(&self, name: &str, width: usize) -> Result<Vec<(usize, Vec<f32>)>> {
        let rows = format!("{name}.rows");
        let Some(card) = self.0.beneath.filter(|_| self.find(&rows).is_some()) else {
            return Ok(Vec::new());
        };
        let values = self.get(&rows, &[card.row_ids.len(), width])?.dequantize();
        let numbers = card.row_ids.iter().map(|&id| id as usize);
        let values = values.chunks_exact(width).map(<[f32]>::to_vec);
        Ok(numbers.zip(values).collect())
    }

    /// Refuses a card beneath of which something would be left out.
    pub(crate) fn check_all_used(&self, is_known: impl Fn(&str) -> bool) -> Result<()> {
        let mut names = self.0.beneath.iter().flat_map(|card| card.tensors);
        let strange = names.find(|tensor| !is_known(&tensor.name));
        strange.map_or(Ok(()), |tensor| {
            Err(TrainingError::Unsupported {
                feature: "card beneath",
                got: tensor.name.clone(),
                expected: "factors of the layers of blocks, norms and rows of the embedding",
            })
        })
    }
}
