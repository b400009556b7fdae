//! `_native.HtmlTree`: a parsed page, walked in the order of the document.

use std::panic::{AssertUnwindSafe, catch_unwind};

use html_tree::{Cursor, Event, Limit, Page};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::error::IngestError;

type PyEvent<'py> = (i8, Bound<'py, PyString>, u32, Option<Bound<'py, PyDict>>);

#[pyclass(name = "HtmlTree", module = "ai_os_diffusion._native")]
pub struct PyHtmlTree {
    page: Page,
    cursor: Cursor,
}

#[pymethods]
impl PyHtmlTree {
    #[new]
    fn new(py: Python<'_>, text: &str) -> PyResult<Self> {
        // A fault of the parser is one of this document; it must not end the others.
        let page = py
            .detach(|| catch_unwind(AssertUnwindSafe(|| html_tree::parse(text))))
            .map_err(|_| IngestError::new_err("the HTML parser failed on this page"))?;
        Ok(Self {
            page,
            cursor: Cursor::default(),
        })
    }

    /// The bounds that were met, each with the first line where it was.
    #[getter]
    fn limits(&self) -> Vec<(&'static str, u32)> {
        let named = |limit| match limit {
            Limit::Depth => "depth",
            Limit::Nodes => "nodes",
            Limit::Attributes => "attributes",
        };
        let limits = self.page.limits.iter();
        limits.map(|(limit, line)| (named(*limit), *line)).collect()
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<PyEvent<'py>>> {
        Ok(match self.page.next(&mut self.cursor) {
            None => None,
            Some(Event::Text { text, line }) => Some((0, PyString::new(py, text), line, None)),
            Some(Event::Close) => Some((-1, PyString::intern(py, ""), 0, None)),
            Some(Event::Open {
                name,
                attributes,
                line,
            }) => {
                let values = PyDict::new(py);
                for (name, value) in attributes {
                    values.set_item(name, value)?;
                }
                Some((1, PyString::intern(py, name), line, Some(values)))
            }
        })
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyHtmlTree>()
}
