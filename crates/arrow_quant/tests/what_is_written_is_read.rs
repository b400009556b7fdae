//! A written file gives back its tensors, in the map, aligned, under every check.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use arrow_quant::{
    CodeBits, Dtype, Grid, Quantization, TensorData, WeightFile, WeightFileError, WeightWriter,
};

#[test]
fn tensors_come_back_as_aligned_views() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.parquet");
    let tensors = common::tensors();
    common::write(&path, &tensors);
    let file = WeightFile::open(&path).unwrap();
    assert!(file.is_zero_copy());
    assert_eq!(file.schema_version(), 2);
    assert_eq!(
        file.metadata().get("note").map(String::as_str),
        Some("kept")
    );
    assert_eq!(file.size_bytes(), path.metadata().unwrap().len());
    assert_eq!(file.tensors().len(), tensors.len());
    for expected in &tensors {
        let tensor = file.tensor(&expected.name).unwrap();
        assert_eq!(tensor.shape, expected.shape);
        assert_eq!(tensor.parts(), expected.parts());
        for part in tensor.parts().iter().filter(|part| !part.is_empty()) {
            assert_eq!(part.as_ptr() as usize % 64, 0, "{}", tensor.name);
        }
    }
    assert_eq!(file.verify(|_| true).unwrap(), tensors.len());
    assert!(file.tensor("absent").is_none());
}

#[test]
fn views_outlive_the_file_object() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.parquet");
    common::write(&path, &common::tensors());
    let tensor = WeightFile::open(&path)
        .unwrap()
        .tensor("norm")
        .unwrap()
        .clone();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(tensor.dequantize(), common::values(7));
}

#[test]
fn an_unfinished_file_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.parquet");
    let mut writer = WeightWriter::create(&path, 1, BTreeMap::new()).unwrap();
    writer
        .add(&common::plain("norm", &[7], Dtype::F32))
        .unwrap();
    drop(writer);
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.parquet");
    let problem = |error| match error {
        WeightFileError::File { problem, .. } => *problem,
        other => other,
    };
    let mut writer = WeightWriter::create(&path, 1, BTreeMap::new()).unwrap();
    let norm = common::plain("norm", &[7], Dtype::F32);
    writer.add(&norm).unwrap();
    assert!(matches!(
        problem(writer.add(&norm).unwrap_err()),
        WeightFileError::Duplicate { .. }
    ));
    let how = Quantization {
        bits: CodeBits::Int8,
        group_size: 0,
        grid: Grid::Symmetric,
    };
    let quantized = common::quantized("q", 3, 32, how);
    assert!(matches!(
        problem(writer.add(&quantized).unwrap_err()),
        WeightFileError::Unknown { .. }
    ));
    let error = writer
        .add_plain("short", &[2, 2], Dtype::F32, &[0; 15])
        .unwrap_err();
    assert!(
        error.to_string().contains("expected 16 bytes, got 15"),
        "{error}"
    );
    let error = writer
        .add_plain("long", &[usize::MAX, 2], Dtype::F32, &[])
        .unwrap_err();
    assert!(matches!(problem(error), WeightFileError::Shape { .. }));
    assert!(WeightWriter::create(&path, 3, BTreeMap::new()).is_err());
    let own = BTreeMap::from([("aios.tensors".to_owned(), String::new())]);
    assert!(WeightWriter::create(&path, 2, own).is_err());
}

#[test]
fn verification_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.parquet");
    common::write(&path, &common::tensors());
    let file = WeightFile::open(&path).unwrap();
    let error = file.verify(|_| false).unwrap_err();
    assert!(error.to_string().ends_with("cancelled"), "{error}");
}

#[test]
fn quantised_tensors_keep_their_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.parquet");
    common::write(&path, &common::tensors());
    let file = WeightFile::open(&path).unwrap();
    for expected in common::tensors() {
        let found = file.tensor(&expected.name).unwrap();
        assert_eq!(
            found.dequantize(),
            expected.dequantize(),
            "{}",
            expected.name
        );
        if let (TensorData::Quant(a), TensorData::Quant(b)) = (&found.data, &expected.data) {
            assert_eq!(
                (a.bits, a.group_size, a.layout),
                (b.bits, b.group_size, b.layout)
            );
        }
    }
}
