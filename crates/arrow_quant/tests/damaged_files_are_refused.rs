//! No damage to a file may crash the process, reach memory outside the map, or pass verification.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use arrow_quant::{WeightFile, WeightFileError};

/// Opens and reads everything; the error, if any.
fn read(path: &Path) -> Result<(), WeightFileError> {
    let file = WeightFile::open(path)?;
    for tensor in file.tensors() {
        assert_eq!(tensor.dequantize().len(), tensor.num_params());
    }
    file.verify(|_| true).map(drop)
}

#[test]
fn a_file_cut_at_any_length_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("weights.parquet");
    common::write(&whole, &common::tensors());
    let bytes = fs::read(&whole).unwrap();
    read(&whole).unwrap();
    let cut = folder.path().join("cut.parquet");
    fs::write(&cut, &bytes).unwrap();
    let file = OpenOptions::new().write(true).open(&cut).unwrap();
    for length in (0..bytes.len()).rev() {
        file.set_len(length as u64).unwrap();
        let error = WeightFile::open(&cut).expect_err("a cut file opened");
        assert!(error.to_string().contains("cut.parquet"), "{error}");
    }
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("weights.parquet");
    common::write(&whole, &common::tensors());
    let bytes = fs::read(&whole).unwrap();
    let sound: Vec<_> = common::tensors()
        .iter()
        .map(|tensor| (tensor.name.clone(), tensor.crc32c()))
        .collect();
    let flipped = folder.path().join("flipped.parquet");
    fs::write(&flipped, &bytes).unwrap();
    let mut file = OpenOptions::new().write(true).open(&flipped).unwrap();
    let mut put = |at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    for (at, &byte) in bytes.iter().enumerate() {
        put(at, byte ^ (1 << (at % 8)));
        // What passes verification must hold the very same tensors: the flip hit padding or a page header.
        if read(&flipped).is_ok() {
            let file = WeightFile::open(&flipped).unwrap();
            let found: Vec<_> = file
                .tensors()
                .iter()
                .map(|tensor| (tensor.name.clone(), tensor.crc32c()))
                .collect();
            assert_eq!(found, sound, "byte {at}");
        }
        put(at, byte);
    }
}

#[test]
fn files_of_other_kinds_are_refused_by_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.parquet");
    for (content, expected) in [
        (&b""[..], "magic"),
        (b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0", "magic"),
        (b"PAR1", "truncated"),
        (b"PAR1aaaaaaaaaaaaPAR1", "truncated"),
        (b"PAR1aaaa\x04\0\0\0PAR1", "Parquet"),
    ] {
        fs::write(&path, content).unwrap();
        let error = WeightFile::open(&path).unwrap_err();
        let WeightFileError::File { problem, .. } = error else {
            panic!("{error}")
        };
        let found = match *problem {
            WeightFileError::Magic { .. } => "magic",
            WeightFileError::Truncated { .. } => "truncated",
            WeightFileError::Parquet(_) => "Parquet",
            other => panic!("{other}"),
        };
        assert_eq!(found, expected, "{content:?}");
    }
    assert!(WeightFile::open(folder.path()).is_err());
    assert!(WeightFile::open(folder.path().join("absent")).is_err());
}
