//! `_native.sentences`.

use pyo3::prelude::*;

/// The sentences of a text, as ranges of its characters, without the white space around them.
#[pyfunction]
fn sentences(py: Python<'_>, text: &str) -> Vec<(usize, usize)> {
    py.detach(|| {
        let (mut byte, mut character) = (0, 0);
        let mut count = |until: usize| {
            character += text[byte..until].chars().count();
            byte = until;
            character
        };
        let found = text_search::sentences(text).into_iter();
        found
            .map(|range| (count(range.start), count(range.end)))
            .collect()
    })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(sentences, module)?)
}
