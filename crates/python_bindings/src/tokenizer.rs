//! `_native.Tokenizer` and `_native.DecodeStream`.

// Arguments of a Python call arrive owned.
#![allow(clippy::needless_pass_by_value)]

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use fast_tokenizer::{DecodeStream, EncodeOptions, Encodings, Side, Tokenizer};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::exceptions::PyUnicodeEncodeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PySequence, PyString};

use crate::error::TokenizerError;

/// Text between two looks at Ctrl-C, in bytes: about a quarter of a second of one core.
const SLICE_BYTES: usize = 1 << 20;

type Ragged<'py> = (Bound<'py, PyArray1<i32>>, Bound<'py, PyArray1<i64>>);
type RaggedSpans<'py> = (
    Bound<'py, PyArray1<i32>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray2<i64>>,
);

type RaggedPairs<'py> = (
    Bound<'py, PyArray1<i32>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<u8>>,
);

#[pyclass(name = "Tokenizer", module = "ai_os_diffusion._native", frozen)]
pub struct PyTokenizer {
    inner: Arc<Tokenizer>,
}

#[pymethods]
impl PyTokenizer {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let inner = py
            .detach(|| Tokenizer::from_file(&path))
            .map_err(|error| TokenizerError::new_err(format!("{}: {error}", path.display())))?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    #[getter]
    fn special_count(&self) -> usize {
        self.inner.special_count()
    }

    #[getter]
    fn special_tokens(&self) -> Vec<(u32, String)> {
        self.inner.special_tokens()
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    fn id_to_token(&self, id: i64) -> Option<String> {
        self.inner.id_to_token(u32::try_from(id).ok()?)
    }

    #[pyo3(signature = (texts, add_special_tokens=true, max_length=None, truncate_left=false, num_threads=0, split_special_tokens=false))]
    #[expect(clippy::too_many_arguments, reason = "settings of one call")]
    fn encode_batch<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyAny>,
        add_special_tokens: bool,
        max_length: Option<usize>,
        truncate_left: bool,
        num_threads: usize,
        split_special_tokens: bool,
    ) -> PyResult<Ragged<'py>> {
        let options = EncodeOptions {
            split_special_tokens,
            ..options(add_special_tokens, max_length, truncate_left, num_threads)
        };
        let encodings = encode_texts(py, &self.inner, &backed_texts(texts)?, &options)?;
        Ok(ragged(py, encodings))
    }

    #[pyo3(signature = (texts, add_special_tokens=true, max_length=None, truncate_left=false, num_threads=0, split_special_tokens=false))]
    #[expect(clippy::too_many_arguments, reason = "settings of one call")]
    fn encode_batch_with_offsets<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyAny>,
        add_special_tokens: bool,
        max_length: Option<usize>,
        truncate_left: bool,
        num_threads: usize,
        split_special_tokens: bool,
    ) -> PyResult<RaggedSpans<'py>> {
        let options = EncodeOptions {
            offsets: true,
            split_special_tokens,
            ..options(add_special_tokens, max_length, truncate_left, num_threads)
        };
        let mut encodings = encode_texts(py, &self.inner, &backed_texts(texts)?, &options)?;
        let spans: Vec<i64> = encodings
            .spans
            .drain(..)
            .flat_map(|(start, end)| [start as i64, end as i64])
            .collect();
        let spans = spans.into_pyarray(py);
        let spans = spans.reshape([spans.len()? / 2, 2])?;
        let (ids, offsets) = ragged(py, encodings);
        Ok((ids, offsets, spans))
    }

    /// Ids, offsets and token types.
    fn encode_pairs<'py>(
        &self,
        py: Python<'py>,
        first: &Bound<'py, PyString>,
        seconds: &Bound<'py, PyAny>,
        max_length: usize,
    ) -> PyResult<RaggedPairs<'py>> {
        let first =
            PyBackedStr::try_from(first.clone()).map_err(|error| surrogate(py, &error, 0))?;
        let seconds = backed_texts(seconds)?;
        let pairs = py
            .detach(|| self.inner.encode_pairs(&first, &seconds, max_length))
            .map_err(|error| tokenizer_error(&error))?;
        let types = pairs.types.into_pyarray(py);
        let (ids, offsets) = ragged(
            py,
            Encodings {
                ids: pairs.ids,
                bounds: pairs.bounds,
                spans: Vec::new(),
            },
        );
        Ok((ids, offsets, types))
    }

    fn count<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let options = EncodeOptions {
            add_special_tokens: false,
            split_special_tokens: true,
            ..EncodeOptions::default()
        };
        let encodings = encode_texts(py, &self.inner, &backed_texts(texts)?, &options)?;
        let counts: Vec<i64> = encodings
            .bounds
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as i64)
            .collect();
        Ok(counts.into_pyarray(py))
    }

    /// `trusted` are ranges in characters.
    fn encode_marked<'py>(
        &self,
        py: Python<'py>,
        text: &Bound<'py, PyString>,
        trusted: Vec<(usize, usize)>,
    ) -> PyResult<Bound<'py, PyArray1<i32>>> {
        let text = PyBackedStr::try_from(text.clone()).map_err(|error| surrogate(py, &error, 0))?;
        let ids = py
            .detach(|| {
                self.inner
                    .encode_marked(&text, &byte_ranges(&text, &trusted))
            })
            .map_err(|error| tokenizer_error(&error))?;
        let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
        Ok(ids.into_pyarray(py))
    }

    #[pyo3(signature = (ids, skip_special_tokens=true))]
    fn decode(
        &self,
        py: Python<'_>,
        ids: PyReadonlyArray1<'_, i64>,
        skip_special_tokens: bool,
    ) -> PyResult<String> {
        let ids = token_ids(ids.as_slice()?)?;
        py.detach(|| self.inner.decode(&ids, skip_special_tokens))
            .map_err(|error| tokenizer_error(&error))
    }

    #[pyo3(signature = (skip_special_tokens=true))]
    fn decode_stream(&self, skip_special_tokens: bool) -> PyDecodeStream {
        PyDecodeStream {
            tokenizer: Arc::clone(&self.inner),
            stream: DecodeStream::new(skip_special_tokens),
        }
    }
}

#[pyclass(name = "DecodeStream", module = "ai_os_diffusion._native")]
pub struct PyDecodeStream {
    tokenizer: Arc<Tokenizer>,
    stream: DecodeStream,
}

#[pymethods]
impl PyDecodeStream {
    fn step(&mut self, id: i64) -> PyResult<String> {
        let id = token_ids(&[id])?[0];
        self.stream
            .step(&self.tokenizer, id)
            .map_err(|error| tokenizer_error(&error))
    }

    fn finish(&mut self) -> PyResult<String> {
        self.stream
            .finish(&self.tokenizer)
            .map_err(|error| tokenizer_error(&error))
    }
}

/// How to encode, as most calls do.
fn options(
    add_special_tokens: bool,
    max_length: Option<usize>,
    truncate_left: bool,
    num_threads: usize,
) -> EncodeOptions {
    EncodeOptions {
        add_special_tokens,
        max_length,
        truncate: if truncate_left {
            Side::Left
        } else {
            Side::Right
        },
        num_threads,
        ..EncodeOptions::default()
    }
}

/// Ranges in characters, in order, as ranges in bytes; what is beyond the text is left out.
fn byte_ranges(text: &str, ranges: &[(usize, usize)]) -> Vec<Range<usize>> {
    let mut starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    let (mut next, mut at) = (0, 0);
    let mut byte_of = |character: usize| {
        while next <= character {
            at = starts.next()?;
            next += 1;
        }
        Some(at)
    };
    let mut bytes = Vec::with_capacity(ranges.len());
    for &(start, end) in ranges {
        if let (Some(start), Some(end)) = (byte_of(start), byte_of(end)) {
            bytes.push(start..end);
        }
    }
    bytes
}

/// Borrows the UTF-8 of a sequence of `str`; a lone surrogate or another type is refused with its place.
fn backed_texts(texts: &Bound<'_, PyAny>) -> PyResult<Vec<PyBackedStr>> {
    let sequence = texts
        .cast::<PySequence>()
        .map_err(|_| wrong_type(texts, "a sequence of str"))?;
    let mut backed = Vec::with_capacity(sequence.len()?);
    for (index, text) in sequence.try_iter()?.enumerate() {
        let text = text?;
        let text = text.cast_into::<PyString>().map_err(|error| {
            wrong_type(&error.into_inner(), &format!("str at position {index}"))
        })?;
        backed.push(
            PyBackedStr::try_from(text).map_err(|error| surrogate(texts.py(), &error, index))?,
        );
    }
    Ok(backed)
}

/// Encodes in slices with the GIL released, so that Ctrl-C is heard between them.
fn encode_texts(
    py: Python<'_>,
    tokenizer: &Tokenizer,
    texts: &[PyBackedStr],
    options: &EncodeOptions,
) -> PyResult<Encodings> {
    let mut all = Encodings {
        ids: Vec::new(),
        bounds: vec![0],
        spans: Vec::new(),
    };
    let mut start = 0;
    while start < texts.len() {
        let end = slice_end(texts, start);
        let part = py
            .detach(|| tokenizer.encode_batch(&texts[start..end], options))
            .map_err(|error| tokenizer_error(&at(error, start)))?;
        all.append(&part);
        py.check_signals()?;
        start = end;
    }
    if texts.is_empty() {
        // Settings are judged even when there is nothing to encode.
        tokenizer
            .encode_batch::<&str>(&[], options)
            .map_err(|error| tokenizer_error(&error))?;
    }
    Ok(all)
}

fn slice_end(texts: &[PyBackedStr], start: usize) -> usize {
    let mut bytes = 0;
    let enough = texts[start..].iter().position(|text| {
        bytes += text.len();
        bytes >= SLICE_BYTES
    });
    enough.map_or(texts.len(), |count| start + count + 1)
}

/// Moves an error's text index from its slice to the batch.
fn at(error: fast_tokenizer::TokenizerError, start: usize) -> fast_tokenizer::TokenizerError {
    match error {
        fast_tokenizer::TokenizerError::Encode { index, detail } => {
            fast_tokenizer::TokenizerError::Encode {
                index: start + index,
                detail,
            }
        }
        other => other,
    }
}

fn ragged(py: Python<'_>, encodings: Encodings) -> Ragged<'_> {
    let ids: Vec<i32> = encodings.ids.into_iter().map(|id| id as i32).collect();
    let offsets: Vec<i64> = encodings
        .bounds
        .into_iter()
        .map(|bound| bound as i64)
        .collect();
    (ids.into_pyarray(py), offsets.into_pyarray(py))
}

fn token_ids(ids: &[i64]) -> PyResult<Vec<u32>> {
    ids.iter()
        .enumerate()
        .map(|(position, &id)| {
            u32::try_from(id).map_err(|_| {
                TokenizerError::new_err(format!(
                    "id {id} at position {position} is not a token id, expected 0 or more"
                ))
            })
        })
        .collect()
}

fn tokenizer_error(error: &fast_tokenizer::TokenizerError) -> PyErr {
    TokenizerError::new_err(error.to_string())
}

fn wrong_type(got: &Bound<'_, PyAny>, expected: &str) -> PyErr {
    let kind = got
        .get_type()
        .name()
        .map_or_else(|_| "another type".to_owned(), |name| name.to_string());
    TokenizerError::new_err(format!("expected {expected}, got {kind}"))
}

fn surrogate(py: Python<'_>, error: &PyErr, index: usize) -> PyErr {
    if !error.is_instance_of::<PyUnicodeEncodeError>(py) {
        return error.clone_ref(py);
    }
    let position = error
        .value(py)
        .getattr("start")
        .and_then(|start| start.extract::<usize>());
    let place = position.map_or_else(
        |_| String::new(),
        |position| format!(" at character {position}"),
    );
    TokenizerError::new_err(format!(
        "text {index} holds a lone surrogate{place}, which is half a character; \
         repair it, for instance with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
    ))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyTokenizer>()?;
    module.add_class::<PyDecodeStream>()
}
