//! Keys and values in every form that attention reads.
#![allow(clippy::unwrap_used)]

use half::f16;
use kernels::{KeySource, KeyValues, KvLayout, KvPage, PAGE_KEYS, Rows};

use super::Random;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    Rows,
    Pages,
    HalfPages,
}

/// Sources of random keys and values, `[rows, kv_heads * head_dim]`, whatever their form.
pub struct Stored {
    pub layout: KvLayout,
    pub keys: Vec<Vec<f32>>,
    pub values: Vec<Vec<f32>>,
    forms: Vec<Form>,
    pages: Vec<Vec<Vec<f32>>>,
    halves: Vec<Vec<Vec<u16>>>,
}

impl Stored {
    pub fn random(random: &mut Random, layout: KvLayout, sources: &[(usize, Form)]) -> Self {
        let width = layout.kv_heads * layout.head_dim;
        let mut rows = || -> Vec<Vec<f32>> {
            let one = |&(rows, form): &(usize, Form)| {
                let mut numbers = random.vector(rows * width, 2.0);
                if form == Form::HalfPages {
                    let halve = |x: &mut f32| *x = f16::from_f32(*x).to_f32();
                    numbers.iter_mut().for_each(halve);
                }
                numbers
            };
            sources.iter().map(one).collect()
        };
        let (keys, values) = (rows(), rows());
        let forms = sources.iter().map(|&(_, form)| form).collect();
        Self::new(layout, keys, values, forms)
    }

    /// The same numbers, all as rows.
    pub fn as_rows(&self) -> Self {
        let forms = vec![Form::Rows; self.forms.len()];
        Self::new(self.layout, self.keys.clone(), self.values.clone(), forms)
    }

    fn new(layout: KvLayout, keys: Vec<Vec<f32>>, values: Vec<Vec<f32>>, forms: Vec<Form>) -> Self {
        let width = layout.kv_heads * layout.head_dim;
        let paged = |keys: &Vec<f32>, values: &Vec<f32>| {
            let mut pages = Vec::new();
            for (index, (key, value)) in keys
                .chunks_exact(width)
                .zip(values.chunks_exact(width))
                .enumerate()
            {
                if index % PAGE_KEYS == 0 {
                    // What was never written is never used.
                    pages.push(vec![f32::NAN; layout.len()]);
                }
                let page: &mut Vec<f32> = pages.last_mut().unwrap();
                layout.put(page, index % PAGE_KEYS, key, value, |x| x);
            }
            pages
        };
        let pages: Vec<_> = keys.iter().zip(&values).map(|(k, v)| paged(k, v)).collect();
        let halve = |page: &Vec<f32>| page.iter().map(|&x| f16::from_f32(x).to_bits()).collect();
        let halves = pages
            .iter()
            .map(|pages| pages.iter().map(halve).collect())
            .collect();
        Self {
            layout,
            keys,
            values,
            forms,
            pages,
            halves,
        }
    }
}

impl KeySource for Stored {
    fn get(&self, source: usize, page: usize) -> KeyValues<'_> {
        let width = self.layout.kv_heads * self.layout.head_dim;
        match self.forms[source] {
            Form::Rows => KeyValues::Rows {
                keys: Rows::new(&self.keys[source], width),
                values: Rows::new(&self.values[source], width),
            },
            Form::Pages => KeyValues::Page(KvPage::F32(&self.pages[source][page])),
            Form::HalfPages => KeyValues::Page(KvPage::F16(&self.halves[source][page])),
        }
    }
}
