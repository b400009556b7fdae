//! Text encodings as browsers know them: their names, how they are decoded, which one bytes are in.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{DecoderResult, Encoding};
use pyo3::prelude::*;

/// The name of the encoding that a label of the web means, such as "windows-1252" for "latin1".
#[pyfunction]
fn encoding_of_label(label: &str) -> Option<&'static str> {
    Encoding::for_label(label.as_bytes()).map(Encoding::name)
}

/// The encoding that bytes which are not UTF-8 are most likely in.
#[pyfunction]
fn detect_encoding(py: Python<'_>, data: &[u8]) -> &'static str {
    py.detach(|| {
        let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
        detector.feed(data, true);
        detector.guess(None, Utf8Detection::Deny).name()
    })
}

/// The text, and the offsets in bytes of what is malformed, each read as one U+FFFD.
///
/// A byte-order mark is text here. `None` when no encoding has this label.
#[pyfunction]
fn decode_bytes(py: Python<'_>, data: &[u8], label: &str) -> Option<(String, Vec<usize>)> {
    let encoding = Encoding::for_label(label.as_bytes())?;
    Some(py.detach(|| decoded(data, encoding)))
}

fn decoded(data: &[u8], encoding: &'static Encoding) -> (String, Vec<usize>) {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut text = String::with_capacity(data.len() + data.len() / 8 + 16);
    let mut malformed = Vec::new();
    let mut read = 0;
    loop {
        let (result, used) =
            decoder.decode_to_string_without_replacement(&data[read..], &mut text, true);
        read += used;
        match result {
            DecoderResult::InputEmpty => return (text, malformed),
            DecoderResult::OutputFull => text.reserve((data.len() - read).max(64) * 2),
            DecoderResult::Malformed(length, after) => {
                malformed.push(read.saturating_sub(usize::from(length) + usize::from(after)));
                text.push('\u{fffd}');
            }
        }
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(encoding_of_label, module)?)?;
    module.add_function(wrap_pyfunction!(detect_encoding, module)?)?;
    module.add_function(wrap_pyfunction!(decode_bytes, module)?)
}
