//! Finding a model's tensors by name, with their shapes checked.

use std::cell::RefCell;
use std::collections::HashMap;

use arrow_quant::{Dtype, Tensor, TensorData};

use crate::error::{InferenceError, Result};
use crate::family::NormPlace;
use crate::layout::{Layer, Layout, Table};
use crate::linear::Linear;
use crate::matrix::{Matrix, Numbers};
use crate::side_block::SideSites;
use crate::sites::{LayerSite, Sites, Vector, VectorSite};
use crate::view::View;

/// The tensors of a model by name.
pub(crate) struct Tensors<'a> {
    by_name: HashMap<&'a str, &'a Tensor>,
    /// What was loaded that cards may change.
    sites: RefCell<Sites>,
}

impl<'a> Tensors<'a> {
    pub(crate) fn new(tensors: &'a [Tensor]) -> Self {
        Self {
            by_name: tensors
                .iter()
                .map(|tensor| (tensor.name.as_str(), tensor))
                .collect(),
            sites: RefCell::default(),
        }
    }

    /// What was loaded that cards may change.
    pub(crate) fn into_sites(self, layout: &Layout) -> Sites {
        let family = layout.family;
        let loaded = self.sites.into_inner();
        let numbers = loaded.layers.first().map(|layer| layer.numbers);
        let takes_sides = family.is_decoder && family.norm_place == NormPlace::Before;
        let needed = layout.tensors().into_iter().filter(|spec| spec.is_needed);
        Sites {
            hidden: layout.words.cols,
            rows: format!("{}.rows", layout.words.name),
            takes_rows: family.is_decoder,
            sides: numbers.filter(|_| takes_sides).map(|numbers| SideSites {
                blocks: layout.blocks.iter().map(|one| one.name.clone()).collect(),
                hidden: layout.words.cols,
                parameters: needed
                    .map(|spec| spec.shape.iter().product::<usize>())
                    .sum(),
                numbers,
            }),
            ..loaded
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    fn get(&self, name: &str, expected: &[usize]) -> Result<&'a Tensor> {
        let Some(tensor) = self.by_name.get(name) else {
            return Err(InferenceError::MissingTensor {
                name: name.to_owned(),
                expected: expected.to_vec(),
            });
        };
        if tensor.shape != expected {
            return Err(InferenceError::TensorShape {
                name: name.to_owned(),
                expected: expected.to_vec(),
                got: tensor.shape.clone(),
            });
        }
        Ok(tensor)
    }

    /// A matrix `[rows, cols]`.
    pub(crate) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        Matrix::new(self.get(name, &[rows, cols])?, rows, cols)
    }

    /// A vector `[len]` of plain numbers.
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let tensor = self.get(name, &[len])?;
        let TensorData::Plain { dtype, data } = &tensor.data else {
            return Err(InferenceError::TensorQuantised {
                name: name.to_owned(),
            });
        };
        if data.len() != len * dtype.size_bytes() {
            return Err(InferenceError::TensorBytes {
                name: name.to_owned(),
                what: "bytes",
                expected: len * dtype.size_bytes(),
                got: data.len(),
            });
        }
        let mut values = vec![0.0; len];
        match dtype {
            Dtype::F32 => values.copy_from_slice(View::<f32>::new(data.clone()).as_slice()),
            Dtype::F16 => {
                kernels::f16_to_f32(View::<u16>::new(data.clone()).as_slice(), &mut values);
            }
            Dtype::Bf16 => {
                kernels::bf16_to_f32(View::<u16>::new(data.clone()).as_slice(), &mut values);
            }
        }
        Ok(values)
    }

    /// A vector `[len]` that a card may replace.
    pub(crate) fn replaceable(&self, name: &str, len: usize) -> Result<Vector> {
        let numbers = self.vector(name, len)?;
        Ok(self.site(name, &[len], numbers))
    }

    /// A table that stays as it is.
    pub(crate) fn matrix_of(&self, table: &Table) -> Result<Matrix> {
        self.matrix(&format!("{}.weight", table.name), table.rows, table.cols)
    }

    /// A table, row by row, that a card may replace.
    pub(crate) fn table(&self, table: &Table) -> Result<Vector> {
        let (rows, cols) = (table.rows, table.cols);
        let matrix = self.matrix_of(table)?;
        let mut numbers = vec![0.0; rows * cols];
        for (index, row) in numbers.chunks_exact_mut(cols).enumerate() {
            matrix.row(index, row);
        }
        Ok(self.site(&format!("{}.weight", table.name), &[rows, cols], numbers))
    }

    fn site(&self, name: &str, shape: &[usize], numbers: Vec<f32>) -> Vector {
        let mut sites = self.sites.borrow_mut();
        sites.vectors.push(VectorSite {
            name: name.to_owned(),
            shape: shape.to_vec(),
            base: numbers.clone(),
        });
        Vector::new(numbers, sites.vectors.len() - 1)
    }

    /// Layers that multiply the same rows, each from `{name}.weight` `[outputs, inputs]` and `{name}.bias` `[outputs]`,
    /// if it is there.
    pub(crate) fn linears(&self, layers: &[Layer]) -> Result<Vec<Linear>> {
        let mut loaded = layers
            .iter()
            .map(|layer| self.linear_at(layer))
            .collect::<Result<Vec<_>>>()?;
        let Sites {
            layers: sites,
            inputs,
            ..
        } = &mut *self.sites.borrow_mut();
        let begin = sites.len();
        let found = layers.iter().zip(&loaded);
        sites.extend(found.map(|(layer, own)| LayerSite::of(&layer.name, &own.weight)));
        let own = &sites[begin..];
        let is_shared = own.iter().all(|site| {
            matches!(site.numbers, Numbers::Integers { .. }) && site.numbers == own[0].numbers
        });
        let together = if is_shared { own.len() } else { 1 };
        for (index, layer) in loaded.iter_mut().enumerate() {
            layer.site = begin + index;
            layer.input = inputs.len() + index / together.max(1);
        }
        let firsts = (begin..sites.len()).step_by(together.max(1));
        inputs.extend(firsts.map(|first| first..first + together));
        Ok(loaded)
    }

    /// A layer whose input is its own.
    pub(crate) fn linear(&self, layer: &Layer) -> Result<Linear> {
        Ok(self.linears(std::slice::from_ref(layer))?.swap_remove(0))
    }

    /// A layer whose places are not known yet.
    fn linear_at(&self, layer: &Layer) -> Result<Linear> {
        let Layer {
            ref name,
            outputs,
            inputs,
            needs_bias,
        } = *layer;
        let weight = self.matrix(&format!("{name}.weight"), outputs, inputs)?;
        let bias_name = format!("{name}.bias");
        let bias = if needs_bias || self.contains(&bias_name) {
            Some(self.vector(&bias_name, outputs)?)
        } else {
            None
        };
        Ok(Linear {
            weight,
            bias,
            site: 0,
            input: 0,
        })
    }
}
