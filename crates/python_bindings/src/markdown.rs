//! `_native.blocks_of_markdown`: the blocks of a Markdown document as one array of places.

use std::panic::{AssertUnwindSafe, catch_unwind};

use markdown_blocks::{Blocks, Kind};
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray2};
use pyo3::prelude::*;

use crate::error::IngestError;

const COLUMNS: usize = 5;

type PyBlocks<'py> = (Bound<'py, PyArray2<i64>>, String, usize);

/// Kind, first and last character, first and last line of each block; the titles; how far the text was read.
#[pyfunction]
fn blocks_of_markdown<'py>(
    py: Python<'py>,
    text: &str,
    is_whole: bool,
    apart: usize,
) -> PyResult<PyBlocks<'py>> {
    // A fault of the parser is one of this document; it must not end the others.
    let (places, titles, end) = py
        .detach(|| {
            catch_unwind(AssertUnwindSafe(|| {
                let found = markdown_blocks::read(text, is_whole, apart);
                let (places, end) = in_characters(text, &found);
                (places, found.titles, end)
            }))
        })
        .map_err(|_| IngestError::new_err("the Markdown parser failed on this document"))?;
    Ok((places.into_pyarray(py), titles, end))
}

/// The blocks with places as Python counts them, row by row.
fn in_characters(text: &str, found: &Blocks) -> (Array2<i64>, usize) {
    let mut counted = (0, 0);
    let mut characters = |at: usize| {
        counted = (at, counted.1 + text[counted.0..at].chars().count());
        counted.1
    };
    let mut places = Array2::zeros((found.blocks.len(), COLUMNS));
    for (mut row, block) in places.outer_iter_mut().zip(&found.blocks) {
        row[0] = code(block.kind);
        row[1] = characters(block.start) as i64;
        row[2] = characters(block.end) as i64;
        row[3] = block.line as i64;
        row[4] = block.last_line as i64;
    }
    let end = characters(found.end);
    (places, end)
}

fn code(kind: Kind) -> i64 {
    match kind {
        Kind::Prose => 0,
        Kind::Heading(level) => i64::from(level),
        Kind::Code => 7,
        Kind::Row => 8,
        Kind::Html => 9,
        Kind::Footnote => 10,
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(blocks_of_markdown, module)?)
}
