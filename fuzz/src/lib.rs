//! What the weight file targets share: a sound file to damage, and a reader that must survive.

pub mod store;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::OnceLock;

use arrow_quant::{
    CodeBits, Dtype, Grid, PlainRows, Quantization, Tensor, TensorData, WeightFile, WeightWriter,
    quantize,
};

/// Opens, reads and verifies; errors are welcome.
pub fn read(bytes: &[u8]) {
    let Ok(mut file) = tempfile::NamedTempFile::new() else {
        return;
    };
    if file.write_all(bytes).is_err() {
        return;
    }
    if let Ok(weights) = WeightFile::open(file.path()) {
        for tensor in weights.tensors() {
            assert_eq!(tensor.dequantize().len(), tensor.num_params());
        }
        let _ = weights.verify(|_| true);
    }
}

/// A sound file with a plain and two quantised tensors.
pub fn sound() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| build().expect("a sound file can be written"))
}

fn build() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("weights.parquet");
    let mut writer = WeightWriter::create(&path, 2, BTreeMap::new())?;
    writer.add_plain("norm", &[3], Dtype::F32, &[0; 12])?;
    for (name, bits, group_size, grid) in [
        ("int8", CodeBits::Int8, 0, Grid::Symmetric),
        ("int4", CodeBits::Int4, 32, Grid::Minimum),
    ] {
        let values: Vec<f32> = (0..64).map(|i| i as f32).collect();
        let how = Quantization {
            bits,
            group_size,
            grid,
        };
        let quant = quantize(PlainRows::F32(&values), 2, 32, how, |_| true)?;
        writer.add(&Tensor::new(name, vec![2, 32], TensorData::Quant(quant))?)?;
    }
    writer.finish()?;
    Ok(std::fs::read(&path)?)
}

/// Where the footer of a sound file starts.
pub fn footer_start(file: &[u8]) -> usize {
    let at = file.len() - 8;
    let length = u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]);
    at - length as usize
}

/// Changes single bytes: each three bytes of `edits` are a place and what is added there.
pub fn damage(bytes: &mut [u8], edits: &[u8]) {
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len();
        bytes[at] = bytes[at].wrapping_add(edit[2]);
    }
}
