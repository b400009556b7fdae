//! Long work that reports its progress and hears Ctrl-C.

use arrow_quant::WeightFileError;
use pyo3::prelude::*;

use super::error::raise;

/// Runs `work` without the GIL. The function it is given reports progress to Python and returns
/// whether to go on; Ctrl-C or an exception of the callback stops the work and is raised.
pub fn watched<T: Send>(
    py: Python,
    progress: Option<Py<PyAny>>,
    work: impl FnOnce(&mut (dyn FnMut(u64) -> bool + Send)) -> Result<T, WeightFileError> + Send,
) -> PyResult<T> {
    let mut raised = None;
    let result = py.detach(|| {
        work(&mut |done| {
            let seen = Python::attach(|py| {
                py.check_signals()?;
                progress
                    .as_ref()
                    .map_or(Ok(()), |progress| progress.call1(py, (done,)).map(drop))
            });
            raised = seen.err();
            raised.is_none()
        })
    });
    match raised {
        Some(error) => Err(error),
        None => result.map_err(raise),
    }
}
